"""The early stage: what must be in force before execve, injected into every task of the runtime's init.

- no_new_privs before execve makes setuid and file-capability entry points harmless, as on the native path.
- The bounding set shrinks now: after execve a process without CAP_SETPCAP can't drop from it any more.
- A complain plan's filters are attached now, while init still has CAP_SYS_ADMIN, so that no_new_privs can stay unset.
"""

from __future__ import annotations

from fhir_hook.core.plan import Capabilities, LivePlan
from fhir_hook.kernel import inject, libc, procfs, ptrace
from fhir_hook.kernel.arch.native import LAYOUT
from fhir_hook.kernel.failure import AttachError

_LAST_CAPABILITY = 63


def bounding_to_drop(plan: LivePlan, now: Capabilities) -> int:
    """Capabilities to drop from the bounding set: asked for, not left. The runtime drops the rest itself."""
    return plan.asked.bounding & ~plan.left.bounding & now.bounding


def inheritable_needed(plan: LivePlan, now: Capabilities) -> int:
    """Capabilities to make inheritable before the bounding set shrinks.

    The runtime will call capset with the configuration's own inheritable set, and the kernel refuses (cap_capset,
    security/commoncap.c) what is in neither the old inheritable nor the bounding set. The late stage takes them away.
    """
    wanted = (plan.asked.inheritable | plan.asked.ambient) & bounding_to_drop(plan, now)
    return wanted & now.permitted & ~now.inheritable


def prepare(pid: int, tids: list[int], plan: LivePlan) -> None:
    """Put the early part in force in each of these tasks, all of which are in an event stop.

    Raises AttachError, inject.InjectedFailed, ptrace.TaskGone, OSError.
    """
    memory = ptrace.Memory(pid)
    at = inject.gadget(pid, memory)
    scratch: inject.Scratch | None = None
    for tid in tids:
        task = inject.Borrowed(pid, tid, at)
        now = procfs.status(pid, tid)
        if scratch is None and _needs_scratch(plan, now.capabilities):
            scratch = inject.Scratch(task, memory, inject.room(plan.filters if plan.complain else ()))
        _prepare_task(task, plan, now, scratch)
        if scratch is not None and tid == tids[-1]:
            scratch.unmap(task)
        task.give_back()
    _verify(pid, tids, plan)


def _needs_scratch(plan: LivePlan, now: Capabilities) -> bool:
    return plan.complain or bool(inheritable_needed(plan, now))


def _prepare_task(task: inject.Borrowed, plan: LivePlan, now: procfs.Status, scratch: inject.Scratch | None) -> None:
    if plan.complain:
        for program in plan.filters:
            if scratch is not None:
                scratch.seccomp(task, program)
        return
    held = now.capabilities
    more = inheritable_needed(plan, held)
    if more and scratch is not None:
        scratch.capset(task, held.effective, held.permitted, held.inheritable | more)
    drop = bounding_to_drop(plan, held)
    for capability in range(_LAST_CAPABILITY + 1):
        if drop >> capability & 1:
            task.command(f"PR_CAPBSET_DROP {capability}", LAYOUT.PRCTL, libc.PR_CAPBSET_DROP, capability)
    if plan.no_new_privs and not now.no_new_privs:
        task.command("PR_SET_NO_NEW_PRIVS", LAYOUT.PRCTL, libc.PR_SET_NO_NEW_PRIVS, 1)


def _verify(pid: int, tids: list[int], plan: LivePlan) -> None:
    for tid in tids:
        now = procfs.status(pid, tid)
        if plan.complain:
            if plan.filters and now.seccomp != 2:
                raise AttachError("early-not-in-force", f"task {tid} has no filter")
        elif plan.no_new_privs and not now.no_new_privs:
            raise AttachError("early-not-in-force", f"task {tid} lacks no_new_privs")
        elif left := bounding_to_drop(plan, now.capabilities):
            raise AttachError("early-not-in-force", f"task {tid} still has {left:#x} in its bounding set")
