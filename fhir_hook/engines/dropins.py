"""Podman and CRI-O: a drop-in file of our own each, which is added and removed as a whole."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from fhir_hook.engines import change
from fhir_hook.engines.change import EngineError
from fhir_hook.engines.names import CRUN_NAME, CRUN_PROGRAM, NAME, PROGRAM, replaced

PODMAN = Path("/etc/containers/containers.conf.d/60-fhir-runc.conf")
CRIO = Path("/etc/crio/crio.conf.d/60-fhir-runc.conf")
_SHIMS = {NAME, CRUN_NAME}
_MADE = "# Made by 'fhir-hook engine configure {engine}'; its --undo removes it.\n"


def podman(default: str) -> str:
    """containers.conf(5): both shims as runtimes, with the abilities that Podman knows by a runtime's name.

    `default` is the one that becomes the default runtime, "" for none.
    """
    return (
        _MADE.format(engine="podman")
        + "[engine]\n"
        + (f'runtime = "{default}"\n' if default else "")
        + f'runtime_supports_json = ["crun", "runc", "kata", "runsc", "youki", "krun", "{NAME}", "{CRUN_NAME}"]\n'
        + f'runtime_supports_nocgroups = ["crun", "krun", "{CRUN_NAME}"]\n'
        + f'[engine.runtimes]\n{NAME} = ["{PROGRAM}"]\n{CRUN_NAME} = ["{CRUN_PROGRAM}"]\n'
    )


def crio(default: str) -> str:
    """crio.conf(5): a runtime handler for RuntimeClasses, and `default` as the default one, "" for none."""
    text = _MADE.format(engine="crio") + (f'[crio.runtime]\ndefault_runtime = "{default}"\n' if default else "")
    for name, program in ((NAME, PROGRAM), *(((CRUN_NAME, CRUN_PROGRAM),) if default == CRUN_NAME else ())):
        text += f'[crio.runtime.runtimes.{name}]\nruntime_path = "{program}"\n'
        text += f'runtime_type = "oci"\nruntime_root = "/run/{name.removeprefix("fhir-")}"\n'
    return text


def default_of(engine: str, without: Path) -> str:
    """The shim that stands for the default runtime that an engine has without the file `without`.

    Files are read in the order of containers.conf(5) and crio.conf(5), and the last word counts; one that can't be
    read says nothing. Raises EngineError when the default runtime is neither runc nor crun.
    """
    table, member = (("engine",), "runtime") if engine == "podman" else (("crio", "runtime"), "default_runtime")
    said, where = "", without
    for path in _files(engine):
        try:
            document = {} if path == without else tomllib.loads(change.read(path) or "")
        except (EngineError, tomllib.TOMLDecodeError):
            continue
        runtime = _table(document, *table).get(member)
        if isinstance(runtime, str) and runtime and runtime not in _SHIMS:
            said, where = runtime, path
    kind = said.rpartition("/")[2] or ("crun" if engine == "podman" and _installed("crun") else "runc")
    if kind not in ("runc", "crun"):
        raise EngineError(replaced(f"{where}: {member}", said))
    return f"fhir-{kind}"


def _installed(kind: str) -> bool:
    # Podman's own list of places is longer: those of packages are enough to tell what it prefers.
    return any(os.path.exists(f"{place}/{kind}") for place in ("/usr/bin", "/usr/sbin", "/usr/local/bin"))


def _files(engine: str) -> list[Path]:
    if engine == "crio":
        return [Path("/etc/crio/crio.conf"), *sorted(CRIO.parent.glob("*.conf"))]
    usual = [Path(place, "containers/containers.conf") for place in ("/usr/share", "/etc")]
    return [*usual, *sorted(PODMAN.parent.glob("*.conf"))]


def ours(text: str) -> bool:
    """Whether a file is one that `podman` or `crio` wrote, and nobody edited since."""
    return any(text == make(default) for make in (podman, crio) for default in ("", *_SHIMS))


def use(text: str | None) -> str:
    """How a file of Podman or CRI-O uses the shim, whoever wrote it: "default", "extra" or ""."""
    try:
        document = tomllib.loads(text or "")
    except tomllib.TOMLDecodeError:
        return ""
    engine, crio = _table(document, "engine"), _table(document, "crio", "runtime")
    if any(name in _SHIMS for name in (engine.get("runtime"), crio.get("default_runtime")) if isinstance(name, str)):
        return "default"
    return "extra" if _SHIMS & {*_table(engine, "runtimes"), *_table(crio, "runtimes")} else ""


def by_hand(text: str) -> str:
    """What to take out of a file that is not `ours`, or was edited since, by the numbers of its lines."""
    lines = [str(number) for number, line in enumerate(text.splitlines(), 1) if any(name in line for name in _SHIMS)]
    return f"take out by hand what names {' and '.join(sorted(_SHIMS))} (lines {', '.join(lines)})"


def _table(document: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        document = document.get(name, {})
        if not isinstance(document, dict):
            return {}
    return document
