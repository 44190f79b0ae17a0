"""The container's state as a runtime passes it to a hook on stdin (runtime-spec runtime.md, State)."""

from __future__ import annotations

from fhir_hook.core import jsonio, spec
from fhir_hook.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The state repeats config.json's annotations, and a writer may escape a character in six bytes: a container must not
# escape the hook by a state too big to read.
MAX_STATE = 6 * spec.MAX_CONFIG


class StateError(Exception):
    """What came on stdin is no container state; str() is one line."""


class State:
    """`id`, `pid` (0 when the runtime gave none), `bundle` (absolute path), `annotations`."""

    __slots__ = ("id", "pid", "bundle", "annotations")

    def __init__(self, id: str, pid: int, bundle: str, annotations: dict[str, str]) -> None:
        self.id = id
        self.pid = pid
        self.bundle = bundle
        self.annotations = annotations


def read() -> State:
    """Read the state from stdin; raises StateError."""
    try:
        # crun repeats an annotation that config.json has twice.
        value = jsonio.parse(files.read_all(0, MAX_STATE), MAX_STATE, jsonio.Duplicates())
    except (jsonio.JsonError, files.FileError, OSError) as error:
        raise StateError(f"the container's state on stdin can't be read: {error}") from None
    if not isinstance(value, dict):
        raise StateError("the container's state on stdin is not an object")
    annotations = value.get("annotations")
    return State(
        _member(value, "id", str),
        _member(value, "pid", int),
        _member(value, "bundle", str),
        {k: v for k, v in annotations.items() if isinstance(v, str)} if isinstance(annotations, dict) else {},
    )


def _member(value: dict[str, Any], name: str, kind: type) -> Any:
    member = value.get(name)
    return member if type(member) is kind else kind()  # not isinstance(): true is no pid
