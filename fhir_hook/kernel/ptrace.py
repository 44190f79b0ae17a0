"""Operations on tracees: seize, stop, tell stops apart, read and write registers and memory (ptrace(2))."""

from __future__ import annotations

import errno
import posix
from _struct import Struct

from fhir_hook.kernel import libc
from fhir_hook.kernel.arch.native import LAYOUT

CONT = 7
DETACH = 17
SYSCALL = 24
SETOPTIONS = 0x4200
GETEVENTMSG = 0x4201
GETREGSET = 0x4204
SETREGSET = 0x4205
SEIZE = 0x4206
INTERRUPT = 0x4207
LISTEN = 0x4208
GETSIGMASK = 0x420A
SETSIGMASK = 0x420B
SECCOMP_GET_FILTER = 0x420C
GET_SYSCALL_INFO = 0x420E

O_TRACESYSGOOD = 1
O_TRACECLONE = 8
O_TRACEEXEC = 16
O_EXITKILL = 1 << 20
O_SUSPEND_SECCOMP = 1 << 21

_EVENT_CLONE, _EVENT_EXEC, _EVENT_STOP = 3, 4, 128
_SIGTRAP, _SIGSTOP, _SIGTSTP, _SIGTTIN, _SIGTTOU = 5, 19, 20, 21, 22
_NT_PRSTATUS = 1
_IOVEC = Struct("=QQ")
_WORD = Struct("=Q")
# Room for any register block, so that a foreign one shows its own length.
_ROOM = 1024

# Kinds of stops.
GONE = "gone"  # exited or killed; detail is the wait status
HALTED = "halted"  # PTRACE_EVENT_STOP after PTRACE_INTERRUPT, or a new task's first stop
GROUP = "group-stop"  # detail is the stopping signal
SIGNAL = "signal"  # signal-delivery stop; detail is the signal
ENTRY = "syscall-entry"
EXIT = "syscall-exit"
EXEC = "exec"  # detail is the thread number that the task had before
CLONE = "clone"  # detail is the new task
OTHER = "other"  # an event nobody asked for


class Stop:
    """One report of waitpid: which task, what kind of stop, and the kind's detail."""

    __slots__ = ("detail", "kind", "tid")

    def __init__(self, tid: int, kind: str, detail: int = 0) -> None:
        self.tid = tid
        self.kind = kind
        self.detail = detail

    def __repr__(self) -> str:
        return f"Stop({self.tid}, {self.kind}, {self.detail})"


class ForeignRegisters(OSError):
    """The task runs another ABI than this machine's native one: its register block has another length."""


class TaskGone(OSError):
    """The task ended while it was being worked on."""


def is_gone(error: OSError) -> bool:
    """Whether a failed ptrace request says that the task has ended (or been killed in its stop)."""
    return error.errno == errno.ESRCH


def seize(tid: int, options: int) -> None:
    """Become the tracer of one task without stopping it; raises CallFailed."""
    libc.ptrace("PTRACE_SEIZE", SEIZE, tid, 0, options)


def interrupt(tid: int) -> None:
    libc.ptrace("PTRACE_INTERRUPT", INTERRUPT, tid)


def resume(tid: int, signal: int = 0) -> None:
    """Let a stopped task run on, delivering a signal if one is given; a task already gone is no error."""
    _move(CONT, tid, signal)


def step_syscall(tid: int, signal: int = 0) -> None:
    """Let a stopped task run to its next syscall-entry or syscall-exit stop."""
    _move(SYSCALL, tid, signal)


def listen(tid: int) -> None:
    """Leave a task in its group-stop, but hear of its end."""
    _move(LISTEN, tid, 0)


def detach(tid: int, signal: int = 0) -> None:
    """Let a stopped task go its own way; raises CallFailed."""
    libc.ptrace("PTRACE_DETACH", DETACH, tid, 0, signal)


def set_options(tid: int, options: int) -> None:
    libc.ptrace("PTRACE_SETOPTIONS", SETOPTIONS, tid, 0, options)


def _move(request: int, tid: int, signal: int) -> None:
    try:
        libc.ptrace("resuming", request, tid, 0, signal)
    except libc.CallFailed as error:
        # A SIGKILL between its stop and now: its end is reported next.
        if not is_gone(error):
            raise


def wait(tid: int = -1, flags: int = 0) -> Stop | None:
    """The next stop of one task or (-1) of any; None with WNOHANG and nothing to report.

    Raises ChildProcessError when there is no such tracee (any more).
    """
    found, status = posix.waitpid(tid, libc.WALL | flags)
    return classify(found, status) if found else None


# Stops of other tasks that came while one was waited for; wait_stop() gives them out.
_put_off: list[Stop] = []
_LOOKS = 100


def wait_stop(tid: int = -1) -> Stop:
    """The next stop, waiting for it without bound."""
    for index, earlier in enumerate(_put_off):
        if tid in (-1, earlier.tid):
            return _put_off.pop(index)
    return _next_stop(tid)


def _next_stop(tid: int) -> Stop:
    stop = wait(tid)
    if stop is None:
        raise ChildProcessError(errno.ECHILD, "waitpid returned nothing")
    return stop


