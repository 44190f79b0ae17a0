"""The container's config.json (OCI runtime-spec 1.3, config.md), as far as the hook looks at it.

`Spec` wraps the parsed document and keeps everything it does not know, so that writing it back loses
nothing. Accessors check types where they look: a document of a wrong shape raises SpecError.
"""

from __future__ import annotations

from fhir_hook.core import jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAX_CONFIG = 256 << 20  # a container must not escape the hook by a config too big to read
CAPABILITY_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
# The members that the hook looks at or writes, with those below them; Go matches names whatever their case.
_CONDITION: dict[str, Any] = dict.fromkeys(("index", "value", "valueTwo", "op"))
_RULE: dict[str, Any] = {**dict.fromkeys(("names", "action", "errnoRet")), "args": _CONDITION}
_SECCOMP: dict[str, Any] = {
    **dict.fromkeys(("defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata")),
    "syscalls": _RULE,
}
_PROCESS: dict[str, Any] = {
    "user": dict.fromkeys(("uid", "gid", "additionalGids")),
    "capabilities": dict.fromkeys(CAPABILITY_SETS),
    "noNewPrivileges": None,
}
_LOOKED_AT: dict[str, Any] = {
    **dict.fromkeys(("mounts", "hooks", "annotations")),
    "process": _PROCESS,
    "root": {"path": None},
    "linux": {"seccomp": _SECCOMP},
}


class SpecError(Exception):
    """config.json is not what runtime-spec describes; str() is one line for people."""


class Spec:
    """One config.json: `document` is the parsed object, `ambiguous` names what two parsers may read differently."""

    __slots__ = ("document", "ambiguous")

    def __init__(self, document: dict[str, Any], ambiguous: tuple[str, ...] = ()) -> None:
        self.document = document
        self.ambiguous = ambiguous

    def member(self, name: str, kind: type, parent: dict[str, Any] | None = None) -> Any:
        """Return member `name` of the document (or of `parent`) as a `kind`, an empty one when absent or null."""
        value = (self.document if parent is None else parent).get(name)
        if value is None:
            return kind()
        if not isinstance(value, kind):
            raise SpecError(f"config.json: {name} is a {type(value).__name__}, not a {kind.__name__}")
        return value

    @property
    def root_path(self) -> str:
        """root.path as written: absolute, or relative to the bundle."""
        path: str = self.member("path", str, self.member("root", dict))
        return path

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations whose values are strings; the specification allows no others."""
        return {k: v for k, v in self.member("annotations", dict).items() if isinstance(v, str)}

    @property
    def other_annotations(self) -> list[dict[str, str]]:
        """What stands below keys that differ from "annotations" by case only, which Go takes for it."""
        found = [v for k, v in self.document.items() if k.lower() == "annotations" and k != "annotations"]
        return [{k: v for k, v in value.items() if isinstance(v, str)} for value in found if isinstance(value, dict)]

    @property
    def mount_sources(self) -> list[str]:
        """The sources of all mounts, in order."""
        mounts = self.member("mounts", list)
        return [m["source"] for m in mounts if isinstance(m, dict) and isinstance(m.get("source"), str)]

    @property
    def process(self) -> dict[str, Any]:
        value: dict[str, Any] = self.member("process", dict)
        return value

    @property
    def linux(self) -> dict[str, Any]:
        value: dict[str, Any] = self.member("linux", dict)
        return value

    @property
    def seccomp(self) -> dict[str, Any] | None:
        """linux.seccomp, or None when the engine asked for no filter."""
        section = self.linux.get("seccomp")
        if section is not None and not isinstance(section, dict):
            raise SpecError("config.json: linux.seccomp is not an object")
        return section

    @property
    def capabilities(self) -> dict[str, list[str]]:
        """process.capabilities: the five sets by name, each a list of CAP_ names; absent sets are empty."""
        given = self.member("capabilities", dict, self.process)
        sets = {}
        for name in CAPABILITY_SETS:
            names = self.member(name, list, given)
            if not all(isinstance(n, str) for n in names):
                raise SpecError(f"config.json: process.capabilities.{name} holds something that is no name")
            sets[name] = list(names)
        return sets

    @property
    def user(self) -> tuple[int, int, tuple[int, ...]]:
        """process.user as (uid, gid, additionalGids), in the container's own ids."""
        user = self.member("user", dict, self.process)
        ids = self.member("additionalGids", list, user)
        return self.member("uid", int, user), self.member("gid", int, user), tuple(i for i in ids if isinstance(i, int))


def parse(data: bytes) -> Spec:
    """Parse the bytes of a config.json; raises SpecError.

    A key that occurs twice, or one that differs from a known one only by case (which Go takes for it), makes
    the Spec ambiguous: it can be read for identification, and a FHIR container with it is refused.
    """
    duplicates = jsonio.Duplicates()
    try:
        document = jsonio.parse(data, MAX_CONFIG, duplicates)
    except jsonio.JsonError as error:
        raise SpecError(f"config.json: {error}") from None
    if not isinstance(document, dict):
        raise SpecError("config.json is not an object")
    return Spec(document, (*duplicates.keys, *_case_variants(document, _LOOKED_AT)))


def _case_variants(value: Any, known: dict[str, Any]) -> Iterator[str]:
    """Keys that are not `known` and that Go takes for one that is (it folds case as Unicode: \u017f is s)."""
    if isinstance(value, list):
        for item in value:
            # A list in a list is nothing that a runtime reads, and could be nested deeper than this can call itself.
            if not isinstance(item, list):
                yield from _case_variants(item, known)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if key in known:
            if known[key] is not None:
                yield from _case_variants(inner, known[key])
        elif key.casefold() in [name.casefold() for name in known]:
            yield key
