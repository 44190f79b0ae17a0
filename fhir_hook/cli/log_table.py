"""Records as a table for people, written as they come."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fhir_hook.audit.selection import Record, codes_of, is_claim, items, local_time, names_of, part, text
from fhir_hook.cli import log_denials
from fhir_hook.core.record import printable
from fhir_hook.report.changes import described

COLOURS = {"confined": "green", "refused": "red", "exempt": "yellow", "undetermined": "yellow", "ignored": "dim",
           "denial": "magenta"}
CLAIMED = "claimed:"
"""What stands before the word of a user, who may write anything into a log of their own."""
_COLUMNS = ("time", "what", "container", "image", "by", "details")
_WIDEST = {"time": 19, "what": 17, "container": 30, "image": 48, "by": 18}
_ROWS = 500  # that are looked at before the columns' widths are settled
_LEAST_DETAILS = 20
_GAPS = 2 * len(_COLUMNS)
_COMMON = ("decision", "outcome")


class Writer:
    """A table that grows: the first rows settle how wide its columns are."""

    def __init__(self) -> None:
        self._console = Console()
        if not self._console.is_terminal:
            self._console = Console(width=160)
        self._rows: list[list[str]] = []
        self._widths: list[int] = []

    def add(self, record: Record) -> None:
        """Add a record."""
        self._rows.append(row(record))
        if len(self._rows) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        """Print what has been added."""
        if not self._rows:
            return
        first = not self._widths
        if first:
            self._settle()
        table = Table(box=None, pad_edge=False, header_style="bold", show_header=first)
        for name, width in zip(_COLUMNS, self._widths, strict=True):
            table.add_column(name, overflow="fold", no_wrap=name == "time", width=width)
        for cells in self._rows:
            colour = "dim" if cells[1].startswith(CLAIMED) else COLOURS.get(cells[1], "cyan")
            table.add_row(*(Text(cell, style=colour if at == 1 else "") for at, cell in enumerate(cells)))
        self._rows = []
        self._console.print(table)

    def _settle(self) -> None:
        for at, name in enumerate(_COLUMNS[:-1]):
            widest = max(len(name), *(len(cells[at]) for cells in self._rows))
            self._widths.append(min(widest, _WIDEST[name]))
        while self._console.width - sum(self._widths) - _GAPS < _LEAST_DETAILS and max(self._widths[1:]) > 8:
            at = self._widths.index(max(self._widths[1:]), 1)
            self._widths[at] -= 1
        self._widths.append(max(_LEAST_DETAILS, self._console.width - sum(self._widths) - _GAPS))


def row(record: Record) -> list[str]:
    """The cells of a record, without anything that a terminal acts on."""
    what = text(record, "decision") or text(record, "event")
    if record.get("event") == "outcome" and "decision" not in record:
        what = "in force"
    if is_claim(record):
        what = f"{CLAIMED} {what}"
    container, image = part(record, "container"), part(record, "image")
    names = names_of(image)
    by = " ".join(filter(None, (text(record, "path"), text(record, "stage"))))
    return [
        printable(each)
        for each in (
            local(text(record, "time")),
            what,
            text(container, "name") or text(container, "id")[:12],
            names[0] if names else text(image, "id")[:12],
            by,
            details(record),
        )
    ]


def local(time: str) -> str:
    """A record's time in this host's zone, to the second."""
    found = local_time(time)
    return found.strftime("%Y-%m-%d %H:%M:%S") if found else time[:19]


def details(record: Record) -> str:
    """What a record says besides its columns, in one line."""
    parts = [f"user {part(record, 'from').get('uid', 'unknown')} says"] if is_claim(record) else []
    parts += [f"{p.get('name')} {p.get('version')}" for p in items(record, "profile")]
    seccomp, dropped = part(record, "seccomp"), part(record, "capabilities").get("dropped")
    if "allowed" in seccomp:
        parts.append(f"calls {seccomp.get('allowed_before')} -> {seccomp['allowed']}")
    if "filters_after" in seccomp:
        read = "read back" if record.get("seen") == "kernel" else "not read back"
        parts.append(f"filters {seccomp.get('filters_before')} -> {seccomp['filters_after']}, {read}")
    if record.get("seen") == "config":
        parts.append("config.json on disk carries the plan")
    if isinstance(dropped, list) and dropped:
        parts.append(f"{len(dropped)} capabilities dropped")
    parts += [f"{item.get('code')} {item.get('text')}" for item in items(record, "reasons")]
    parts += codes_of({"findings": record.get("findings")})
    if record.get("event") in ("denial", "watch"):
        parts.append(log_denials.described(record))
    elif record.get("event") not in _COMMON:
        parts.append(described(record))
    return "; ".join(parts)