def wait_stop_of(tid: int) -> Stop:
    """The next stop of one task; those of others are put off, but their ends reaped at once.

    Waiting for the one alone could block for ever: a killed pid namespace's init ends only when nobody else is left in
    there (zap_pid_ns_processes), and its own other tasks stay until their tracer has reaped them. So it is looked at a
    few times first, which costs the same however many there are; waiting for any walks over all (do_wait).
    """
    for _ in range(_LOOKS):
        try:
            seen = wait(tid, libc.WNOHANG)
        except ChildProcessError:
            break
        if seen is not None:
            return seen
        posix.sched_yield()
    while (stop := _next_stop(-1)).tid != tid:
        _put_off.append(stop)
    return stop


def classify(tid: int, status: int) -> Stop:
    """Tell what a wait status means."""
    if status & 0xFF != 0x7F:
        return Stop(tid, GONE, status)
    signal, event = status >> 8 & 0xFF, status >> 16
    if event == _EVENT_STOP:
        if signal in (_SIGSTOP, _SIGTSTP, _SIGTTIN, _SIGTTOU):
            return Stop(tid, GROUP, signal)
        return Stop(tid, HALTED)
    if event == _EVENT_EXEC:
        return Stop(tid, EXEC, event_message(tid))
    if event == _EVENT_CLONE:
        return Stop(tid, CLONE, event_message(tid))
    if event:
        return Stop(tid, OTHER, event)
    if signal == _SIGTRAP | 0x80:
        return Stop(tid, _syscall_stop(tid))
    return Stop(tid, SIGNAL, signal)


def _syscall_stop(tid: int) -> str:
    info = bytearray(88)
    try:
        libc.ptrace("PTRACE_GET_SYSCALL_INFO", GET_SYSCALL_INFO, tid, len(info), libc.address(info))
    except libc.CallFailed as error:
        if is_gone(error):
            return OTHER
        raise
    return {1: ENTRY, 2: EXIT}.get(info[0], OTHER)


def event_message(tid: int) -> int:
    """The event's message: a new task's number, or the former number of an exec'ing one (0 when it is gone)."""
    word = bytearray(8)
    try:
        libc.ptrace("PTRACE_GETEVENTMSG", GETEVENTMSG, tid, 0, libc.address(word))
    except libc.CallFailed as error:
        if not is_gone(error):
            raise
    return int(_WORD.unpack(word)[0])


def registers(tid: int) -> bytes:
    """The general registers of a stopped task; raises ForeignRegisters for one of another ABI."""
    block = bytearray(_ROOM)
    vector = bytearray(_IOVEC.pack(libc.address(block), _ROOM))
    libc.ptrace("PTRACE_GETREGSET", GETREGSET, tid, _NT_PRSTATUS, libc.address(vector))
    length = _IOVEC.unpack(vector)[1]
    if length != LAYOUT.REGISTERS:
        raise ForeignRegisters(
            errno.ENOEXEC, f"task {tid} has a register block of {length} bytes: it is no {LAYOUT.MACHINE} task"
        )
    return bytes(block[:length])


def set_registers(tid: int, block: bytes) -> None:
    held = bytearray(block)
    vector = bytearray(_IOVEC.pack(libc.address(held), len(held)))
    libc.ptrace("PTRACE_SETREGSET", SETREGSET, tid, _NT_PRSTATUS, libc.address(vector))


def signal_mask(tid: int) -> int:
    """The task's blocked signals, bit N-1 = signal N."""
    word = bytearray(8)
    libc.ptrace("PTRACE_GETSIGMASK", GETSIGMASK, tid, 8, libc.address(word))
    return int(_WORD.unpack(word)[0])


def set_signal_mask(tid: int, mask: int) -> None:
    word = bytearray(_WORD.pack(mask))
    libc.ptrace("PTRACE_SETSIGMASK", SETSIGMASK, tid, 8, libc.address(word))


def seccomp_filter(tid: int, index: int) -> bytes:
    """One filter of a stopped task as packed struct sock_filter; index 0 is the oldest.

    Raises CallFailed: ENOENT past the newest, EACCES for a reader without CAP_SYS_ADMIN in the initial user namespace
    or under a filter itself.
    """
    attempted = "PTRACE_SECCOMP_GET_FILTER"
    program = bytearray(8 * libc.ptrace(attempted, SECCOMP_GET_FILTER, tid, index))
    libc.ptrace(attempted, SECCOMP_GET_FILTER, tid, index, libc.address(program))
    return bytes(program)


class Memory:
    """A tracee's memory by process_vm_readv(2) and process_vm_writev(2).

    /proc/PID/mem belongs to the process's user: opening it would take CAP_DAC_OVERRIDE besides CAP_SYS_PTRACE.
    """

    __slots__ = ("_pid",)

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def read(self, at: int, length: int) -> bytes:
        """Raises CallFailed, also for less than the whole."""
        data = bytearray(length)
        self._copy("reading", LAYOUT.PROCESS_VM_READV, at, data)
        return bytes(data)

    def write(self, at: int, data: bytes) -> None:
        """Raises CallFailed, also for less than the whole."""
        self._copy("writing", LAYOUT.PROCESS_VM_WRITEV, at, bytearray(data))

    def _copy(self, what: str, number: int, at: int, data: bytearray) -> None:
        attempted = f"{what} {len(data)} bytes of process {self._pid}'s memory"
        here = bytearray(_IOVEC.pack(libc.address(data), len(data)))
        there = bytearray(_IOVEC.pack(at, len(data)))
        copied = libc.call(attempted, number, self._pid, libc.address(here), 1, libc.address(there), 1, 0)
        if copied != len(data):
            raise libc.CallFailed(attempted, errno.EFAULT)
