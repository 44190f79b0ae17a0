"""Reading the filters of a running task: a short stop, the kernel's copies, on it goes."""

from __future__ import annotations

import errno
import time

from fhir_hook.kernel import libc, ptrace

_PATIENCE = 1.0  # seconds
_PAUSE = 0.0005


class NotStopping(OSError):
    """The task didn't stop in time: it waits for a vfork child, or in a call that can't be interrupted."""


def filters(tid: int, patience: float = _PATIENCE) -> list[bytes]:
    """The filters of one running task as packed struct sock_filter arrays, oldest first.

    Raises CallFailed: EPERM where this process may not trace the task (it has another tracer, or privileges), EACCES
    without CAP_SYS_ADMIN in the initial user namespace or under a filter; NotStopping, in which case the task is
    traced until this process ends, so take another thread and end soon.
    """
    ptrace.seize(tid, ptrace.O_TRACESYSGOOD)
    ptrace.interrupt(tid)
    stop = _stopped(tid, patience)
    if stop.kind == ptrace.GONE:
        raise ptrace.TaskGone(errno.ESRCH, f"task {tid} ended")
    try:
        return _all(tid)
    finally:
        _leave(tid, stop)


def _stopped(tid: int, patience: float) -> ptrace.Stop:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        stop = ptrace.wait(tid, libc.WNOHANG)
        if stop is not None:
            return stop
        time.sleep(_PAUSE)
    raise NotStopping(errno.ETIMEDOUT, f"task {tid} didn't stop within {patience} s")


def _all(tid: int) -> list[bytes]:
    found: list[bytes] = []
    while True:
        try:
            found.append(ptrace.seccomp_filter(tid, len(found)))
        except libc.CallFailed as error:
            if error.errno == errno.ENOENT or (error.errno == errno.EINVAL and not found):
                # EINVAL: the task has no filter at all.
                return found
            raise


def _leave(tid: int, stop: ptrace.Stop) -> None:
    try:
        # A signal that arrived just then is delivered; a group-stop is kept by the kernel.
        ptrace.detach(tid, stop.detail if stop.kind == ptrace.SIGNAL else 0)
    except libc.CallFailed as error:
        if not ptrace.is_gone(error):
            raise
