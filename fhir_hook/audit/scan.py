"""Reading the log line by line for its hashes: leaf hashes, the chain of prev, seq and time, as fast as Python can.

A record is known by how the log's writer begins each line; parsing JSON would take ten times as long as hashing. A line
that begins otherwise is parsed, and reported when it is no record.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from hashlib import sha256

from fhir_hook.audit.merkle import HASH_SIZE, TILE_WIDTH, fold
from fhir_hook.store import log
from fhir_hook.store.segments import Part

BLOCK = 8 << 20
MOST_PROBLEMS = 100
# {"time":"2026-11-21T10:14:07.123456Z","seq":12,"prev":"<64 digits>",
_TIME_AT, _TIME_END, _SEQ_AT = 9, 36, 38
_TIME = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z")
UNREADABLE = "the line is no record"
REMOVED = b'"event":"log","what":"removed","before":'
BROKEN = "its prev is not the digest of the line before: something was changed, added or removed there"


class Problem:
    """Something wrong: the `line` of the file `path` (from 1), the record's place `index` in the log (from 0), and
    what."""

    __slots__ = ("index", "path", "line", "kind", "text")

    def __init__(self, index: int, path: str, line: int, kind: str, text: str) -> None:
        self.index = index
        self.path = path
        self.line = line
        self.kind = kind
        self.text = text


class Span:
    """What was found in a run of lines.

    `leaves`: their leaf hashes, one behind the other; `roots`: of the whole tiles in it when it begins at record
    `assumed`; `seq`, `prev`: what the first line says (None: no record); `last`: digest of the last line; `next`: the
    seq that should follow; `problems`: (line within the span, kind, text); `began`, `ended`: times of first and last
    record; `back`: where the clock was set back; `removed`: the record up to which, as one of the lines says, the log
    was removed.
    """

    __slots__ = (
        *("assumed", "back", "began", "bytes", "count", "ended", "last", "leaves", "next", "prev", "problems"),
        *("removed", "roots", "seq"),
    )

    def __init__(self, assumed: int) -> None:
        self.assumed = assumed
        self.leaves = b""
        self.roots: list[bytes] = []
        self.count = 0
        self.bytes = 0
        self.seq: int | None = None
        self.prev: str | None = None
        self.last = ""
        self.next = assumed
        self.problems: list[tuple[int, str, str]] = []
        self.began = self.ended = b""
        self.back: list[tuple[int, str, str]] = []
        self.removed = 0


def blocks(part: Part, start: int = 0, size: int = BLOCK) -> Iterator[tuple[int, int]]:
    """Cut the complete lines of a part from byte `start` on into ranges of about `size` bytes that end at line ends."""
    with part.opened() as fd:
        while start < part.size:
            end = min(start + size, part.size)
            while end < part.size:
                at = os.pread(fd, log.LONGEST_RECORD + 1, end).find(b"\n")
                if at >= 0:
                    end += at + 1
                    break
                end += log.LONGEST_RECORD + 1
            end = min(end, part.size)
            yield start, end
            start = end


def span(part: Part, start: int, end: int) -> Span:
    """Read the lines between two line ends of a part; raises OSError."""
    with part.opened() as fd:
        data = os.pread(fd, end - start, start)
        while len(data) < end - start:
            more = os.pread(fd, end - start - len(data), start + len(data))
            if not more:
                break
            data += more
    return of_lines(data)


def of_lines(data: bytes) -> Span:
    """The span of complete lines in `data`."""
    lines = _split(data)
    first = lines[0] if lines else b""
    seq, prev = head(first)
    found = Span(seq if seq is not None else _guessed(lines))
    found.seq, found.prev, found.count, found.bytes = seq, prev, len(lines), len(data)
    found.leaves = _chain(found, lines, found.assumed, prev or "")
    if lines:
        found.began, found.ended = first[_TIME_AT:_TIME_END], lines[-1][_TIME_AT:_TIME_END]
    if REMOVED in data:
        found.removed = max(_removed(line) for line in lines if REMOVED in line)
    border = -found.assumed % TILE_WIDTH * HASH_SIZE
    tile = TILE_WIDTH * HASH_SIZE
    found.roots = [fold(found.leaves[at : at + tile]) for at in range(border, len(found.leaves) - tile + 1, tile)]
    return found


def _removed(line: bytes) -> int:
    """Up to which record the log was removed, as a record of its removal says; 0 when it says nothing."""
    try:
        record = json.loads(line)
        return int(record["before"]) if record["event"] == "log" and record["what"] == "removed" else 0
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0


def _guessed(lines: list[bytes]) -> int:
    """The seq that the first line should have, from the first one behind it that is a record."""
    for at, line in enumerate(lines[:MOST_PROBLEMS]):
        seq = head(line)[0]
        if seq is not None:
            return max(0, seq - at)
    return 0


def _split(data: bytes) -> list[bytes]:
    """The lines with their newlines."""
    if b"\r" not in data:  # otherwise splitlines() would cut there too
        return data.splitlines(keepends=True)
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def _chain(found: Span, lines: list[bytes], seq: int, prev: str) -> bytes:
    """The leaf hashes; what does not follow from the line before is noted in `found`. The hot loop of verification."""
    leaves: list[bytes] = []
    leaf, hashed, before = leaves.append, sha256, b""
    for line in lines:
        if not line.startswith(b'"seq":%d,"prev":"%b",' % (seq, prev.encode()), _SEQ_AT):
            seq = _judge(found, len(leaves), line, seq, prev)
        when = line[_TIME_AT:_TIME_END]
        if when < before:
            _clock(found, len(leaves), before, when)
        before = when
        leaf(hashed(b"\x00" + line).digest())
        prev = hashed(line).hexdigest()
        seq += 1
    found.last, found.next = prev, seq
    return b"".join(leaves)


def _judge(found: Span, at: int, line: bytes, seq: int, prev: str) -> int:
    """A line that does not begin as the writer would have begun it: say why, unless it is a record all the same.

    Returns the seq to go on counting from.
    """
    said_seq, said_prev = head(line)
    if len(found.problems) < MOST_PROBLEMS:
        if said_seq is None:
            found.problems.append((at, "unreadable", UNREADABLE))
        elif said_prev != prev:
            found.problems.append((at, "chain", BROKEN))
        elif said_seq != seq:
            found.problems.append((at, "seq", f"its seq is {said_seq}, not {seq}"))
    return seq if said_seq is None else said_seq


def _clock(found: Span, at: int, before: bytes, when: bytes) -> None:
    times = time_of(before), time_of(when)
    if all(times) and len(found.back) < MOST_PROBLEMS:
        found.back.append((at, *times))


def time_of(data: bytes) -> str:
    """What stands where a record's time is, if it is one: a line that somebody has put there may hold anything."""
    return data.decode("ascii") if _TIME.fullmatch(data) else ""


