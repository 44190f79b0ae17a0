"""Which records of a log differ from those that were signed, by comparing leaf hashes in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from fhir_hook.audit.scan import MOST_PROBLEMS, Problem

Line = tuple[bytes, str, int]
"""A leaf hash, the file that the line is in, and its number there, from 1."""
WINDOW = 4096


class _Ahead:
    """An iterator that can be looked at up to WINDOW items ahead."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self.items: deque[Line] = deque()
        self.fill(1)

    def fill(self, count: int) -> None:
        while len(self.items) < count:
            item = next(self._lines, None)
            if item is None:
                return
            self.items.append(item)

    def pop(self) -> Line:
        item = self.items.popleft()
        self.fill(1)
        return item


def differences(log: Iterator[Line], signed: Iterator[bytes], first: int) -> tuple[list[Problem], int]:
    """What was changed, added, removed or moved, in the order of the log, and how many records that concerns.

    `signed` are the leaf hashes of the records from `first` on, as they were signed. Lines behind the last of them are
    not looked at. At most MOST_PROBLEMS are told apart.
    """
    here, there = _Ahead(log), _Ahead((leaf, "", 0) for leaf in signed)
    found: list[tuple[str, int, str, int, bytes]] = []  # kind, index, file, line, leaf
    index, path, line = first, "", 0
    while there.items and len(found) < 4 * MOST_PROBLEMS:
        if not here.items:
            break
        if here.items[0][0] == there.items[0][0]:
            _, path, line = here.pop()
            there.pop()
            index += 1
            continue
        kind, count = _kind(here, there)
        for _ in range(count):
            leaf, path, line = here.items[0] if here.items else (b"", path, line)
            if kind == "removed":
                found.append((kind, index, path, line, there.items[0][0]))
            else:
                found.append((kind, index, path, line, leaf))
            if kind != "added":
                there.pop()
                index += 1
            if kind != "removed":
                here.pop()
    problems = _told(found)
    missing = _rest(there)
    if missing:
        text = _text("cut off", index, index + missing - 1, 0, 0)
        problems.append(Problem(index, path, line + 1, "truncated", text))
    return problems[:MOST_PROBLEMS], len(found) + missing


def _kind(here: _Ahead, there: _Ahead) -> tuple[str, int]:
    """How the log goes on otherwise than what was signed, and for how many records."""
    here.fill(WINDOW)
    there.fill(WINDOW)
    mine, signed = here.items[0][0], there.items[0][0]
    added = next((at for at, item in enumerate(here.items) if item[0] == signed), 0)
    removed = next((at for at, item in enumerate(there.items) if item[0] == mine), 0)
    if added and (not removed or added <= removed):
        return "added", added
    if removed:
        return "removed", removed
    # Neither appears again: changed, as many as until the two go on alike.
    both = min(len(here.items), len(there.items))
    alike = next((at for at in range(1, both) if here.items[at][0] == there.items[at][0]), 1)
    return "changed", alike


def _told(found: list[tuple[str, int, str, int, bytes]]) -> list[Problem]:
    """Runs of the same kind as one problem each; what was removed here and added there was moved."""
    added = {leaf for kind, _, _, _, leaf in found if kind == "added"}
    removed = {leaf: index for kind, index, _, _, leaf in found if kind == "removed"}
    problems: list[Problem] = []
    last: tuple[str, int, str, int] | None = None
    for kind, index, path, line, leaf in found:
        if kind == "removed" and leaf in added:
            continue  # told where it was put
        if kind == "added" and leaf in removed:
            text = f"record {removed[leaf]} was moved here"
            problems.append(Problem(removed[leaf], path, line, "moved", text))
            last = None
            continue
        expected = (kind, index, path, line - 1) if kind == "added" else (kind, index - 1, path, last[3] if last else 0)
        if last == expected:
            problems[-1].text = _text(kind, problems[-1].index, index, problems[-1].line, line)
        else:
            problems.append(Problem(index, path, line, kind, _text(kind, index, index, line, line)))
        last = (kind, index, path, line)
    return problems


def _text(kind: str, first: int, last: int, line: int, last_line: int) -> str:
    if kind == "added":
        lines = f"lines {line} to {last_line} were" if last_line > line else f"line {line} was"
        return f"{lines} added before record {last}"
    records = f"records {first} to {last} were" if last > first else f"record {first} was"
    return f"{records} {kind}"


def _rest(there: _Ahead) -> int:
    count = len(there.items)
    there.items.clear()
    there.fill(1)
    while there.items:
        count += len(there.items)
        there.items.clear()
        there.fill(WINDOW)
    return count
