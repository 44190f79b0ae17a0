"""Which container a control group belongs to, by its path: the names that engines and systemd give."""

from __future__ import annotations

import re

# Podman, Docker, containerd, CRI-O and nerdctl under systemd; with the cgroupfs manager, the same or the bare id.
_CONTAINER = re.compile(r"(?:(?:libpod|docker|cri-containerd|crio|nerdctl)-)?([0-9a-f]{64})(?:\.scope)?")
_USER = re.compile(r"user-(\d{1,10})\.slice|user@(\d{1,10})\.service")


class Owner:
    """A container by its `id`, and the user below whose slice its group is; 0 when it is below nobody's."""

    __slots__ = ("id", "uid")

    def __init__(self, id: str, uid: int) -> None:
        self.id = id
        self.uid = uid


def container(path: str) -> Owner | None:
    """The container whose group the path is or leads through; None when it is that of no container.

    The outermost name counts: whoever is in a container, or has a slice of his own, can only make groups below that,
    under any name.
    """
    uid: int | None = None
    for part in path.split("/"):
        found = _USER.fullmatch(part)
        if found and uid is None:
            uid = int(found[1] or found[2])
        named = _CONTAINER.fullmatch(part)
        if named:
            return Owner(named[1], uid or 0)
    return None