def head(line: bytes) -> tuple[int | None, str | None]:
    """The seq and the prev that a line states; (None, None) when it is no record."""
    try:
        record = json.loads(line.decode("ascii"))
        seq, prev = record["seq"], record["prev"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, None
    if not isinstance(seq, int) or isinstance(seq, bool) or not isinstance(prev, str) or not 0 <= seq < 1 << 62:
        return None, None
    return seq, prev


def spans(parts: list[Part], workers: int, start: dict[int, int] | None = None) -> Iterator[tuple[Part, int, Span]]:
    """Read all parts in order with `workers` processes; yields the part, the byte where the span begins, and the span.

    `start` gives, by position in `parts`, the byte from which on a part is read.
    """
    ranges = (
        (part, begin, end)
        for position, part in enumerate(parts)
        for begin, end in blocks(part, (start or {}).get(position, 0))
    )
    if workers < 2:
        for part, begin, end in ranges:
            yield part, begin, span(part, begin, end)
        return
    yield from _parallel(ranges, workers)


def _parallel(ranges: Iterator[tuple[Part, int, int]], workers: int) -> Iterator[tuple[Part, int, Span]]:
    from collections import deque
    from concurrent.futures import Future, ProcessPoolExecutor
    from multiprocessing import get_context

    waiting: deque[tuple[Part, int, Future[Span]]] = deque()
    # fork: the workers read the open file, whatever its name is by now
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        submit: Callable[[Part, int, int], Future[Span]] = lambda *r: pool.submit(span, *r)  # noqa: E731
        for each in ranges:
            waiting.append((each[0], each[1], submit(*each)))
            if len(waiting) > 2 * workers:
                part, begin, future = waiting.popleft()
                yield part, begin, future.result()
        while waiting:
            part, begin, future = waiting.popleft()
            yield part, begin, future.result()
