"""What happens when the usual way is blocked: no policy can be read, config.json can't, or the hook has a defect.

Selectors and bindings are then taken from the profiles' and settings' own files. What they (or an image's own profile
label) identify as FHIR is refused; everything else starts, and is recorded as undetermined where even one of those
files could not be read (or is refused, if the settings say so).
"""

from __future__ import annotations

import posix

from fhir_hook.core import decide, jsonio, paths, record
from fhir_hook.core.decide import Decision
from fhir_hook.core.image import PROFILE_LABEL, Container, Image
from fhir_hook.core.selector import binding_matches, labels_match
from fhir_hook.core.spec import MAX_CONFIG, Spec, SpecError, parse
from fhir_hook.hook import identify, main, native, planning
from fhir_hook.hook.state import State
from fhir_hook.store import containers_storage as storage
from fhir_hook.store import files, log, names
from fhir_hook.store.policy import PolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_SOURCE = 4 << 20
_MARKER = b"overlay-containers/"
# Why it is not known whether an image is FHIR, by what would have been the reason of a refusal.
_UNKNOWN_BY_CAUSE = {"FH103": "FH303", "FH104": "FH303", "FH114": "FH302"}


class _Sources:
    """Selectors and bindings as the uncompiled files have them.

    `complete` is false when there were none, or one that could not be read: an image that none of them identifies may
    be FHIR all the same. `refuse_unknown` and `hide` are the settings undetermined and log.names, as far as they can be
    read.
    """

    __slots__ = ("selectors", "bindings", "complete", "refuse_unknown", "hide")

    def __init__(self) -> None:
        self.selectors: list[dict[str, Any]] = []
        self.bindings: list[dict[str, Any]] = []
        self.complete = True
        self.refuse_unknown = False
        self.hide = False
        profiles = [*self._files(paths.SHIPPED_PROFILES, ".json"), *self._files(paths.LOCAL_PROFILES, ".json")]
        if not profiles:
            self.complete = False
        for path in profiles:
            self._add_profile(path)
        for path in [*self._files(paths.CONFIG, ""), *self._files(paths.CONFIG_DROPINS, ".toml")]:
            self._add_settings(path)

    def _files(self, path: str, ending: str) -> list[str]:
        """The file at `path`, or with an `ending` those of the directory; none where there is nothing."""
        try:
            if not ending:
                posix.lstat(path)
                return [path]
            return [f"{path}/{name}" for name in sorted(posix.listdir(path)) if name.endswith(ending)]
        except FileNotFoundError:
            pass
        except OSError:
            self.complete = False
        return []

    def _add_profile(self, path: str) -> None:
        try:
            selectors = jsonio.parse(files.read_trusted(path, MAX_SOURCE), MAX_SOURCE).get("match") or []
            usable = [selector for selector in selectors if _usable(selector)]
        except (OSError, files.FileError, jsonio.JsonError, AttributeError, TypeError):
            self.complete = False
            return
        self.selectors += usable
        if len(usable) < len(selectors):
            self.complete = False

    def _add_settings(self, path: str) -> None:
        import tomllib

        try:
            settings = tomllib.loads(files.read_trusted(path, MAX_SOURCE).decode("utf-8"))
            self.bindings += [b for b in settings.get("bind", []) if isinstance(b.get("image", b.get("id")), str)]
            self.refuse_unknown = settings.get("undetermined", "refuse" if self.refuse_unknown else "") == "refuse"
            self.hide = settings.get("log", {}).get("names", "hashed" if self.hide else "") == "hashed"
        except (OSError, files.FileError, ValueError, AttributeError, TypeError, RecursionError):
            self.complete = False

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
    container, decision = _decide(config, _id_in(data), {}, error)
    if decision.decision == decide.REFUSED:
        _record(decision, container, "precreate")
        return native.refused(config, container, decision) if config is not None else b""
    if decision.decision == decide.UNDETERMINED:
        _record(decision, container, "precreate")
    return data


def prestart(state: State, error: Exception) -> int:
    """As `precreate`, for a container whose process exists already: the exit code."""
    try:
        config = _config(files.read(f"{state.bundle}/config.json", MAX_CONFIG))
    except (OSError, files.FileError):
        config = None
    container, decision = _decide(config, state.id, state.annotations, error)
    container.id = container.id or state.id
    if decision.decision in (decide.REFUSED, decide.UNDETERMINED):
        _record(decision, container, "prestart")
    if decision.decision != decide.REFUSED:
        return 0
    main.say(planning.refusal(*decision.reasons[0], container))
    return 1


def create(data: bytes, bundle: str, id: str, error: Exception) -> str:
    """As `precreate`, for the shim in front of a runtime: the line that refuses, or "" when the container may start."""
    container, decision = _decide(_config(data), id, {}, error, bundle)
    container.id = container.id or id
    if decision.decision in (decide.REFUSED, decide.UNDETERMINED):
        _record(decision, container, "create")
    return planning.refusal(*decision.reasons[0], container) if decision.decision == decide.REFUSED else ""


def _config(data: bytes) -> Spec | None:
    try:
        return parse(data)
    except SpecError:
        return None


def _decide(
    config: Spec | None, id: str, annotations: dict[str, str], error: Exception, bundle: str = ""
) -> tuple[Container, Decision]:
    code, text = _cause(error)
    sources = _Sources()
    container = _container(config, id, annotations, bundle)
    container.id = container.id or id
    if sources.hide or names.by_policy():
        names.hide(container)
    image = container.image
    claimed = identify.labelled(container.claims) if container.claims else None
    if any(sources.identify(each) for each in (image, claimed) if each is not None):
        return container, Decision(decide.CONFINED, {"by": "fallback"}).refuse(code, text)
    if not container.undetermined and (image is None or sources.complete):
        return container, Decision(decide.IGNORED)
    decision = Decision(decide.UNDETERMINED)
    decision.reasons = [(_UNKNOWN_BY_CAUSE.get(code, code), text)]
    if sources.refuse_unknown:
        decision.refuse("FH112", container.undetermined or text)
    return container, decision


def _cause(error: Exception) -> tuple[str, str]:
    if isinstance(error, PolicyError):
        return error.code, str(error)
    if isinstance(error, SpecError):
        return "FH114", str(error)
    return "FH113", f"{type(error).__name__}: {error}"


def _container(config: Spec | None, id: str, annotations: dict[str, str], bundle: str) -> Container:
    """The container, found by its id in the usual stores when its config can't be read.

    The annotations that the runtime made of it can then still tell that it is FHIR, but not that it is not.
    """
    claims: dict[str, str] = {}
    if config is not None:
        try:
            container = identify.container_of(config, {"bindings": [1]}, bundle)
            if not container.undetermined:
                return container
            claims = container.claims
        except SpecError:
            pass
    for graph in _usual_graph_roots() if storage.is_id(id) else ():
        container = storage.identify_by_id(graph, "overlay", id)
        if container.image is not None:
            storage.describe(storage.Place(graph, "overlay", ""), container.image)
            return container
    image = identify.labelled(annotations) if annotations else None
    container = Container(id=id, image=image, undetermined="its config.json or image store can't be read")
    container.claims = claims
    return container


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
