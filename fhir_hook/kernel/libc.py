"""The kernel's calls that the posix module lacks, through libc's syscall(2).

_ctypes is used instead of ctypes: the latter imports os, which the hook does without.
"""

from __future__ import annotations

import _ctypes
import errno
import posix

from fhir_hook.kernel.arch.native import LAYOUT

WALL = 0x40000000  # __WALL: wait for threads too
WNOHANG = 1

PR_SET_NO_NEW_PRIVS = 38
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_LOWER = 3
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_LOG = 1 << 1
CAPABILITY_VERSION_3 = 0x20080522


class CallFailed(OSError):
    """A kernel call failed: what was attempted, and errno by name."""

    def __init__(self, attempted: str, number: int) -> None:
        super().__init__(number, posix.strerror(number))
        self.attempted = attempted

    def __str__(self) -> str:
        name = errno.errorcode.get(self.errno or 0, str(self.errno))
        return f"{self.attempted}: {name} ({self.strerror})"


class _ulong(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "L"


class _char(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class _Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = type("_long", (_ctypes._SimpleCData,), {"_type_": "l"})


_syscall = _Function(_ctypes.dlsym(_ctypes.dlopen(None, 0), "syscall"))  # type: ignore[arg-type]
_syscall.argtypes = (_ulong,) * 7


def call(attempted: str, number: int, *arguments: int) -> int:
    """Make one system call of up to six integer arguments and return its result; raises CallFailed."""
    padded = (number, *arguments, 0, 0, 0, 0, 0, 0)[:7]
    result = int(_syscall(*padded))
    if result == -1:
        raise CallFailed(attempted, _ctypes.get_errno())
    return result


def address(buffer: bytearray) -> int:
    """The address of a bytearray's bytes; the caller keeps the array alive and doesn't resize it meanwhile."""
    return int(_ctypes.addressof((_char * len(buffer)).from_buffer(buffer)))


def ptrace(attempted: str, request: int, tid: int, first: int = 0, second: int = 0) -> int:
    """ptrace(2) on one thread; raises CallFailed naming the thread."""
    return call(f"{attempted} of task {tid}", LAYOUT.PTRACE, request, tid, first, second)


def pidfd_open(pid: int) -> int:
    """A file descriptor that stands for the process whatever happens to its number; raises CallFailed."""
    return call(f"pidfd_open of process {pid}", LAYOUT.PIDFD_OPEN, pid, 0)


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """Signal the process behind a pidfd (0 asks only whether it lives); raises CallFailed."""
    call(f"pidfd_send_signal {signal}", LAYOUT.PIDFD_SEND_SIGNAL, pidfd, signal, 0, 0)


def tgkill(tgid: int, tid: int, signal: int) -> None:
    """Signal one thread; raises CallFailed."""
    call(f"tgkill {signal} to task {tid}", LAYOUT.TGKILL, tgid, tid, signal)
