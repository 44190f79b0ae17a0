"""Reading the decision log: records in order, and where the chain of `prev` does not hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fhir_hook.core.digest import sha256_hex
from fhir_hook.store.log import FIRST_PREV


class Entry:
    """One line of the log: its number (from 1), the record ({} when unreadable), and what is wrong with it or ""."""

    __slots__ = ("number", "record", "problem")

    def __init__(self, number: int, record: dict[str, Any], problem: str) -> None:
        self.number = number
        self.record = record
        self.problem = problem


def entries(path: Path) -> Iterator[Entry]:
    """Yield every line of the log at `path`, reading it once; raises OSError."""
    prev, seq = FIRST_PREV, 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            entry = _entry(number, line, prev, seq)
            prev = sha256_hex(line)
            seq = entry.record.get("seq", seq) + 1 if isinstance(entry.record.get("seq", seq), int) else seq + 1
            yield entry


def _entry(number: int, line: bytes, prev: str, seq: int) -> Entry:
    if not line.endswith(b"\n"):
        return Entry(number, {}, "torn: the line has no end")
    try:
        record = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        return Entry(number, {}, "not a record")
    if not isinstance(record, dict):
        return Entry(number, {}, "not a record")
    if record.get("prev") != prev:
        return Entry(number, record, "its prev is not the digest of the line before: something was changed or removed")
    if record.get("seq") != seq:
        return Entry(number, record, f"its seq is {record.get('seq')}, not {seq}")
    return Entry(number, record, "")
