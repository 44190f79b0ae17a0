"""Reading one value from a bbolt database that another process writes (go.etcd.io/bbolt: page.go, meta.go, bucket.go).

bbolt never writes over a page that the newest committed transaction can reach: the next transaction puts its pages
where nothing is, and becomes the newest by writing the other of two checksummed meta pages. So what was read is
consistent if the newest meta page is still the same one afterwards. No lock is taken, nor waited for.
"""

from __future__ import annotations

import posix

from fhir_hook.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MAGIC, _VERSION = 0xED0CDAED, 2
_BRANCH, _LEAF, _BUCKET = 1, 2, 1
_HEADER = _ELEMENT = _BUCKET_HEADER = 16
_META = 64
_MOST_PAGE = 64 << 20
_DEEPEST = 40
_TRIES = 50
_MOST_NAMES = 100_000


class BoltError(Exception):
    """The database can't be read; str() is one line."""


def value(path: str, *keys: str) -> bytes | None:
    """The value below nested buckets: `keys` are the buckets' names, then the key; None where one of them is missing.

    Raises BoltError, FileError or OSError.
    """
    found: bytes | None = _read(path, lambda snapshot: snapshot.value([key.encode() for key in keys]))
    return found


def names(path: str, *keys: str) -> list[str]:
    """The keys of the bucket below nested buckets, `keys` being their names; empty where there is none.

    Raises as `value`.
    """
    found: list[str] = _read(path, lambda snapshot: snapshot.names([key.encode() for key in keys]))
    return found


def _read(path: str, wanted: Callable[[_Snapshot], Any]) -> Any:
    fd, _ = files.open_regular(path)
    try:
        for _ in range(_TRIES):
            meta = _newest(fd, path)
            try:
                found = wanted(_Snapshot(fd, meta))
            except (IndexError, ValueError, BoltError):
                if _newest(fd, path) == meta:
                    raise BoltError(f"{path} is damaged") from None
                continue
            if _newest(fd, path) == meta:
                return found
    finally:
        posix.close(fd)
    raise BoltError(f"{path} changes faster than it can be read")


def _int(data: bytes, at: int, size: int) -> int:
    part = data[at : at + size]
    if len(part) != size:
        raise IndexError(at)
    return int.from_bytes(part, "little")


def _newest(fd: int, path: str) -> tuple[int, int, int]:
    """(transaction, page size, root page) of the newest valid meta page."""
    first = posix.pread(fd, _HEADER + _META, 0)
    sizes = [_int(first, _HEADER + 8, 4)] if len(first) == _HEADER + _META else []
    metas = [_meta(first)]
    for size in (*sizes, 4096, 16384, 65536):
        if 512 <= size <= 1 << 20:
            metas.append(_meta(posix.pread(fd, _HEADER + _META, size)))
    valid = [meta for meta in metas if meta is not None]
    if not valid:
        raise BoltError(f"{path} is no bbolt database of version {_VERSION}")
    return max(valid)


def _meta(page: bytes) -> tuple[int, int, int] | None:
    body = page[_HEADER : _HEADER + _META]
    if len(body) != _META or (_int(body, 0, 4), _int(body, 4, 4)) != (_MAGIC, _VERSION):
        return None
    digest = 0xCBF29CE484222325  # FNV-1a, 64 bits
    for byte in body[:56]:
        digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    if digest != _int(body, 56, 8):
        return None
    return _int(body, 48, 8), _int(body, 8, 4), _int(body, 16, 8)


class _Snapshot:
    """The database as one transaction left it."""

    __slots__ = ("fd", "size", "root")

    def __init__(self, fd: int, meta: tuple[int, int, int]) -> None:
        self.fd = fd
        _, self.size, self.root = meta

    def value(self, keys: list[bytes]) -> bytes | None:
        page = self._bucket(keys[:-1])
        found = self._find(page, keys[-1]) if page is not None else None
        return found[1] if found is not None and not found[0] & _BUCKET else None

    def names(self, keys: list[bytes]) -> list[str]:
        page = self._bucket(keys)
        found: list[bytes] = []
        if page is not None:
            self._walk(page, _DEEPEST, found)
        return [name.decode("utf-8", "replace") for name in found]

    def _bucket(self, keys: list[bytes]) -> bytes | None:
        """The root page of the bucket below these; None where one of them is missing."""
        page = self._page(self.root)
        for key in keys:
            found = self._find(page, key)
            if found is None:
                return None
            flags, bucket = found
            if not flags & _BUCKET:
                return None
            root = _int(bucket, 0, 8)
            page = self._page(root) if root else bucket[_BUCKET_HEADER:]
        return page

    def _walk(self, page: bytes, depth: int, found: list[bytes]) -> None:
        flags, count = _int(page, 8, 2), _int(page, 10, 2)
        if not flags & (_LEAF | _BRANCH) or not depth or len(found) + count > _MOST_NAMES:
            raise BoltError("a bucket is no tree that ends")
        for at in range(_HEADER, _HEADER + count * _ELEMENT, _ELEMENT):
            if flags & _LEAF:
                start = at + _int(page, at + 4, 4)
                found.append(page[start : start + _int(page, at + 8, 4)])
            else:
                self._walk(self._page(_int(page, at + 8, 8)), depth - 1, found)

    def _page(self, number: int) -> bytes:
        head = posix.pread(self.fd, _HEADER, number * self.size)
        length = (_int(head, 12, 4) + 1) * self.size
        if length > _MOST_PAGE:
            raise BoltError("a page is too long")
        return posix.pread(self.fd, length, number * self.size)

    def _find(self, page: bytes, key: bytes) -> tuple[int, bytes] | None:
        """The (flags, value) of `key` in the tree below `page`."""
        for _ in range(_DEEPEST):
            flags, count = _int(page, 8, 2), _int(page, 10, 2)
            if flags & _LEAF:
                return _in_leaf(page, count, key)
            if not flags & _BRANCH or not count:
                raise BoltError("a page is neither branch nor leaf")
            low, high = 0, count - 1  # the last child whose first key is not behind `key`
            while low < high:
                middle = (low + high + 1) // 2
                at = _HEADER + middle * _ELEMENT
                start = at + _int(page, at, 4)
                if page[start : start + _int(page, at + 4, 4)] <= key:
                    low = middle
                else:
                    high = middle - 1
            page = self._page(_int(page, _HEADER + low * _ELEMENT + 8, 8))
        raise BoltError("the tree is too deep")


def _in_leaf(page: bytes, count: int, key: bytes) -> tuple[int, bytes] | None:
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        at = _HEADER + middle * _ELEMENT
        start, length = at + _int(page, at + 4, 4), _int(page, at + 8, 4)
        name = page[start : start + length]
        if name == key:
            return _int(page, at, 4), page[start + length : start + length + _int(page, at + 12, 4)]
        if name < key:
            low = middle + 1
        else:
            high = middle
    return None
