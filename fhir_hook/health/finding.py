"""What a check of this host's health says: one thing that is well, worth knowing, or wrong."""

from __future__ import annotations

import dataclasses

GOOD, NOTE, BAD = "good", "note", "bad"


@dataclasses.dataclass(frozen=True)
class Finding:
    """`check` is a stable name, `seen` one line; `why` it matters and `repair`, a command, where something is wrong.

    `level` is good, note (worth knowing, nothing to repair for certain) or bad (the host is not healthy).
    """

    check: str
    level: str
    seen: str
    why: str = ""
    repair: str = ""


def good(check: str, seen: str) -> Finding:
    return Finding(check, GOOD, seen)


def note(check: str, seen: str, why: str, repair: str = "") -> Finding:
    return Finding(check, NOTE, seen, why, repair)


def bad(check: str, seen: str, why: str, repair: str) -> Finding:
    return Finding(check, BAD, seen, why, repair)
