"""Have a stopped task make system calls, and leave it as it was.

No text is poked: the calls are made from the system call instruction that the vdso has. Nothing that sleeps, polls or
uses futexes may be injected: it would overwrite the restart block of the call that was interrupted.
"""

from __future__ import annotations

import errno
from _struct import Struct

from fhir_hook.kernel import libc, procfs, ptrace
from fhir_hook.kernel.arch.native import LAYOUT

# SIGKILL and SIGSTOP stay unblockable whatever the mask says.
_ALL_SIGNALS = 0xFFFFFFFFFFFFFFFF
_PAGE = 4096
_PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS = 3, 0x22
_FPROG = Struct("=HxxxxxxQ")
_CAPABILITY = Struct("=IiIIIIII")
_LARGEST_ERROR = 4095


class NoGadget(OSError):
    """The process has no vdso with a system call instruction."""


class InjectedFailed(libc.CallFailed):
    """A call made in the task returned an error."""


def gadget(pid: int, memory: ptrace.Memory) -> int:
    """Address of a system call instruction in the process's vdso; raises NoGadget, OSError."""
    mapping = procfs.vdso(pid)
    if mapping is None:
        raise NoGadget(errno.ENOEXEC, "the process has no vdso mapping")
    first, end = mapping
    found = LAYOUT.gadget(memory.read(first, end - first))
    if found is None:
        raise NoGadget(errno.ENOEXEC, "the process's vdso holds no system call instruction")
    return first + found


class Borrowed:
    """A stopped task on loan: between borrow() and give_back() it makes calls for the tracer.

    Invariant: in between, every blockable signal is blocked in the task, and a SIGSTOP that arrives is held back.
    """

    __slots__ = ("_exit", "_gadget", "_held", "_mask", "_saved", "_tgid", "tid")

    def __init__(self, tgid: int, tid: int, at: int, in_exit_stop: bool = False) -> None:
        """The task is in an event stop, or (in_exit_stop) at the syscall-exit stop of a call that didn't fail.

        Raises ptrace.ForeignRegisters for a task of another ABI, CallFailed.
        """
        self.tid = tid
        self._tgid = tgid
        self._gadget = at
        self._exit = in_exit_stop
        self._held: list[int] = []
        self._saved = ptrace.registers(tid)
        self._mask = ptrace.signal_mask(tid)
        ptrace.set_signal_mask(tid, _ALL_SIGNALS)

    def call(self, attempted: str, number: int, *arguments: int) -> int:
        """Make one call in the task; its result. Raises InjectedFailed, ptrace.TaskGone."""
        ptrace.set_registers(self.tid, LAYOUT.with_call(self._saved, self._gadget, number, arguments))
        self._until(ptrace.ENTRY)
        self._until(ptrace.EXIT)
        result = LAYOUT.result(ptrace.registers(self.tid))
        if -_LARGEST_ERROR <= result < 0:
            raise InjectedFailed(f"{attempted} in task {self.tid}", -result)
        return result

    def command(self, attempted: str, number: int, *arguments: int) -> None:
        """Make a call whose only good result is 0.

        A filter that traps a call leaves the call's number where the result is expected.
        """
        result = self.call(attempted, number, *arguments)
        if result:
            raise InjectedFailed(f"{attempted} in task {self.tid} returned {result}", errno.EPROTO)

    def _until(self, kind: str) -> None:
        ptrace.step_syscall(self.tid)
        while (stop := ptrace.wait_stop_of(self.tid)).kind != kind:
            self._not_wanted(stop)
            ptrace.step_syscall(self.tid)

    def _not_wanted(self, stop: ptrace.Stop) -> None:
        if stop.kind == ptrace.GONE:
            raise ptrace.TaskGone(errno.ESRCH, f"task {self.tid} ended while a call was injected")
        if stop.kind == ptrace.SIGNAL:
            self._held.append(stop.detail)
        elif stop.kind not in (ptrace.HALTED, ptrace.GROUP):
            raise OSError(errno.EPROTO, f"unexpected {stop!r} while a call was injected")

    def give_back(self) -> None:
        """Put registers, signal mask and held signals back; the task stays stopped."""
        if not self._exit:
            # Restoring at this syscall-exit stop would leak the interrupted call's restart errno (512-516) to the
            # program: the kernel looks at it only on the way out of a signal or event stop.
            ptrace.interrupt(self.tid)
            ptrace.resume(self.tid)
            while (stop := ptrace.wait_stop_of(self.tid)).kind not in (ptrace.HALTED, ptrace.GROUP):
                self._not_wanted(stop)
                ptrace.resume(self.tid)
        ptrace.set_registers(self.tid, self._saved)
        ptrace.set_signal_mask(self.tid, self._mask)
        for signal in self._held:
            libc.tgkill(self._tgid, self.tid, signal)


class Scratch:
    """Pages mapped in the process to hand structures to injected calls."""

    __slots__ = ("_length", "_memory", "at")

    def __init__(self, task: Borrowed, memory: ptrace.Memory, length: int) -> None:
        self._length = -(-length // _PAGE) * _PAGE
        self._memory = memory
        self.at = task.call(
            "mmap", LAYOUT.MMAP, 0, self._length, _PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS, -1 & 0xFFFFFFFFFFFFFFFF, 0
        )

    def capset(self, task: Borrowed, effective: int, permitted: int, inheritable: int) -> None:
        """Set the task's three sets (bit masks); raises InjectedFailed."""
        low, high = 0xFFFFFFFF, 32
        block = _CAPABILITY.pack(
            libc.CAPABILITY_VERSION_3,
            0,
            effective & low,
            permitted & low,
            inheritable & low,
            effective >> high,
            permitted >> high,
            inheritable >> high,
        )
        self._memory.write(self.at, block)
        task.command("capset", LAYOUT.CAPSET, self.at, self.at + 8)

    def seccomp(self, task: Borrowed, program: bytes, flags: int = 0) -> None:
        """Attach a filter (packed struct sock_filter) to the task, with flags of seccomp(2); raises InjectedFailed."""
        self._memory.write(self.at, _FPROG.pack(len(program) // 8, self.at + _FPROG.size) + program)
        task.command("seccomp", LAYOUT.SECCOMP, libc.SECCOMP_SET_MODE_FILTER, flags, self.at)

    def unmap(self, task: Borrowed) -> None:
        task.command("munmap", LAYOUT.MUNMAP, self.at, self._length)


def room(programs: tuple[bytes, ...]) -> int:
    """Bytes of scratch that the longest of the filters needs."""
    return max((len(program) for program in programs), default=0) + _FPROG.size + _CAPABILITY.size
