"""The engines by name: which file each is configured in, and the change that adds or removes the shim."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from fhir_hook.engines import change, containerd, docker, dropins, imports
from fhir_hook.engines.change import Change, EngineError

DAEMON = Path("/etc/docker/daemon.json")


@dataclasses.dataclass(frozen=True)
class Engine:
    """`config` is the usual file; `restart` what makes the engine read it, `then` how the shim is used."""

    name: str
    config: Path
    restart: str
    then: str


ENGINES = {
    engine.name: engine
    for engine in (
        Engine("docker", DAEMON, "systemctl restart docker", "docker run --runtime fhir-runc ..."),
        Engine("containerd", containerd.CONFIG, "systemctl restart containerd", "a RuntimeClass with this handler"),
        Engine("podman", dropins.PODMAN, "", "podman --runtime fhir-crun run ..."),
        Engine("crio", dropins.CRIO, "systemctl restart crio", "a RuntimeClass with this handler"),
    )
}


def adding(engine: Engine, config: Path, default: bool) -> Change:
    """The change that makes the shim a runtime of an engine. Raises EngineError."""
    text = change.read(config)
    if engine.name == "docker":
        return Change(config, text, docker.added(text, default or docker.use(text) == "default"))
    if engine.name == "containerd":
        path = containerd.place(config, text)
        present, main = (text, None) if path == config else (change.read(path), text)
        others = [(found, document) for found, document in imports.files(config, text) if found != containerd.DROPIN]
        wanted = default or containerd.use(present) == "default"
        return Change(path, present, containerd.added(present, wanted, main, others))
    was = change.kept(config)
    if text is not None and text.strip() and not dropins.ours(text) and (was is None or was[1] != text):
        hint = f"name a file of its own in a drop-in directory, like {engine.config}"
        raise EngineError(f"{config} is not ours, or was edited since, and would be replaced as a whole: {hint}")
    make = dropins.podman if engine.name == "podman" else dropins.crio
    wanted = default or dropins.use(text) == "default"
    return Change(config, text, make(dropins.default_of(engine.name, config) if wanted else ""))


def removing(engine: Engine, config: Path) -> list[Change]:
    """The changes that take the shim out of an engine's configuration again. Raises EngineError."""
    found = []
    for path in _places(engine, config):
        text = change.read(path)
        was = change.kept(path)
        if text is None or not use(engine, path):
            continue
        before = was[0] if was is not None else None
        if was is None or was[1] != text:
            found.append(Change(path, text, _without(engine, path, text, before)))
        elif _how(engine, before):  # our change to a file that had us already, and that somebody had edited
            found.append(Change(path, text, _without(engine, path, before or "", None)))
        else:
            found.append(Change(path, text, before))
    return found


def _places(engine: Engine, config: Path) -> list[Path]:
    if engine.name != "containerd":
        return [config]
    # Another file's undo leaves the drop-in of the usual one alone.
    theirs = config == containerd.CONFIG or containerd.imported(config, change.read(config))
    return [config, containerd.DROPIN] if theirs else [config]


def _without(engine: Engine, path: Path, text: str, before: str | None) -> str | None:
    """A file without what is ours, `before` being what it was; None where nothing is left. Raises EngineError."""
    if engine.name == "docker":
        return docker.removed(text, before)
    if engine.name == "containerd":
        return containerd.removed(text, before)
    if not dropins.ours(text):
        raise EngineError(f"{path} is not ours, or was edited since: {dropins.by_hand(text)}")
    return None


def use(engine: Engine, path: Path) -> str:
    """How the file at `path` uses the shim: "default", "extra" or "". Raises EngineError."""
    return _how(engine, change.read(path))


def _how(engine: Engine, text: str | None) -> str:
    if engine.name == "docker":
        return docker.use(text)
    return containerd.use(text) if engine.name == "containerd" else dropins.use(text)


def uses() -> dict[str, tuple[Path, str]]:
    """Engines whose usual files name the shim: the file and "default" or "extra". Unreadable files count as none."""
    found = {}
    for engine in ENGINES.values():
        for path in (engine.config, *((containerd.DROPIN,) if engine.name == "containerd" else ())):
            try:
                how = use(engine, path)
            except EngineError:
                continue
            if how:
                found[engine.name] = (path, how)
    return found
