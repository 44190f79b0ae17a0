"""What lies below a directory that is a mount of its own, from this process's mount table (proc_pid_mountinfo(5)).

Buildah gives the runtime no path of its store: it binds the root file system of a working container into the bundle.
"""

from __future__ import annotations

import posix

from fhir_hook.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TABLE = 64 << 20
_O_PATH = 0o10000000  # posix has no name for it; the same on x86_64 and aarch64 (asm-generic/fcntl.h)


class Mount:
    """One line of the table: `device` (major:minor), `root` inside of it, `point`, file system `kind`, `options`."""

    __slots__ = ("device", "root", "point", "kind", "options")

    def __init__(self, fields: list[str]) -> None:
        dash = fields.index("-", 6)
        self.device, self.root, self.point = fields[2], _unescaped(fields[3]), _unescaped(fields[4])
        self.kind, self.options = fields[dash + 1], fields[dash + 3]


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def table() -> list[Mount]:
    """All mounts in order; empty when the table can't be read."""
    try:
        fd = posix.open("/proc/self/mountinfo", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return []
    try:
        lines = files.read_all(fd, MAX_TABLE).decode("utf-8", "surrogateescape").split("\n")
    except (OSError, files.FileError):
        return []
    finally:
        posix.close(fd)
    return [Mount(line.split(" ")) for line in lines if line.count(" ") >= 9]


def origins(path: str) -> Iterator[str]:
    """Directories that what is mounted at `path` came from: an overlay's upper directory, or what was bound there."""
    try:
        fd = posix.open(path, _O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except (OSError, ValueError):
        return
    try:
        point = posix.readlink(f"/proc/self/fd/{fd}")
    finally:
        posix.close(fd)
    mounts = table()
    # The last mount on a directory is the one that is seen there.
    top = next((mount for mount in reversed(mounts) if mount.point == point), None)
    if top is None:
        return
    if top.kind == "overlay":
        for option in top.options.split(","):
            if option.startswith("upperdir="):
                yield option.removeprefix("upperdir=")
        return
    for mount in mounts:
        if mount is not top and mount.device == top.device:
            below = mount.root.rstrip("/")
            if top.root.startswith(below + "/"):
                yield mount.point.rstrip("/") + top.root[len(below) :]
