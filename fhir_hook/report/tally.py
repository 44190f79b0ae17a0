"""Counting records: how many, from when to when, and which, in bounded memory."""

from __future__ import annotations

from typing import Any

from fhir_hook.audit.selection import Record, text, time_of

MOST_RANGES = 200
MOST_NAMES = 1000
LONGEST_NAMES = 150  # characters of names in one cell


class Tally:
    """`count` records between the times `first` and `last` (as the log writes them, or ""), and where they are:
    `ranges` of seq, at most MOST_RANGES, with `beyond` records behind the last of them."""

    __slots__ = ("beyond", "count", "first", "last", "ranges")

    def __init__(self) -> None:
        self.count = self.beyond = 0
        self.first = self.last = ""
        self.ranges: list[list[int]] = []

    def add(self, record: Record, weight: int = 1) -> None:
        """Count a record, as `weight` things; records come in the order of the log."""
        self.count += weight
        if time_of(record):
            time = text(record, "time")
            self.first = self.first or time
            self.last = time
        seq = record.get("seq")
        if type(seq) is not int or not 0 <= seq < 1 << 63:
            return
        if self.ranges and self.ranges[-1][1] == seq - 1 and not self.beyond:
            self.ranges[-1][1] = seq
        elif len(self.ranges) < MOST_RANGES and not self.beyond:
            self.ranges.append([seq, seq])
        else:
            self.beyond += 1

    def ranges_text(self, most: int = 8) -> str:
        """For people: 3-5, 9, 12 and 40 more."""
        return spans(self.ranges, self.beyond, most)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        document: dict[str, Any] = {"count": self.count, "first": self.first, "last": self.last}
        return {**document, "seq": self.ranges, "seq_beyond": self.beyond}


def spans(ranges: list[list[int]], beyond: int, most: int | None = None, between: str = ", ") -> str:
    """The first `most` ranges as text, and how many records lie in the others and `beyond` them."""
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in ranges[:most]]
    left = beyond + (sum(b - a + 1 for a, b in ranges[most:]) if most else 0)
    return between.join(shown) + (f" and {left:,} more" if left else "")


class Names:
    """Different names in the order in which they came: the first MOST_NAMES, and whether there were `more`."""

    __slots__ = ("found", "more")

    def __init__(self) -> None:
        self.found: dict[str, None] = {}
        self.more = False

    def add(self, name: str) -> None:
        """Add a name, unless it is empty."""
        if name and name not in self.found:
            if len(self.found) < MOST_NAMES:
                self.found[name] = None
            else:
                self.more = True

    @property
    def count(self) -> str:
        """How many: 12, or 'over 1,000'."""
        return f"over {len(self.found):,}" if self.more else f"{len(self.found):,}"

    def first(self, most: int = 3) -> str:
        """For people: a, b, c and 4 more; fewer names where they are long, so that the number is never cut off."""
        named: list[str] = []
        for name in list(self.found)[:most]:
            if named and sum(map(len, named)) + len(name) > LONGEST_NAMES:
                break
            named.append(name if len(name) <= LONGEST_NAMES else f"{name[:LONGEST_NAMES]}\u2026")
        left = len(self.found) - len(named)
        return ", ".join(named) + (f" and {'over ' if self.more else ''}{left:,} more" if left > 0 else "")
