"""How large and old a segment of the log becomes, how long it is kept, and which segments an archive still lacks."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from pathlib import Path

from fhir_hook.audit.places import Places
from fhir_hook.core import paths
from fhir_hook.store import files, policy, segments

SEGMENT_SIZE, SEGMENT_AGE = "64M", "30d"
KEEP = "6y"
"""45 CFR 164.316(b)(2)(i) asks for six years."""
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_AGES = {"h": 3600, "d": 86_400, "w": 604_800, "y": 31_557_600}
_LIMIT = 1 << 14


def size_of(text: str) -> int:
    """Bytes from 500K, 64M, 1G; raises ValueError."""
    match = re.fullmatch(r"(\d{1,12})([KMG]?)", text)
    if not match:
        raise ValueError(f"{text!r} is no size: write 64M")
    return int(match[1]) * _SIZES[match[2]]


def age_of(text: str) -> float:
    """Seconds from 12h, 30d, 6y; raises ValueError."""
    match = re.fullmatch(r"(\d{1,6})([hdwy])", text)
    if not match:
        raise ValueError(f"{text!r} is no age: write 30d or 6y")
    return int(match[1]) * _AGES[match[2]]


def setting(name: str, default: str) -> str:
    """The setting `name` of the policy in force, segment_size, segment_age or keep; the default without a policy."""
    try:
        return str(policy.load_index().document["settings"].get(name, default)).strip()
    except policy.PolicyError:
        return default


def archived(places: Places, target: Path, records: int) -> None:
    """Note where the log was archived last, and how many records were; raises OSError."""
    said = {"to": os.path.abspath(target), "records": records}
    files.replace(str(_note(places)), (json.dumps(said) + "\n").encode())


def _note(places: Places) -> Path:
    return places.tree.parent / "archived.json"


def _current(places: Places) -> int:
    """The seq of the first record of the file that is written to."""
    try:
        fd = os.open(places.log / paths.LOG_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return 0
    try:
        return segments.first_of(fd)
    finally:
        os.close(fd)


class Due:
    """What is to be done: the closed segments that no archive has (`missing`), those old enough to go (`old`), by
    name; `to` is the archive, "" when there is none."""

    def __init__(self, missing: list[str], old: list[str], to: str) -> None:
        self.missing = missing
        self.old = old
        self.to = to


def due(places: Places, keep: float) -> Due:
    """What is due of a log that is kept for `keep` seconds; raises OSError."""
    to, records = "", 0
    with contextlib.suppress(OSError, files.FileError, ValueError, KeyError, TypeError, RecursionError):
        noted = json.loads(files.read(str(_note(places)), _LIMIT))
        to, records = str(noted["to"]), int(noted["records"])
    missing: list[str] = []
    old: list[str] = []
    closed = segments.closed(places.log)
    for (_, path), following in zip(closed, [*(first for first, _ in closed[1:]), _current(places)], strict=False):
        if following >= records:  # what an archive has of it may be the file that was written to
            missing.append(path.name)
        elif path.stat().st_mtime < time.time() - keep:  # its last record was written then, or it was restored
            old.append(path.name)
    return Due(missing, old, to)
