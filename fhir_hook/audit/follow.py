"""Following the log as it grows: across rotations, and past what is not written whole yet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fhir_hook.core import paths
from fhir_hook.store import log, segments
from fhir_hook.store.log_reader import Entry, chained

_MOST_LINES = 1 << 62


class Follower:
    """Reads the log in the directory `where`, or the one file `where`, from its beginning on, for as long as one likes.

    It holds one file open at a time. A file that was renamed by a rotation is read to its end, then the one that
    follows it, also if several rotations lie between.
    """

    def __init__(self, where: Path) -> None:
        # What is not there yet is a directory that the first record makes, unless it is called as a file of a log.
        directory = where.parent if where.name == paths.LOG_NAME else where
        self._directory = directory if directory.is_dir() or not directory.exists() else None
        self._path = directory / paths.LOG_NAME if self._directory else where
        self._from_start = where.is_dir()
        self._fd = -1
        self._first = -1
        self._offset = self._number = 0
        self._opened = self._path
        self._prev: str | None = log.FIRST_PREV
        self._seq = 0

    def entries(self) -> Iterator[Entry | None]:
        """Yield entries as they come, and None whenever there are no more for now; never ends. Raises OSError."""
        while True:
            if self._fd < 0 and not self._next():
                yield None
                continue
            over = self._superseded()  # asked before the last lines are read: nothing is written to it after that
            yield from self._new_lines()
            if over:
                self.close()
            else:
                yield None

    def close(self) -> None:
        """Close the file that is open."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _next(self) -> bool:
        """Open the file that follows the one that was read last; whether there is one."""
        for first, path in segments.closed(self._directory) if self._directory and self._from_start else []:
            if first > self._first and self._open(path):
                return True
        return self._open(self._path)

    def _open(self, path: Path) -> bool:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        first = segments.first_of(fd)
        if self._first < 0 and first:
            self._prev, self._seq = None, first  # what was before is elsewhere
        if first <= self._first and not os.fstat(fd).st_size:
            os.close(fd)  # just made: its first record is not there yet
            return False
        self._fd, self._first, self._opened = fd, first, path
        self._offset = self._number = 0
        self._from_start = True
        return True

    def _superseded(self) -> bool:
        try:
            return self._opened != self._path or not os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def _new_lines(self) -> Iterator[Entry]:
        """The complete lines behind the last one; bytes without a newline stay to be read."""
        size = os.fstat(self._fd).st_size
        if size < self._offset:
            yield Entry(self._opened, self._number, {}, f"{self._offset - size} bytes that were there are gone")
            self._offset = size
            self._prev = None
        lines = segments.lines_from(self._fd, self._offset, size, _MOST_LINES)
        for entry in chained(self._opened, self._counted(lines), self._prev, self._seq):
            self._number += 1
            entry.number = self._number
            self._prev, self._seq = entry.digest, entry.next
            yield entry

    def _counted(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        for line in lines:
            self._offset += len(line)
            yield line
