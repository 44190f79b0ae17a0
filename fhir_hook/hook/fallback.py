"""What happens when the usual way is blocked: no policy can be read, config.json can't, or the hook has a defect.

Selectors are then taken from the profiles' own files. What they (or an image's own profile label) identify as FHIR
is refused; everything else starts, and is recorded as undetermined where even that could not be read.
"""

from __future__ import annotations

import posix

from fhir_hook.core import decide, jsonio, paths, record
from fhir_hook.core.decide import Decision
from fhir_hook.core.image import PROFILE_LABEL, Container, Image
from fhir_hook.core.selector import binding_matches, labels_match
from fhir_hook.core.spec import Spec, SpecError, parse
from fhir_hook.hook import identify, main, native, planning
from fhir_hook.hook.state import State
from fhir_hook.store import containers_storage as storage
from fhir_hook.store import files, log
from fhir_hook.store.policy import PolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_SOURCE = 4 << 20
_MARKER = b"overlay-containers/"
# Why it is not known whether an image is FHIR, by what would have been the reason of a refusal.
_UNKNOWN_BY_CAUSE = {"FH103": "FH303", "FH104": "FH303", "FH114": "FH302"}


class _Sources:
    """Selectors and bindings as the uncompiled files have them; `readable` is false when there were none."""

    __slots__ = ("selectors", "bindings", "readable")

    def __init__(self) -> None:
        self.selectors: list[dict[str, Any]] = []
        self.bindings: list[dict[str, Any]] = []
        self.readable = False
        for directory in (paths.SHIPPED_PROFILES, paths.LOCAL_PROFILES):
            self._add_profiles(directory)
        self._add_bindings()

    def _add_profiles(self, directory: str) -> None:
        try:
            names = posix.listdir(directory)
        except OSError:
            return
        for name in names:
            if not name.endswith(".json"):
                continue
            try:
                profile = jsonio.parse(files.read_trusted(f"{directory}/{name}", MAX_SOURCE), MAX_SOURCE)
                self.selectors += [s for s in profile.get("match") or [] if _usable(s)]
            except (OSError, files.FileError, jsonio.JsonError, AttributeError, TypeError):
                continue
            self.readable = True

    def _add_bindings(self) -> None:
        import tomllib

        try:
            settings = tomllib.loads(files.read_trusted(paths.CONFIG, MAX_SOURCE).decode("utf-8"))
            self.bindings = [b for b in settings.get("bind", []) if isinstance(b.get("image", b.get("id")), str)]
        except (OSError, files.FileError, ValueError, AttributeError, TypeError):
            return

    def identify(self, image: Image) -> bool:
        """Whether anything says that this image is FHIR."""
        return (
            PROFILE_LABEL in image.labels
            or any(labels_match(selector, image.labels) for selector in self.selectors)
            or any(binding_matches(b, image.id, image.digest, image.names) for b in self.bindings)
        )


def _usable(selector: Any) -> bool:
    labels = selector.get("labels") if isinstance(selector, dict) else None
    if not isinstance(labels, dict):
        return False
    return all(
        isinstance(v, (str, list)) or (isinstance(v, dict) and isinstance(v.get("pattern"), str))
        for v in labels.values()
    )


def precreate(data: bytes, error: Exception) -> bytes:
    """Return the config.json to use although `error` stopped the usual way; empty when no refusal can be put in."""
    config = _config(data)
    container, decision = _decide(config, _id_in(data), error)
    if decision.decision == decide.REFUSED:
        _record(decision, container, "precreate")
        return native.refused(config, container, decision) if config is not None else b""
    if decision.decision == decide.UNDETERMINED:
        _record(decision, container, "precreate")
    return data


def prestart(state: State, error: Exception) -> int:
    """As `precreate`, for a container whose process exists already: the exit code."""
    try:
        config = _config(files.read(f"{state.bundle}/config.json", 256 << 20))
    except (OSError, files.FileError):
        config = None
    if config is None and state.annotations:
        config = Spec({"annotations": state.annotations})
    container, decision = _decide(config, state.id, error)
    container.id = container.id or state.id
    if decision.decision in (decide.REFUSED, decide.UNDETERMINED):
        _record(decision, container, "prestart")
    if decision.decision != decide.REFUSED:
        return 0
    main.say(planning.refusal(*decision.reasons[0], container))
    return 1


def _config(data: bytes) -> Spec | None:
    try:
        return parse(data)
    except SpecError:
        return None


def _decide(config: Spec | None, id: str, error: Exception) -> tuple[Container, Decision]:
    code, text = _cause(error)
    sources = _Sources()
    container = _container(config, id)
    image = container.image
    if image is not None and sources.identify(image):
        return container, Decision(decide.CONFINED, {"by": "fallback"}).refuse(code, text)
    if image is None and not container.undetermined:
        return container, Decision(decide.IGNORED)
    if image is not None and sources.readable:
        return container, Decision(decide.IGNORED)
    decision = Decision(decide.UNDETERMINED)
    decision.reasons = [(_UNKNOWN_BY_CAUSE.get(code, code), text)]
    return container, decision


def _cause(error: Exception) -> tuple[str, str]:
    if isinstance(error, PolicyError):
        return error.code, str(error)
    if isinstance(error, SpecError):
        return "FH114", str(error)
    return "FH113", f"{type(error).__name__}: {error}"


def _container(config: Spec | None, id: str) -> Container:
    """The container, found by its id in the usual stores when its config can't be read."""
    if config is not None:
        try:
            container = identify.container_of(config, {"bindings": [1]})
            if not container.undetermined:
                return container
        except SpecError:
            pass
    for graph in _usual_graph_roots() if storage.is_id(id) else ():
        container = storage.identify_by_id(graph, "overlay", id)
        if container.image is not None:
            return container
    return Container(id=id, undetermined="its config.json and image store can't be read")


def _usual_graph_roots() -> list[str]:
    roots = ["/var/lib/containers/storage"]
    home = log.directory().removesuffix(f"/{paths.USER_STATE}")
    if home != paths.LOG_DIRECTORY:
        roots.insert(0, f"{home}/.local/share/containers/storage")
    return roots


def _id_in(data: bytes) -> str:
    """The container's id as mount sources of an engine's config show it, for a config that can't be parsed."""
    at = data.find(_MARKER)
    start = at + len(_MARKER)
    id = data[start : start + 64].decode("ascii", "replace") if at >= 0 else ""
    return id if storage.is_id(id) else ""


def _record(decision: Decision, container: Container, stage: str) -> None:
    try:
        log.append(record.decision(decision, container, stage, "", ""))
    except log.LogError as error:
        main.say(f"fhir-hook: not in the log: {error}")
