"""What is taken of a record that a user sends, who may send anything. Pure.

Nothing of it counts as said by the host: the user is the one that the kernel names, what the host's log says of itself
is left out, and every name and text is bounded. The record's own place in the user's log goes into `from`.
"""

from __future__ import annotations

import re
from typing import Any

from fhir_hook.core import jsonio
from fhir_hook.core.digest import sha256_hex
from fhir_hook.core.record import LONGEST_NAME, MOST_ITEMS, bounded
from fhir_hook.store.log import LONGEST_RECORD

EVENTS = ("decision", "outcome")
"""Others are about the user's log itself: of these only the place is kept."""
_KINDS: dict[str, type] = {
    **dict.fromkeys(("decision", "stage", "path", "policy", "mode", "seen"), str),
    **dict.fromkeys(("container", "image", "identified_by", "seccomp", "capabilities"), dict),
    **dict.fromkeys(("profile", "reasons", "findings"), list),
    **dict.fromkeys(("no_new_privs",), bool),
    **dict.fromkeys(("duration_us",), int),
}
"""All that a decision or an outcome says; what else is in one is left out."""
_NAME = re.compile(r"[a-z][a-z_]{0,31}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DEEPEST = 6
_LARGEST_NUMBER = 1 << 53
_MOST_NAMES = 64
_LONGEST = LONGEST_RECORD - (4 << 10)  # room for what the log adds, here and where denials repeat it


class Refused(Exception):
    """This is no record; str() says why, without anything of what was sent."""


class Taken:
    """A record: `seq`, `prev` and `digest` of its line, and the `fields` that the host's log gets."""

    __slots__ = ("digest", "fields", "prev", "seq")

    def __init__(self, seq: int, prev: str, digest: str, fields: dict[str, Any]) -> None:
        self.seq = seq
        self.prev = prev
        self.digest = digest
        self.fields = fields


def take(line: bytes, uid: int) -> Taken:
    """Read a line of the log of user `uid`, with its newline. Raises Refused."""
    if not line.endswith(b"\n") or b"\n" in line[:-1]:
        raise Refused("not one line")
    try:
        record = jsonio.parse(line, LONGEST_RECORD)
    except jsonio.JsonError:
        raise Refused("not JSON, or too long") from None
    if not isinstance(record, dict):
        raise Refused("not an object")
    seq, prev, event = record.get("seq"), record.get("prev"), record.get("event")
    if type(seq) is not int or not 0 <= seq < _LARGEST_NUMBER:
        raise Refused("without a seq")
    if not isinstance(prev, str) or not _DIGEST.fullmatch(prev):
        raise Refused("without a prev")
    if not isinstance(event, str) or not _NAME.fullmatch(event):
        raise Refused("without an event")
    digest = sha256_hex(line)
    place: dict[str, Any] = {"log": "rootless", "uid": uid, "seq": seq, "prev": prev, "digest": digest}
    time = record.get("time")
    place["time"] = bounded(time, LONGEST_NAME) if isinstance(time, str) else ""
    if event not in EVENTS:
        return Taken(seq, prev, digest, {"event": "collect", "what": "other", "from": {**place, "event": event}})
    if type(record.get("decided_by")) is int:
        place["decided_by"] = record["decided_by"]
    fields = {name: _value(_right(record[name], kind), 1) for name, kind in _KINDS.items() if name in record}
    if len(jsonio.text(fields)) > _LONGEST:
        raise Refused("longer than a record may be")
    return Taken(seq, prev, digest, {"event": event, **fields, "from": place})


def _right(value: Any, kind: type) -> Any:
    """The value, if it is what a record has there: readers of the host's log rely on it. Raises Refused."""
    parts = value if kind is list and isinstance(value, list) else []
    if type(value) is not kind or not all(isinstance(each, dict) for each in parts):
        raise Refused("with a member of another type than records have")
    return value


def _value(value: Any, depth: int) -> Any:
    """The value with every text bounded, and so many members as a record of the host's own has at most."""
    if isinstance(value, str):
        return bounded(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < _LARGEST_NUMBER:
        return value
    if depth < _DEEPEST and isinstance(value, list):
        return [_value(each, depth + 1) for each in value[:_MOST_NAMES]]
    if depth < _DEEPEST and isinstance(value, dict):
        return {bounded(name, LONGEST_NAME): _value(each, depth + 1) for name, each in [*value.items()][:MOST_ITEMS]}
    raise Refused("nested too deep, or with a number that no record has")
