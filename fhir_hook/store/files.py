"""Reading small trusted files, and replacing files durably, with `posix` calls only (`os` costs 1 ms to load)."""

from __future__ import annotations

import posix

NO_FOLLOW = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK
TEMPORARY = ".tmp"
_S_IFMT, _S_IFREG = 0o170000, 0o100000
_OVERFLOW_UID = 65534  # what a user namespace shows for ids it does not map (user_namespaces(7))


class FileError(Exception):
    """A file can't be used; str() is one line with its path and the reason."""


def open_regular(path: str, flags: int = NO_FOLLOW) -> tuple[int, posix.stat_result]:
    """Open a regular file, never a link, FIFO or device in its place; raises FileError, or OSError by open(2)."""
    try:
        fd = posix.open(path, flags)
    except ValueError:  # NUL, or a lone surrogate: nothing that open(2) could be asked for
        raise FileError(f"{path!r} can't be a path") from None
    status = posix.fstat(fd)
    if status.st_mode & _S_IFMT != _S_IFREG:
        posix.close(fd)
        raise FileError(f"{path} is not a regular file")
    return fd, status


def read_all(fd: int, limit: int) -> bytes:
    """Read from `fd` to its end; raises FileError when there are more than `limit` bytes."""
    chunks: list[bytes] = []
    left = limit + 1
    while left > 0:
        chunk = posix.read(fd, min(left, 1 << 20))
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        left -= len(chunk)
    raise FileError(f"more than {limit} bytes")


def read(path: str, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes; raises FileError or OSError."""
    fd, status = open_regular(path)
    try:
        if status.st_size > limit:
            raise FileError(f"{path} has {status.st_size} bytes, more than the {limit} that are read")
        return read_all(fd, limit)
    except FileError as error:
        raise FileError(f"{path}: {error}" if path not in str(error) else str(error)) from None
    finally:
        posix.close(fd)


def untrusted(path: str, status: posix.stat_result) -> str:
    """Say why `path` can't be trusted as the host's own (root's, writable by nobody else), or return "".

    In a user namespace root's files show the overflow id; nobody in there can own such a file.
    """
    if status.st_uid != 0 and not (status.st_uid == _OVERFLOW_UID and in_user_namespace()):
        return f"{path} belongs to user {status.st_uid}, not to root"
    if status.st_mode & 0o022:
        return f"{path} can be written by others (mode {status.st_mode & 0o7777:04o})"
    return ""


def read_trusted(path: str, limit: int) -> bytes:
    """As `read`, and FileError when anyone but root could have written the file."""
    fd, status = open_regular(path)
    try:
        problem = untrusted(path, status)
        if problem:
            raise FileError(problem)
        return read_all(fd, limit)
    finally:
        posix.close(fd)


def in_user_namespace() -> bool:
    """Whether this process runs in a user namespace other than the host's own (user_namespaces(7))."""
    return _uid_map() != [(0, 0, 4294967295)]


def outer_uid() -> int:
    """The uid that this process has one user namespace further out: 0 for root of the host."""
    uid = posix.geteuid()
    for inner, outer, count in _uid_map():
        if inner <= uid < inner + count:
            return uid - inner + outer
    return _OVERFLOW_UID


def _uid_map() -> list[tuple[int, int, int]]:
    fd = posix.open("/proc/self/uid_map", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        lines = posix.read(fd, 4096).decode("ascii").splitlines()
    finally:
        posix.close(fd)
    fields = [line.split() for line in lines]
    return [(int(inner), int(outer), int(count)) for inner, outer, count in fields]


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, however the kernel splits it; raises OSError (EPIPE when nobody reads)."""
    view = memoryview(data)
    while view:
        view = view[posix.write(fd, view) :]


def replace(
    path: str, data: bytes, mode: int = 0o644, owner: tuple[int, int] | None = None, durable: bool = True
) -> None:
    """Put `data` at `path` so that a reader or a power cut sees the old content or the new, never a mixture.

    `owner` is (uid, gid) where the file is not to belong to this process's user. What nobody wants after a power cut
    need not be `durable`.
    """
    directory = path.rpartition("/")[0] or "/"
    temporary = f"{path}.{posix.getpid()}{TEMPORARY}"
    fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC | posix.O_NOFOLLOW, mode)
    try:
        if owner is not None:
            posix.fchown(fd, *owner)
        posix.fchmod(fd, mode)
        write_all(fd, data)
        if durable:
            posix.fsync(fd)
        posix.rename(temporary, path)
    except BaseException:
        posix.unlink(temporary)
        raise
    finally:
        posix.close(fd)
    if durable:
        sync_directory(directory)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable (fsync(2) of the directory)."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        posix.fsync(fd)
    finally:
        posix.close(fd)
