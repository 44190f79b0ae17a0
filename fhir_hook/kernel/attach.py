"""Attaching a plan to a container's first process between its runtime's set-up and its first instruction.

Order, which Seizure keeps: of -> prepare -> run_to_exec -> install -> release; kill is right at any time.
From `of` on the process can't outlive this one (PTRACE_O_EXITKILL): whatever goes wrong here, it never runs unconfined.
"""

from __future__ import annotations

import errno
import posix

from fhir_hook.core.plan import LivePlan
from fhir_hook.kernel import early, inject, late, libc, procfs, ptrace
from fhir_hook.kernel.failure import AttachError, NeverStarted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

OPTIONS = ptrace.O_TRACESYSGOOD | ptrace.O_TRACEEXEC | ptrace.O_TRACECLONE | ptrace.O_EXITKILL
_SIGKILL = 9
# What the operations below raise besides AttachError; ptrace.TaskGone and libc.CallFailed are OSErrors too.
_FAILURES = (OSError, KeyError, ValueError)

_SEIZED, _PREPARED, _AT_EXEC, _INSTALLED, _OVER = "seized", "prepared", "at exec", "installed", "over"


class Seizure:
    """A container's init whose every task is traced by this process."""

    __slots__ = ("_base", "_group_stopped", "_plan", "_stage", "_tasks", "identity", "pid")

    def __init__(self, identity: procfs.Identity, plan: LivePlan) -> None:
        self.identity = identity
        self.pid = identity.pid
        self._plan = plan
        self._tasks: set[int] = set()
        self._group_stopped: set[int] = set()
        self._base = 0
        self._stage = _SEIZED

    @classmethod
    def of(cls, pid: int, plan: LivePlan, identity: procfs.Identity | None = None) -> Seizure:
        """Seize every task of the process; identity is what was noted of it before, if that was some time ago.

        Raises NeverStarted when it is gone, AttachError when another process has its number or it may not be traced.
        """
        try:
            seizure = cls(identity or procfs.Identity(pid), plan)
            seizure._seize_all()
        except OSError as error:
            raise _explained(pid, error, _not_permitted(pid)) from error
        if not seizure.identity.holds():
            raise NeverStarted(f"process {pid} ended, or is another one than it was, while it was seized")
        return seizure

    def _seize_all(self) -> None:
        # A task that isn't seized yet can make new ones meanwhile: done when a whole pass finds none.
        found = True
        while found:
            found = False
            for tid in procfs.tasks(self.pid):
                if tid not in self._tasks:
                    found = self._seize(tid) or found
        if self.pid not in self._tasks:
            raise ProcessLookupError(errno.ESRCH, "no such process")

    def _seize(self, tid: int) -> bool:
        try:
            ptrace.seize(tid, OPTIONS)
        except libc.CallFailed as error:
            if ptrace.is_gone(error):
                return False
            # PTRACE_O_TRACECLONE has made this process the tracer of a task that a seized one created.
            if error.errno != errno.EPERM or not self._is_ours(tid):
                raise
        self._tasks.add(tid)
        return True

    def _is_ours(self, tid: int) -> bool:
        try:
            return procfs.status(self.pid, tid).tracer == posix.getpid()
        except (FileNotFoundError, ProcessLookupError):
            return False

    def prepare(self) -> None:
        """Put the early stage in force in every task. Raises AttachError; the caller then kills."""
        self._expect(_SEIZED)
        try:
            self._halt()
            now = procfs.status(self.pid)
            self._base = now.filters or 0
            early.prepare(self.pid, sorted(self._tasks), self._plan)
            if set(procfs.tasks(self.pid)) != self._tasks:
                raise AttachError("early-not-in-force", "a task appeared that isn't traced")
            for tid in self._tasks:
                (ptrace.listen if tid in self._group_stopped else ptrace.resume)(tid)
        except _FAILURES as error:
            raise self._failure(error, "early-failed") from error
        self._stage = _PREPARED

    def _halt(self) -> None:
        """Bring every task into an event stop."""
        for tid in self._tasks:
            self._interrupt(tid)
        halted: set[int] = set()
        while halted != self._tasks or self._born():
            stop = ptrace.wait_stop()
            if stop.kind in (ptrace.HALTED, ptrace.GROUP) and self._is_task(stop.tid):
                halted.add(stop.tid)
                self._tasks.add(stop.tid)
                if stop.kind == ptrace.GROUP:
                    self._group_stopped.add(stop.tid)
            elif stop.kind == ptrace.EXEC:
                raise AttachError("exec-too-early", "the process called execve before it was prepared")
            else:
                self._pass_on(stop)
                # Any other stop takes a pending interrupt away (ptrace_stop in kernel/signal.c).
                if stop.tid in self._tasks:
                    self._interrupt(stop.tid)
                halted &= self._tasks

    def _interrupt(self, tid: int) -> None:
        try:
            ptrace.interrupt(tid)
        except libc.CallFailed as error:
            if not ptrace.is_gone(error):
                raise

    def _born(self) -> bool:
        """Take in the tasks that a seized one made just before it halted: their own first stop is still to come."""
        new = {tid for tid in procfs.tasks(self.pid) if tid not in self._tasks and self._is_ours(tid)}
        self._tasks |= new
        return bool(new)

    def run_to_exec(self) -> None:
        """Keep every task moving until one calls execve, and stop it where that call returns.

        Waits without bound (a container that is created but not started). Raises NeverStarted when the process ends
        before, AttachError.
        """
        self._expect(_PREPARED)
        try:
            while (stop := ptrace.wait_stop()).kind != ptrace.EXEC or stop.tid != self.pid:
                self._pass_on(stop)
            # All other tasks are gone, and whichever called execve has the leader's number now.
            self._tasks = {self.pid}
            # execve hasn't returned: its result would overwrite the registers of an injected call.
            ptrace.step_syscall(self.pid)
            while (stop := ptrace.wait_stop(self.pid)).kind != ptrace.EXIT:
                if stop.kind == ptrace.GONE:
                    raise NeverStarted(f"process {self.pid} ended in execve")
                ptrace.step_syscall(self.pid)
        except _FAILURES as error:
            raise self._failure(error, "lost") from error
        self._stage = _AT_EXEC

    def _pass_on(self, stop: ptrace.Stop) -> None:
        """Let the program go on as it would without a tracer."""
        if stop.kind == ptrace.GONE:
            self._tasks.discard(stop.tid)
            if stop.tid == self.pid:
                raise NeverStarted(f"process {self.pid} ended before it called execve (wait status {stop.detail:#x})")
        elif stop.kind == ptrace.GROUP:
            ptrace.listen(stop.tid)
        elif stop.kind == ptrace.HALTED and not self._is_task(stop.tid):
            # A process of its own that init made with clone and an odd exit signal: a helper of the runtime.
            ptrace.detach(stop.tid)
        else:
            if stop.kind == ptrace.HALTED:
                self._tasks.add(stop.tid)
            ptrace.resume(stop.tid, stop.detail if stop.kind == ptrace.SIGNAL else 0)

    def _is_task(self, tid: int) -> bool:
        return tid in self._tasks or tid in procfs.tasks(self.pid)

    def install(self) -> late.Outcome:
        """Put the late stage in force and verify it. Raises AttachError; the caller then kills."""
        self._expect(_AT_EXEC)
        try:
            outcome = late.install(self.pid, self._plan, OPTIONS, self._base)
            if not self.identity.holds():
                raise NeverStarted(f"process {self.pid} ended while the plan was installed")
        except ptrace.ForeignRegisters as error:
            raise AttachError("foreign-abi", f"the entry point is no {'64-bit'} program: {error.strerror}") from error
        except _FAILURES as error:
            raise self._failure(error, "install-failed") from error
        self._stage = _INSTALLED
        return outcome

    def release(self) -> None:
        """Detach: the process runs its first instruction. Raises NeverStarted when it was killed meanwhile."""
        self._expect(_INSTALLED)
        try:
            ptrace.detach(self.pid)
        except OSError as error:
            raise self._failure(error, "lost") from error
        self._stage = _OVER
        self.identity.close()

    def kill(self) -> None:
        """End the process, whatever state it is in, and wait for its end."""
        try:
            libc.pidfd_send_signal(self.identity.pidfd, _SIGKILL)
        except libc.CallFailed as error:
            # ESRCH: gone already. EPERM (other user, no CAP_KILL): EXITKILL ends it when this process exits.
            if error.errno not in (errno.ESRCH, errno.EPERM):
                raise
            if error.errno == errno.EPERM:
                return
        self._stage = _OVER
        try:
            # The leader is reported last: after every other task was waited for.
            while (stop := ptrace.wait_stop()).tid != self.pid or stop.kind != ptrace.GONE:
                pass
        except ChildProcessError:
            return

    def _expect(self, stage: str) -> None:
        if self._stage != stage:
            raise RuntimeError(f"the seizure is {self._stage}, not {stage}")

    def _failure(self, error: Exception, reason: str) -> AttachError:
        # What a dying process answers is arbitrary: its end is the explanation.
        if not self.identity.holds():
            return NeverStarted(f"process {self.pid} ended: {error}")
        return _explained(self.pid, error, reason)


