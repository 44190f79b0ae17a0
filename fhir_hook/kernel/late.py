"""The late stage: filters and capability sets, injected at execve's exit stop, before the first instruction."""

from __future__ import annotations

import errno

from fhir_hook.core.plan import Capabilities, LivePlan
from fhir_hook.kernel import inject, libc, procfs, ptrace
from fhir_hook.kernel.arch.native import LAYOUT
from fhir_hook.kernel.failure import AttachError

_FILTER_MODE = 2
_LAST_CAPABILITY = 63


class Outcome:
    """What was seen to be in force, after the fact.

    filters_before and filters_after count the process's seccomp filters, read_back says that the kernel's copies of the
    plan's filters were compared byte for byte (reasons says why not), ids are the (real, effective, saved, filesystem)
    user and group ids.
    """

    __slots__ = (
        "capabilities",
        "filters_after",
        "filters_before",
        "ids",
        "no_new_privs",
        "read_back",
        "reasons",
        "seccomp",
    )

    def __init__(
        self, seen: procfs.Status, filters_before: int, filters_after: int, read_back: bool, reasons: tuple[str, ...]
    ) -> None:
        self.filters_before = filters_before
        self.filters_after = filters_after
        self.read_back = read_back
        self.reasons = reasons
        self.capabilities = seen.capabilities
        self.no_new_privs = seen.no_new_privs
        self.seccomp = seen.seccomp
        self.ids = (seen.uids, seen.gids)


def target(plan: LivePlan, now: Capabilities) -> Capabilities:
    """The sets that the process is to end with, given those it has after execve.

    Permitted is also cut to bounding and inheritable: what execve can grant (capabilities(7), transformation), so that
    the sets raised for the runtime's sake in the early stage end as if they had never been there.
    """
    if plan.complain:
        return now
    left = now.meet(plan.left)
    left.permitted &= plan.left.bounding | plan.left.inheritable
    left.effective &= left.permitted
    left.ambient &= left.permitted & left.inheritable
    return left


def install(pid: int, plan: LivePlan, options: int, base: int) -> Outcome:
    """Put the plan in force in a process at execve's exit stop, and verify it.

    options are the ptrace options in force; base is how many filters the process had before the early stage, which a
    complain plan's filters came right after. Raises AttachError, inject.InjectedFailed, ptrace.TaskGone,
    ptrace.ForeignRegisters, OSError.
    """
    before = procfs.status(pid)
    _early_held(plan, before)
    if procfs.tasks(pid) != [pid]:
        raise AttachError("tasks-left", "execve left more than one task in the process")
    wanted = target(plan, before.capabilities)
    if not plan.complain:
        _inject(pid, plan, options, before, wanted)
    return _verify(pid, plan, before, wanted, base)


def _early_held(plan: LivePlan, now: procfs.Status) -> None:
    if now.filters is None:
        raise AttachError("not-verifiable", "the kernel doesn't count filters in /proc/PID/status (Linux 5.9 does)")
    if plan.complain or not plan.no_new_privs:
        return
    if not now.no_new_privs:
        raise AttachError("early-not-in-force", "the task that called execve lacked no_new_privs")
    # A setuid program's execve changes the effective id alone; no_new_privs keeps the kernel from doing it at all.
    if len(set(now.uids)) > 1 or len(set(now.gids)) > 1:
        raise AttachError("ids-changed", f"execve changed ids: users {now.uids}, groups {now.gids}")


def _inject(pid: int, plan: LivePlan, options: int, before: procfs.Status, wanted: Capabilities) -> None:
    memory = ptrace.Memory(pid)
    task = inject.Borrowed(pid, pid, inject.gadget(pid, memory), in_exit_stop=True)
    suspended = _suspend(pid, options)
    scratch = inject.Scratch(task, memory, inject.room(plan.filters))
    _drop(task, scratch, before.capabilities, wanted)
    for program in plan.filters:
        scratch.seccomp(task, program, libc.SECCOMP_FILTER_FLAG_LOG if plan.logged else 0)
    _unmap(task, scratch)
    task.give_back()
    if suspended:
        ptrace.set_options(pid, options)


def _suspend(pid: int, options: int) -> bool:
    """Keep filters (the runtime's own, and ours after the first) from judging the injected calls, where permitted."""
    try:
        ptrace.set_options(pid, options | ptrace.O_SUSPEND_SECCOMP)
    except libc.CallFailed as error:
        # EPERM: not root in the initial user namespace, or under a filter itself. EINVAL: kernel built without it.
        if error.errno in (errno.EPERM, errno.EINVAL):
            return False
        raise
    return True


def _drop(task: inject.Borrowed, scratch: inject.Scratch, now: Capabilities, wanted: Capabilities) -> None:
    # Normally the early stage and the runtime have done it; only a process with CAP_SETPCAP can still be helped here.
    for capability in range(_LAST_CAPABILITY + 1):
        if (now.bounding & ~wanted.bounding) >> capability & 1:
            task.command(f"PR_CAPBSET_DROP {capability}", LAYOUT.PRCTL, libc.PR_CAPBSET_DROP, capability)
    for capability in range(_LAST_CAPABILITY + 1):
        if (now.ambient & ~wanted.ambient) >> capability & 1:
            task.command(
                f"PR_CAP_AMBIENT_LOWER {capability}",
                LAYOUT.PRCTL,
                libc.PR_CAP_AMBIENT,
                libc.PR_CAP_AMBIENT_LOWER,
                capability,
            )
    scratch.capset(task, wanted.effective, wanted.permitted, wanted.inheritable)


def _unmap(task: inject.Borrowed, scratch: inject.Scratch) -> None:
    try:
        scratch.unmap(task)
    except inject.InjectedFailed as error:
        # The new filter may deny munmap where it can't be suspended: one page that holds the filter stays, no harm.
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise


def _verify(pid: int, plan: LivePlan, before: procfs.Status, wanted: Capabilities, base: int) -> Outcome:
    after = procfs.status(pid)
    # A complain plan's filters are there since the early stage, below the runtime's own.
    first, already = (base, len(plan.filters)) if plan.complain else (before.filters or 0, 0)
    counted, expected = after.filters or 0, (before.filters or 0) - already + len(plan.filters)
    if after.capabilities != wanted:
        raise AttachError("not-in-force", f"capability sets are {after.capabilities!r}, wanted {wanted!r}")
    if not plan.complain and plan.no_new_privs and not after.no_new_privs:
        raise AttachError("not-in-force", "no_new_privs is not set")
    if (after.uids, after.gids) != (before.uids, before.gids):
        raise AttachError("not-in-force", "the ids changed")
    if plan.filters and after.seccomp != _FILTER_MODE:
        raise AttachError("not-in-force", f"seccomp mode is {after.seccomp}")
    if counted != expected or counted < first + len(plan.filters):
        raise AttachError("not-in-force", f"the process has {counted} filters, wanted {expected}")
    read_back, reasons = _compare(pid, plan.filters, first)
    return Outcome(after, counted - len(plan.filters), counted, read_back, reasons)


def _compare(pid: int, programs: tuple[bytes, ...], first: int) -> tuple[bool, tuple[str, ...]]:
    for index, program in enumerate(programs):
        try:
            seen = ptrace.seccomp_filter(pid, first + index)
        except libc.CallFailed as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EIO, errno.EINVAL):
                return False, (f"not read back: {error}",)
            raise
        if seen != program:
            raise AttachError("not-in-force", f"the kernel's copy of filter {index} differs from the plan's")
    return True, ()
