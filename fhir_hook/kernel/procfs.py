"""What /proc tells about a process: status fields, tasks, start time, cgroups, id maps (proc(5))."""

from __future__ import annotations

import errno
import posix

from fhir_hook.core.plan import Capabilities
from fhir_hook.kernel import libc

_CHUNK = 65536


class Status:
    """The fields of /proc/PID/status that matter here. filters is None on kernels before 5.9, which don't count."""

    __slots__ = (
        "capabilities",
        "filters",
        "gids",
        "name",
        "no_new_privs",
        "nspid",
        "seccomp",
        "state",
        "tgid",
        "tracer",
        "uids",
    )

    def __init__(self, text: str) -> None:
        fields = {}
        for line in text.split("\n"):
            key, separator, value = line.partition(":")
            if separator:
                fields[key] = value.strip()
        self.name = fields.get("Name", "")
        self.state = fields["State"][:1]
        self.tgid = int(fields["Tgid"])
        self.tracer = int(fields["TracerPid"])
        self.uids = tuple(int(word) for word in fields["Uid"].split())
        self.gids = tuple(int(word) for word in fields["Gid"].split())
        self.nspid = tuple(int(word) for word in fields.get("NSpid", "").split())
        self.no_new_privs = fields["NoNewPrivs"] == "1"
        self.seccomp = int(fields["Seccomp"])
        counted = fields.get("Seccomp_filters")
        self.filters = None if counted is None else int(counted)
        self.capabilities = Capabilities(
            bounding=int(fields["CapBnd"], 16),
            effective=int(fields["CapEff"], 16),
            permitted=int(fields["CapPrm"], 16),
            inheritable=int(fields["CapInh"], 16),
            ambient=int(fields["CapAmb"], 16),
        )


class Identity:
    """A process held fast: number, start time and a pidfd, so that a reused number is noticed."""

    __slots__ = ("pid", "pidfd", "started")

    def __init__(self, pid: int) -> None:
        """Raises OSError when there is no such process."""
        self.pid = pid
        self.pidfd = libc.pidfd_open(pid)
        self.started = start_time(pid)

    def holds(self) -> bool:
        """Whether the number still belongs to the same, living process."""
        try:
            libc.pidfd_send_signal(self.pidfd, 0)
        except libc.CallFailed as error:
            # A process of another user may live all the same.
            if error.errno != errno.EPERM:
                return False
        try:
            return start_time(self.pid) == self.started and status(self.pid).state not in "ZX"
        except OSError:
            return False

    def close(self) -> None:
        if self.pidfd >= 0:
            posix.close(self.pidfd)
            self.pidfd = -1


def read(path: str) -> bytes:
    """A whole /proc file; raises OSError."""
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        parts = []
        while part := posix.read(descriptor, _CHUNK):
            parts.append(part)
        return b"".join(parts)
    finally:
        posix.close(descriptor)


def status(pid: int, tid: int | None = None) -> Status:
    """Status of a process's leader, or of one of its tasks; raises OSError when it is gone."""
    path = f"/proc/{pid}/status" if tid is None else f"/proc/{pid}/task/{tid}/status"
    return Status(read(path).decode("utf-8", "replace"))


def tasks(pid: int) -> list[int]:
    """Thread numbers of a process, ascending; empty when it is gone."""
    try:
        return sorted(int(name) for name in posix.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError):
        return []


def start_time(pid: int) -> int:
    """Clock ticks since boot at which the process began (field 22 of /proc/PID/stat); raises OSError."""
    # The second field is the name in parentheses and may hold blanks and parentheses itself.
    return int(read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[19])


def cgroups(pid: int) -> dict[str, str]:
    """Cgroup path by controller list ("" is version 2); raises OSError."""
    found = {}
    for line in read(f"/proc/{pid}/cgroup").decode("utf-8", "replace").splitlines():
        _, controllers, path = line.split(":", 2)
        found[controllers] = path
    return found


def uid_map(pid: int) -> list[tuple[int, int, int]]:
    """(inside, outside, count) rows of the process's user namespace; raises OSError."""
    rows = []
    for line in read(f"/proc/{pid}/uid_map").split(b"\n"):
        words = line.split()
        if len(words) == 3:
            rows.append((int(words[0]), int(words[1]), int(words[2])))
    return rows


def pid_namespace(pid: int) -> str:
    """The pid namespace's name, such as pid:[4026531836]; raises OSError."""
    return posix.readlink(f"/proc/{pid}/ns/pid")


def vdso(pid: int) -> tuple[int, int] | None:
    """First and past-the-end address of the process's vdso mapping, or None; raises OSError."""
    for line in read(f"/proc/{pid}/maps").split(b"\n"):
        if line.endswith(b"[vdso]"):
            first, _, end = line.partition(b" ")[0].partition(b"-")
            return int(first, 16), int(end, 16)
    return None