def _explained(pid: int, error: Exception, reason: str) -> AttachError:
    if isinstance(error, inject.InjectedFailed):
        return AttachError(reason, f"process {pid}: {error}")
    if isinstance(error, (ptrace.TaskGone, ProcessLookupError, ChildProcessError, FileNotFoundError)):
        return NeverStarted(f"process {pid} ended: {error}")
    if isinstance(error, OSError) and error.errno == errno.ESRCH:
        return NeverStarted(f"process {pid} ended: {error}")
    return AttachError(reason, f"process {pid}: {error}")


def _not_permitted(pid: int) -> str:
    """Tell apart an init that nobody here may trace: undumpable, which shows in who owns its /proc files."""
    try:
        if posix.stat(f"/proc/{pid}/mem").st_uid != procfs.status(pid).uids[1]:
            return "undumpable"
    except OSError:
        pass
    return "not-permitted"


def confine(seizure: Seizure, record: Callable[[late.Outcome], None]) -> late.Outcome:
    """From a prepared seizure to a running, confined program; record is called before it runs.

    Whatever fails, record included, the process is killed. Raises AttachError; an OSError of record becomes one.
    """
    try:
        seizure.run_to_exec()
        outcome = seizure.install()
        try:
            record(outcome)
        except OSError as error:
            raise AttachError("not-recorded", str(error)) from error
        seizure.release()
    except BaseException:
        seizure.kill()
        raise
    return outcome
