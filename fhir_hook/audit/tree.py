"""The log's Merkle tree beside the log: brought up to date from new records only, checked against what it was before.

state.json says how many records are in the tree and where in the log the next one begins. It is replaced after the
hashes are durable, so an interrupted run leaves the state before it, and hashes behind it that nobody reads.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fhir_hook.audit import merkle, scan, tiles
from fhir_hook.store import files, log, segments

_STATE = "state.json"
_LIMIT = 1 << 16
LARGE = 32 << 20
"""So many bytes of log are worth more than one process."""


class TreeError(Exception):
    """The tree can't be brought up to date; str() is one line."""


class LogChanged(TreeError):
    """The log is not what it was when it was put into the tree."""


class State:
    """`size` records with root `root` are in the tree; the next one begins at byte `offset` of the file that begins
    with record `segment`; `prev` is the digest of the last line."""

    __slots__ = ("offset", "prev", "root", "segment", "size")

    def __init__(self, size: int, root: bytes, segment: int, offset: int, prev: str) -> None:
        self.size = size
        self.root = root
        self.segment = segment
        self.offset = offset
        self.prev = prev


EMPTY = State(0, merkle.EMPTY_ROOT, 0, 0, log.FIRST_PREV)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep everybody else from changing the tree, its checkpoints and the keys; makes the directory. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def load(directory: Path) -> State | None:
    """What the tree is; None when there is none, or what is there does not fit together. Raises OSError."""
    try:
        document = json.loads(files.read(str(directory / _STATE), _LIMIT))
        state = _state(document)
        with tiles.Tiles(directory) as stored:
            return state if stored.root(state.size) == state.root else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, files.FileError, tiles.TilesError):
        return None


def _state(document: dict[str, Any]) -> State:
    numbers = [int(document[name]) for name in ("size", "segment", "offset")]
    return State(numbers[0], bytes.fromhex(document["root"]), numbers[1], numbers[2], str(document["prev"]))


def _save(directory: Path, state: State) -> None:
    document = {"size": state.size, "root": state.root.hex(), "segment": state.segment, "offset": state.offset}
    files.replace(str(directory / _STATE), (json.dumps({**document, "prev": state.prev}) + "\n").encode())


class Update:
    """What bringing the tree up to date found: the `state` now, the `records` added, whether it was `rebuilt` from the
    log, and the `problems` of the chain in the new records."""

    def __init__(self, state: State, records: int, rebuilt: bool, problems: list[scan.Problem]) -> None:
        self.state = state
        self.records = records
        self.rebuilt = rebuilt
        self.problems = problems


def update(directory: Path, log_directory: Path) -> Update:
    """Add the log's new records to the tree, or build it anew when there is none that fits together.

    Only records that nobody can take back any more are added. Call it with locked(). Raises LogChanged when the log
    lacks records of the tree or its last one reads otherwise, TreeError, OSError and log.LogError.
    """
    state = load(directory)
    with segments.snapshot(log_directory, durable=True) as parts:
        before = state or EMPTY
        if state is None and parts and parts[0].first:
            raise TreeError(
                f"there is no tree, and the log begins with record {parts[0].first}: "
                "restore the tree, or the older segments"
            )
        return _extend(directory, parts, before, state is None)


def _extend(directory: Path, parts: list[segments.Part], before: State, rebuilt: bool) -> Update:
    position = _position(parts, before)
    left = parts[position:]
    workers = workers_for(sum(part.size for part in left) - before.offset)
    writer = tiles.Writer(directory, before.size)
    chain = Chain(before.size, before.prev)
    state, offset, segment = before, before.offset, before.segment
    try:
        for part, begin, span in scan.spans(left, workers, {0: before.offset}):
            if begin == 0:
                chain.begin(part)
            chain.take(part, span)
            writer.add(span.leaves)
            segment, offset = part.first, begin + span.bytes
        if writer.size > before.size:
            writer.sync()
            files.sync_directory(str(directory))
    finally:
        writer.close()
    if writer.size > before.size or rebuilt:
        with tiles.Tiles(directory) as stored:
            state = State(writer.size, stored.root(writer.size), segment, offset, chain.prev)
        _save(directory, state)
    return Update(state, writer.size - before.size, rebuilt and before.size == 0, chain.problems)


def _position(parts: list[segments.Part], state: State) -> int:
    """Which part goes on where the tree ends; raises LogChanged."""
    if state.size == 0:
        return 0
    for position, part in enumerate(parts):
        if part.first == state.segment:
            if part.size < state.offset:
                raise LogChanged(
                    f"{part.path} has {part.size} bytes of records, it had {state.offset} when {state.size} records "
                    "were put into the tree: the log's end was cut off"
                )
            if segments.line_before(part, state.offset) != state.prev:
                raise LogChanged(f"{part.path}: record {state.size - 1} is not the one that is in the tree")
            return position
    raise LogChanged(
        f"the log lacks the file that begins with record {state.segment}; {state.size} records are in the tree"
    )


def workers_for(size: int) -> int:
    """How many processes are worth it for so many bytes of log."""
    return 1 if size < LARGE else min(4, len(os.sched_getaffinity(0)))


class Chain:
    """Follows seq and prev from span to span, and collects what does not follow."""

    def __init__(self, index: int, prev: str | None) -> None:
        """Begin with record `index`; `prev` is the digest of the line before it, None when that is not known."""
        self.index = self._seq = index
        self.prev = prev or ""
        self.problems: list[scan.Problem] = []
        self.count = 0
        self._line = 1
        self._known = prev is not None

    def begin(self, part: segments.Part) -> None:
        """A new file begins."""
        self._line = 1
        if part.closed and part.first != self.index:
            text = f"the file's name says that it begins with record {part.first}, not {self.index}"
            self._note(part, self.index, 1, "seq", text)

    def take(self, part: segments.Part, span: scan.Span) -> None:
        """The next lines of a file."""
        if span.seq is None:
            self._note(part, self.index, self._line, "unreadable", scan.UNREADABLE)
        elif self._known and span.prev != self.prev:
            self._note(part, self.index, self._line, "chain", scan.BROKEN)
        elif span.seq != self._seq:
            self._note(part, self.index, self._line, "seq", f"its seq is {span.seq}, not {self._seq}")
        for at, kind, text in span.problems:
            if at or span.seq is not None:
                self._note(part, self.index + at, self._line + at, kind, text)
        self.index += span.count
        self._seq = span.next if span.seq is not None or span.assumed else self._seq + span.count
        self._line += span.count
        self.prev, self._known = span.last, True

    def _note(self, part: segments.Part, index: int, line: int, kind: str, text: str) -> None:
        self.count += 1
        if len(self.problems) < scan.MOST_PROBLEMS:
            self.problems.append(scan.Problem(index, str(part.path), line, kind, text))
