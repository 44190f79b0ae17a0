"""The decision log: JSON Lines, each record chained to the one before by `prev`, the SHA-256 of its line.

Appending reads only the end of the file, however long it is. A record is acknowledged when fdatasync(2) has
returned; one that could not be written whole is taken back, so that the log never ends in a torn record that
somebody relies on. A tail torn by a crash is cut off, and a `recovery` record says what it was.
"""

from __future__ import annotations

import fcntl
import posix
import time

from fhir_hook.core import jsonio, paths
from fhir_hook.core.digest import sha256_hex
from fhir_hook.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST_RECORD = 65_535  # an entry of a tlog-tiles bundle has a 16-bit length (C2SP tlog-tiles)
FIRST_PREV = "0" * 64
LOCK_SECONDS = 20.0
_TAIL = 1 << 18
_MOST_ROTATIONS = 100
_SEEK_END = 2


class LogError(Exception):
    """The log can't take a record; str() is one line with its path and the reason."""


def directory() -> str:
    """The directory of this process's log: the host's, or below the home of a user who runs containers rootless.

    A hook has no environment to take XDG_STATE_HOME from, so the default of the XDG Base Directory Specification
    is used. Root of a container that runs containers of its own has no home out here, and keeps the usual place.
    """
    uid = files.outer_uid()
    if uid == 0:
        return paths.LOG_DIRECTORY
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_dir}/{paths.USER_STATE}"
    except KeyError:
        return paths.LOG_DIRECTORY


def append(fields: dict[str, Any], user: dict[str, Any] | None = None) -> dict[str, Any]:
    """Append one record and return it as written, with time, seq, prev, user, host and boot added.

    `user` is who this process is, unless it acts for another.
    Raises LogError when it is not durable in the log; then no trace of it is left there.
    """
    where = directory()
    path = f"{where}/{paths.LOG_NAME}"
    try:
        fd = locked(where, path)
        try:
            return _append(fd, path, fields, user)
        finally:
            posix.close(fd)
    except OSError as error:
        raise LogError(f"{path}: {error.strerror or error}") from None
    except files.FileError as error:
        raise LogError(str(error)) from None


def locked(where: str, path: str) -> int:
    """Open the log at `path` in the directory `where`, make it if there is none, and take its lock.

    The log may be rotated while its lock is waited for: what is locked is what `path` names then.
    """
    for _ in range(_MOST_ROTATIONS):
        fd = _open(where, path)
        try:
            lock(fd, path)
            if _is_current(fd, path):
                return fd
        except BaseException:
            posix.close(fd)
            raise
        posix.close(fd)
    raise LogError(f"{path} is replaced again and again while its lock is waited for")


def _is_current(fd: int, path: str) -> bool:
    try:
        now = posix.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = posix.fstat(fd)
    return (mine.st_ino, mine.st_dev) == (now.st_ino, now.st_dev)


def _open(where: str, path: str) -> int:
    flags = posix.O_RDWR | posix.O_APPEND | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK
    try:
        return files.open_regular(path, flags)[0]
    except FileNotFoundError:
        pass
    make_directories(where)
    try:
        fd = posix.open(path, flags | posix.O_CREAT | posix.O_EXCL, 0o640)
    except FileExistsError:
        return files.open_regular(path, flags)[0]
    files.sync_directory(where)
    return fd


def make_directories(path: str) -> None:
    """Make a directory and those above it, as far as they are missing; raises OSError."""
    try:
        posix.mkdir(path, 0o750)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_directories(path.rpartition("/")[0])
        make_directories(path)  # another first writer may have been as quick


