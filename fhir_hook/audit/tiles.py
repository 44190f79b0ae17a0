"""The tree's hashes on disk: the tiles of C2SP tlog-tiles, those of one level one behind the other in a file.

`level0` holds the leaf hashes, `level1` the roots of the complete tiles of 256 of them, `level2` those of 256 of these,
and so on: tile N of level L is the 8,192 bytes from N * 8192 on in `levelL`. A file may hold more than the tree's size
says (what an interrupted run wrote); that is never read, and written over by the next run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fhir_hook.audit import merkle
from fhir_hook.audit.merkle import HASH_SIZE, TILE_HEIGHT, TILE_WIDTH

TILE_BYTES = TILE_WIDTH * HASH_SIZE
_LEVELS = 8


class TilesError(Exception):
    """The stored hashes can't be used; str() is one line."""


class Tiles:
    """The tiles in a directory. `read_bytes` counts what was read from them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fds: dict[int, int] = {}
        self._tile: tuple[tuple[int, int, int], bytes] = ((-1, -1, -1), b"")
        self.read_bytes = 0

    def close(self) -> None:
        """Close the files."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def __enter__(self) -> Tiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, level: int, start: int, count: int) -> bytes:
        """`count` hashes of a level from the index `start` on; raises TilesError when they are not there."""
        try:
            data = os.pread(self._fd(level), count * HASH_SIZE, start * HASH_SIZE)
        except OSError as error:
            raise TilesError(f"{self._directory}/level{level}: {error.strerror}") from None
        self.read_bytes += len(data)
        if len(data) != count * HASH_SIZE:
            raise TilesError(f"{self._directory}/level{level} ends before hash {start + count}")
        return data

    def _fd(self, level: int) -> int:
        if level not in self._fds:
            self._fds[level] = os.open(self._directory / f"level{level}", os.O_RDONLY | os.O_CLOEXEC)
        return self._fds[level]

    def subtree(self, height: int, index: int) -> bytes:
        """The hash of a complete subtree, as merkle.Subtree wants it."""
        level, above = divmod(height, TILE_HEIGHT)
        return merkle.fold(self.read(level, index << above, 1 << above))

    def root(self, size: int) -> bytes:
        """The root that the tree had when it was `size` leaves large; raises TilesError."""
        return merkle.range_hash(self.subtree, 0, size)

    def frontier(self, size: int) -> merkle.Frontier:
        """What it takes to go on from a tree of `size` leaves; raises TilesError."""
        whole = size // TILE_WIDTH * TILE_WIDTH
        peaks = [(height, self.subtree(height, index)) for height, index in merkle.complete_subtrees(0, whole)]
        rest = self.read(0, whole, size - whole) if size > whole else b""
        return merkle.Frontier(peaks, size, rest)

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """The leaf hashes from `start` up to `end`, one by one; raises TilesError."""
        for at in range(start, end, 8 * TILE_WIDTH):
            block = self.read(0, at, min(end - at, 8 * TILE_WIDTH))
            for place in range(0, len(block), HASH_SIZE):
                yield block[place : place + HASH_SIZE]


class Writer:
    """Adds leaves to the tiles in `directory`, behind the `size` leaves that count. What it wrote is durable after
    sync()."""

    def __init__(self, directory: Path, size: int) -> None:
        self.size = size
        self._directory = directory
        self._fds: list[int] = []
        self._tails: list[bytes] = []
        for level in range(_LEVELS):
            count = size >> (TILE_HEIGHT * level)
            if level and not count:
                break
            self._open(level, count)

    def _open(self, level: int, count: int) -> None:
        path = self._directory / f"level{level}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        self._fds.append(fd)
        rest = count % TILE_WIDTH
        tail = os.pread(fd, rest * HASH_SIZE, (count - rest) * HASH_SIZE)
        if len(tail) != rest * HASH_SIZE:
            raise TilesError(f"{path} ends before hash {count}")
        self._tails.append(tail)

    def add(self, leaves: bytes) -> None:
        """Add leaf hashes that stand one behind the other; raises OSError."""
        self._add(0, self.size, leaves)
        self.size += len(leaves) // HASH_SIZE

    def _add(self, level: int, count: int, hashes: bytes) -> None:
        if level == len(self._fds):
            self._open(level, count)
        offset, view = count * HASH_SIZE, memoryview(hashes)
        while view:
            done = os.pwrite(self._fds[level], view, offset)
            offset, view = offset + done, view[done:]
        pending = self._tails[level] + hashes
        whole = len(pending) // TILE_BYTES * TILE_BYTES
        self._tails[level] = pending[whole:]
        if whole:
            roots = [merkle.fold(pending[at : at + TILE_BYTES]) for at in range(0, whole, TILE_BYTES)]
            above = (count * HASH_SIZE + len(hashes) - len(pending)) // TILE_BYTES
            self._add(level + 1, above, b"".join(roots))

    def sync(self) -> None:
        """Make the hashes durable; raises OSError."""
        for fd in self._fds:
            os.fdatasync(fd)

    def close(self) -> None:
        """Close the files."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()


def tile_path(level: int | str, index: int, width: int = TILE_WIDTH) -> str:
    """Where tlog-tiles serves a tile: tile/<L>/<N>[.p/<W>], N in groups of three digits."""
    groups: list[str] = []
    while True:
        index, group = divmod(index, 1000)
        groups.append(f"{group:03d}" if not groups else f"x{group:03d}")
        if not index:
            break
    partial = f".p/{width}" if width < TILE_WIDTH else ""
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


def tile_paths(size: int) -> Iterator[tuple[int, int, int, str]]:
    """Every tile of a tree of `size` leaves: level, index, width, path."""
    level = 0
    while size >> (TILE_HEIGHT * level):
        count = size >> (TILE_HEIGHT * level)
        for index in range(-(-count // TILE_WIDTH)):
            width = min(TILE_WIDTH, count - index * TILE_WIDTH)
            yield level, index, width, tile_path(level, index, width)
        level += 1
