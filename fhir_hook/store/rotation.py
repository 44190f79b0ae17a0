"""Rotating the log: the file that is written to becomes a closed segment, and a new one takes its place.

Done by the command (a timer), never by the hook. The log's lock is held throughout, and its name exists at every
moment: the file gets its second name by link(2), and rename(2) puts the new one, which already holds its first record,
in its place. A writer that waited for the lock meanwhile finds that the name means another file, and opens that.
"""

from __future__ import annotations

import os
from pathlib import Path

from fhir_hook.core import paths
from fhir_hook.store import files, log, segments


def rotate(directory: str, at_least: int = 0, oldest: float = 0.0) -> Path | None:
    """Close the current segment and return its new path.

    Returns None when there is nothing to close: no log, no record in it besides the one that opened it, or fewer than
    `at_least` bytes and no record written before `oldest` (seconds since the epoch). Raises log.LogError.
    """
    path = f"{directory}/{paths.LOG_NAME}"
    if not os.path.exists(path):
        return None
    try:
        while True:
            fd = log.locked(directory, path)
            try:
                end = log.end_of(fd, path)
                if not end.torn:
                    return _rotate(fd, directory, path, end) if _due(fd, end, at_least, oldest) else None
            finally:
                os.close(fd)
            log.append({"event": "log", "what": "rotation"})  # which sees to the torn tail
    except OSError as error:
        raise log.LogError(f"{path}: {error.strerror or error}; the log was not rotated") from None
    except files.FileError as error:
        raise log.LogError(str(error)) from None


def _due(fd: int, end: log.End, at_least: int, oldest: float) -> bool:
    first = os.pread(fd, log.LONGEST_RECORD + 1, 0).partition(b"\n")[0]
    if end.size <= len(first) + 1 and b'"what":"segment"' in first:
        return False
    if end.size >= at_least:
        return True
    begun = first[9:35].decode("ascii", "replace")  # {"time":"2026-11-21T10:14:07.123456Z"
    return begun < log.timestamp(int(oldest * 1e9))[:26]


def _rotate(fd: int, directory: str, path: str, end: log.End) -> Path:
    status = os.fstat(fd)
    os.fsync(fd)
    closed = f"{directory}/{segments.name_of(segments.first_of(fd))}"
    fields = {"event": "log", "what": "segment", "closed": os.path.basename(closed), "bytes": end.size}
    line = log.encoded(log.stamped(fields, end), path)
    temporary = f"{path}.next"
    new = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchown(new, status.st_uid, status.st_gid)
        os.fchmod(new, status.st_mode & 0o7777)
        files.write_all(new, line)
        os.fsync(new)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(new)
    _link(path, closed, status)
    os.rename(temporary, path)
    files.sync_directory(directory)
    return Path(closed)


def _link(path: str, closed: str, status: os.stat_result) -> None:
    """Give the file its second name; it may have it already, from a rotation that was killed at this point."""
    try:
        os.link(path, closed, follow_symlinks=False)
    except FileExistsError:
        there = os.lstat(closed)
        if (there.st_ino, there.st_dev) != (status.st_ino, status.st_dev):
            raise log.LogError(f"{closed} exists already and is another file; move it away") from None
