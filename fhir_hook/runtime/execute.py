"""exec: a process that joins a confined container gets no capability that the container has lost.

The filter comes with what the runtime saved of the container; capabilities and no_new_privs come from the engine's
process file, which Docker, containerd and CRI-O fill from their own records of the container.
"""

from __future__ import annotations

import posix

from fhir_hook.core import paths
from fhir_hook.runtime.arguments import CRUN, Call
from fhir_hook.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_SAVED = 256 << 20
MAX_PROCESS = 64 << 20
_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
_FOLDED = frozenset(("capabilities", "nonewprivileges", *_SETS))


class _Held:
    """What the container of an exec has: its five capability sets, and whether no_new_privs is set."""

    __slots__ = ("sets", "no_new_privs")

    def __init__(self, sets: Any, no_new_privs: Any) -> None:
        # runc's state.json has the names of Go's fields, Bounding ...
        given = {key.lower(): value for key, value in sets.items()} if isinstance(sets, dict) else {}
        self.sets = {name: frozenset(given.get(name) or ()) for name in _SETS}
        self.no_new_privs = no_new_privs is True


def run(call: Call) -> str:
    """Edit the process file of `call` when its container is confined; returns the line that refuses, or ""."""
    try:
        data = files.read(_saved(call), MAX_SAVED)
    except (OSError, files.FileError, ValueError):
        return ""  # no such container: the runtime says so
    if paths.HOOK.encode() not in data:
        return ""
    try:
        held = _held(call.kind, data)
        # In complain mode no_new_privs is not set, and nothing is taken away.
        if held is not None and held.no_new_privs:
            _tighten(call.process, held)
    except Exception as error:  # noqa: BLE001 - known to be confined: a defect must not give it capabilities back
        from fhir_hook.core.image import Container
        from fhir_hook.hook import planning

        return planning.refusal("FH115", f"exec: {call.process}: {error}", Container(id=call.id))
    return ""


def _saved(call: Call) -> str:
    """The file in which the runtime keeps the container's config (runc: state.json, crun: config.json)."""
    root = call.root or _default_root(call.kind)
    if "/" in call.id or call.id in ("", ".", ".."):
        raise ValueError(call.id)
    return f"{root}/{call.id}/{'config.json' if call.kind == CRUN else 'state.json'}"


def _default_root(kind: str) -> str:
    runtime = posix.environ.get(b"XDG_RUNTIME_DIR", b"")
    if posix.geteuid() != 0 and runtime:
        return f"{runtime.decode('utf-8', 'surrogateescape')}/{kind}"
    return f"/run/{kind}"


def _held(kind: str, data: bytes) -> _Held | None:
    from fhir_hook.core import jsonio
    from fhir_hook.hook import native

    document = jsonio.parse(data, MAX_SAVED)
    config = document if kind == CRUN else document["config"]
    hooks = config.get("hooks") or config.get("Hooks")  # runc's has the name of Go's field
    entries = hooks.get("createRuntime") if isinstance(hooks, dict) else None
    if not any(native.is_gate(entry) for entry in entries or ()):
        return None
    if kind == CRUN:
        process = config["process"]
        return _Held(process.get("capabilities"), process.get("noNewPrivileges"))
    return _Held(config.get("capabilities"), config.get("no_new_privileges"))


def _tighten(path: str, held: _Held) -> None:
    from fhir_hook.core import jsonio
    from fhir_hook.runtime import create

    path = create.absolute(path)
    data, status = create.read(path, MAX_PROCESS)
    process = jsonio.parse(data, MAX_PROCESS)
    edited = {**process, "noNewPrivileges": True}
    asked = process.get("capabilities")
    if asked is not None:  # without it a process gets what the runtime saved of the container, which is reduced
        edited["capabilities"] = {**asked, **{name: _left(asked.get(name), held.sets[name]) for name in _SETS}}
    for key in (*edited, *(asked or ())):
        # As Go folds case: \u017f is s.
        if key not in ("capabilities", "noNewPrivileges", *_SETS) and key.casefold() in _FOLDED:
            raise ValueError(f"two parsers may read {key!r} differently")
    if edited != process:
        create.replace(path, jsonio.text(edited).encode("ascii"), status)


def _left(asked: Any, held: frozenset[str]) -> list[str]:
    """What of a set of capabilities stays; raises ValueError when it is no list of names."""
    if asked is None:
        return []
    if not isinstance(asked, list) or not all(isinstance(one, str) for one in asked):
        raise ValueError("a set of capabilities is no list of names")
    return [one for one in asked if one in held]
