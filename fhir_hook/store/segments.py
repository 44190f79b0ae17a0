"""The log's files in order: closed segments, each named by the seq of its first record, then the one that is written
to.

A segment never changes after it was closed. Together the files are one log: seq and prev go on across them.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fhir_hook.core import paths
from fhir_hook.core.digest import sha256_hex
from fhir_hook.store import log

_NAME = re.compile(r"decisions-([0-9]{12})\.jsonl")
_HEAD = 1 << 17


def name_of(first: int) -> str:
    """The name of the closed segment whose first record has seq `first`."""
    return f"decisions-{first:012d}.jsonl"


class Part:
    """One file of a log: `path`, the seq of its `first` record, and the `size` in bytes of its complete lines.

    `torn` is the number of bytes behind them. `fd` is set for the file that was open when the snapshot was made.
    """

    __slots__ = ("path", "first", "size", "torn", "fd", "closed")

    def __init__(self, path: Path, first: int, size: int, torn: int, fd: int, closed: bool) -> None:
        self.path = path
        self.first = first
        self.size = size
        self.torn = torn
        self.fd = fd
        self.closed = closed

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor to pread(2) from."""
        if self.fd >= 0:
            yield self.fd
            return
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)


def closed(directory: Path) -> list[tuple[int, Path]]:
    """The closed segments of a log with the seq of their first records, oldest first."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted((int(match[1]), directory / name) for name in names if (match := _NAME.fullmatch(name)))


@contextmanager
def snapshot(where: Path, durable: bool = False) -> Iterator[list[Part]]:
    """The log in the directory `where`, or the one file `where`, as it is now, whatever is appended or rotated
    meanwhile.

    With `durable` every record that the snapshot holds is on the disk and acknowledged, or torn: nobody takes it back
    any more. Raises OSError; a directory without a log is an empty list.
    """
    path = where / paths.LOG_NAME if where.is_dir() else where
    parts: list[Part] = []
    fd = -1
    try:
        fd = _open(where, path)
        if fd >= 0 and durable:
            _settle(fd, path)
        # Listed after the file was opened: if that is rotated away meanwhile, what follows it is left for next time.
        current = _part(path, -1, fd) if fd >= 0 else None
        for first, segment in closed(where) if where.is_dir() else []:
            later = current is not None and current.first and first > current.first
            if not later and not _same(segment, fd):
                parts.append(_part(segment, first, -1))
        yield [*parts, current] if current else parts
    finally:
        if fd >= 0:
            os.close(fd)


def _open(where: Path, path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        if path == where:
            raise
        return -1


def _same(segment: Path, fd: int) -> bool:
    return fd >= 0 and os.path.samestat(segment.stat(), os.fstat(fd))


def _settle(fd: int, path: Path) -> None:
    """Wait for who is just appending, who may still take the record back, and make what is there durable."""
    log.lock(fd, str(path))
    try:
        os.fdatasync(fd)
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def _part(path: Path, first: int, fd: int) -> Part:
    closed_one = fd < 0
    fd = fd if not closed_one else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        length = os.fstat(fd).st_size
        size = _complete(fd, length)
        if first < 0:
            first = first_of(fd)
    finally:
        if closed_one:
            os.close(fd)
    return Part(path, first, size, length - size, -1 if closed_one else fd, closed_one)


def _complete(fd: int, length: int) -> int:
    """The number of bytes up to the last newline."""
    end = length
    if end and os.pread(fd, 1, end - 1) == b"\n":
        return end
    while end > 0:
        start = max(0, end - _HEAD)
        at = os.pread(fd, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def first_of(fd: int) -> int:
    """The seq of the first line; 0 when it is not to be read, which is where a log begins."""
    line, size = b"", 1 << 12
    while len(line) < _HEAD and b"\n" not in line:
        line += os.pread(fd, size, len(line)) or b"\n"
    try:
        seq = json.loads(line.partition(b"\n")[0])["seq"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return seq if isinstance(seq, int) and seq >= 0 else 0


def line_before(part: Part, end: int) -> str:
    """The SHA-256 of the line that ends at byte `end` of a part."""
    with part.opened() as fd:
        start = end - 1
        while start > 0:
            step = max(0, start - log.LONGEST_RECORD)
            at = os.pread(fd, start - step, step).rfind(b"\n")
            if at >= 0:
                start = step + at + 1
                break
            start = step
        return sha256_hex(os.pread(fd, end - start, start))


def lines_from(fd: int, start: int, end: int, most: int) -> Iterator[bytes]:
    """Up to `most` lines, with their newlines, of the complete lines between two bytes of a file."""
    rest = b""
    while start < end and most > 0:
        data = os.pread(fd, min(_HEAD, end - start), start)
        if not data:
            return
        start += len(data)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines[:most]:
            yield line + b"\n"
        most -= len(lines)
