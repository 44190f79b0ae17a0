"""Reading the decision log: records in order, and where the chain of `prev` does not hold."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fhir_hook.core.digest import sha256_hex
from fhir_hook.store import segments
from fhir_hook.store.log import FIRST_PREV, LONGEST_RECORD


class Entry:
    """One line of the log: its number (from 1) in the file `path`, the record ({} when unreadable), and what is wrong
    with it or ""."""

    __slots__ = ("digest", "next", "number", "path", "problem", "record")

    def __init__(self, path: Path, number: int, record: dict[str, Any], problem: str) -> None:
        self.path = path
        self.number = number
        self.record = record
        self.problem = problem
        self.digest = ""
        self.next = 0


def entries(path: Path) -> Iterator[Entry]:
    """Yield every line of a log, reading it once: of one file, or of all in a directory, oldest first; raises
    OSError."""
    if not path.is_dir():
        with path.open("rb") as lines:
            yield from chained(path, lines, FIRST_PREV, 0)
        return
    prev: str | None = FIRST_PREV
    seq = 0
    with segments.snapshot(path) as parts:
        if not parts:
            raise FileNotFoundError(2, "no log", str(path))
        if parts[0].first and _opens_a_segment(parts[0]):
            prev, seq = None, parts[0].first  # older segments were removed
        for part in parts:
            with part.opened() as fd, os.fdopen(os.dup(fd), "rb") as lines:
                lines.seek(0)
                entry = None
                for entry in chained(part.path, lines, prev, seq):
                    prev, seq = entry.digest, entry.next
                    yield entry


def _opens_a_segment(part: segments.Part) -> bool:
    """Whether the part begins with the record that a rotation wrote; without, what was before it was cut off."""
    with part.opened() as fd:
        line = os.pread(fd, LONGEST_RECORD, 0).partition(b"\n")[0]
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and (record.get("event"), record.get("what")) == ("log", "segment")


def chained(path: Path, lines: Iterable[bytes], prev: str | None, seq: int) -> Iterator[Entry]:
    """Yield lines as entries; the first should carry `seq`, and `prev` unless that is None."""
    for number, line in enumerate(lines, 1):
        entry = _entry(path, number, line, prev, seq)
        prev = entry.digest = sha256_hex(line)
        said = entry.record.get("seq", seq)
        seq = entry.next = said + 1 if isinstance(said, int) else seq + 1
        yield entry


def _entry(path: Path, number: int, line: bytes, prev: str | None, seq: int) -> Entry:
    if not line.endswith(b"\n"):
        return Entry(path, number, {}, "torn: the line has no end")
    try:
        record = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        return Entry(path, number, {}, "not a record")
    if not isinstance(record, dict):
        return Entry(path, number, {}, "not a record")
    if prev is not None and record.get("prev") != prev:
        problem = "its prev is not the digest of the line before: something was changed or removed"
        return Entry(path, number, record, problem)
    if record.get("seq") != seq:
        return Entry(path, number, record, f"its seq is {record.get('seq')}, not {seq}")
    return Entry(path, number, record, "")