def lock(fd: int, path: str) -> None:
    """Wait for the lock of the log, at most LOCK_SECONDS; raises LogError."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LogError(f"{path} is locked by another process for more than {LOCK_SECONDS:.0f} s") from None
            time.sleep(0.001)


class End:
    """The end of the log: byte `size` up to the last complete record, `torn` bytes behind it, next seq, prev."""

    __slots__ = ("size", "torn", "seq", "prev")

    def __init__(self, size: int, torn: bytes, seq: int, prev: str) -> None:
        self.size = size
        self.torn = torn
        self.seq = seq
        self.prev = prev


def _append(fd: int, path: str, fields: dict[str, Any], user: dict[str, Any] | None) -> dict[str, Any]:
    end = end_of(fd, path)
    torn, lines = end.torn, []
    if torn:
        recovery = {"event": "recovery", "torn": {"bytes": len(torn), "sha256": sha256_hex(torn)}}
        lines.append(encoded(stamped(recovery, end), path))
        end = End(end.size, b"", end.seq + 1, sha256_hex(lines[0]))
    record = stamped(fields, end, user)
    lines.append(encoded(record, path))
    if torn:
        posix.ftruncate(fd, end.size)
    _write(fd, b"".join(lines), end.size, torn, path)
    return record


def end_of(fd: int, path: str) -> End:
    """Where the log ends, from its last 256 KiB; raises LogError when there is no record to go on from."""
    size = posix.lseek(fd, 0, _SEEK_END)
    start = max(0, size - _TAIL)
    tail = posix.pread(fd, size - start, start)
    complete = tail.rfind(b"\n") + 1
    if not complete:
        if start:
            raise LogError(f"{path} ends in {_TAIL} bytes without a record; move it away to start a new log")
        return End(0, tail, 0, FIRST_PREV)
    torn = tail[complete:]
    lines = tail[: complete - 1].split(b"\n")  # not splitlines(): a damaged line may hold a carriage return
    for back, line in enumerate(reversed(lines)):
        seq = _seq(line)
        if seq is not None:
            return End(start + complete, torn, seq + back + 1, sha256_hex(lines[-1] + b"\n"))
    raise LogError(f"{path} has no readable record at its end; move it away to start a new log")


def _seq(line: bytes) -> int | None:
    try:
        record = jsonio.parse(line, LONGEST_RECORD + 1)
    except jsonio.JsonError:
        return None
    seq = record.get("seq") if isinstance(record, dict) else None
    return seq if isinstance(seq, int) else None


def stamped(fields: dict[str, Any], end: End, user: dict[str, Any] | None = None) -> dict[str, Any]:
    """The record that follows `end`: `fields` with time, seq, prev, user, host and boot."""
    return {
        "time": timestamp(time.time_ns()),
        "seq": end.seq,
        "prev": end.prev,
        **fields,
        "user": user or {"uid": files.outer_uid(), "login": _login()},
        "host": posix.uname().nodename,
        "boot": _read_line("/proc/sys/kernel/random/boot_id"),
    }


def encoded(record: dict[str, Any], path: str) -> bytes:
    """The record as a line; raises LogError when it is longer than a record may be."""
    line = (jsonio.text(record) + "\n").encode("ascii")
    if len(line) > LONGEST_RECORD:
        raise LogError(f"{path}: a record of {len(line)} bytes is longer than {LONGEST_RECORD}")
    return line


def _write(fd: int, data: bytes, size: int, torn: bytes, path: str) -> None:
    try:
        files.write_all(fd, data)
        posix.fdatasync(fd)
    except OSError as error:
        posix.ftruncate(fd, size)
        if torn:
            files.write_all(fd, torn)  # what no record tells of yet stays to be found
        raise LogError(f"{path}: {error.strerror or error}") from None


def timestamp(ns: int) -> str:
    """Return nanoseconds since the epoch as RFC 3339 in UTC with microseconds."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1000:06d}Z"


def _login() -> int | None:
    """The login uid (audit's loginuid, proc_pid_loginuid(5)) of who started the container; None when unset."""
    text = _read_line("/proc/self/loginuid")
    return int(text) if text.isdigit() and text != "4294967295" else None


def _read_line(path: str) -> str:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return posix.read(fd, 256).decode("ascii", "replace").strip()
    except OSError:
        return ""
    finally:
        posix.close(fd)
