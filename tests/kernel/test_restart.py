"""A task that is interrupted, made to call for the tracer, and let go, never notices."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from fhir_hook.kernel import inject, procfs, ptrace
from kernel.driver import Victim, in_child, wait_until

GETPID, GETTID = 39, 186
START = Callable[..., Victim]


def inject_twice(pid: int) -> None:
    """Twice: interrupt, make two calls, give back, resume; then detach."""
    ptrace.seize(pid, ptrace.O_TRACESYSGOOD)
    memory = ptrace.Memory(pid)
    for _ in range(2):
        ptrace.interrupt(pid)
        assert ptrace.wait_stop(pid).kind == ptrace.HALTED
        task = inject.Borrowed(pid, pid, inject.gadget(pid, memory))
        assert task.call("getpid", GETPID) == pid
        assert task.call("gettid", GETTID) == pid
        task.give_back()
        ptrace.resume(pid)
        time.sleep(0.05)
    ptrace.interrupt(pid)
    assert ptrace.wait_stop(pid).kind == ptrace.HALTED
    ptrace.detach(pid)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("nanosleep", "0 0"),
        ("clock_nanosleep", "0 0"),
        ("poll", "0 0"),
        ("ppoll", "0 0"),
        ("select", "0 0"),
        ("futex", "-1 110"),
        ("futex-bitset", "-1 110"),
        ("wait", "1 0"),
        ("compute", "0 0"),
    ],
)
def test_a_call_that_was_interrupted_ends_as_if_it_had_not_been(start: START, call: str, answer: str) -> None:
    victim = start("blocked", call)
    time.sleep(0.1)
    in_child(lambda: inject_twice(victim.pid))
    output, code = victim.finish()
    result, number, milliseconds = output.split()
    assert (f"{result} {number}", code) == (answer, 0)
    assert 590 <= int(milliseconds) < 1500


def test_a_blocked_read_still_gets_its_byte(start: START) -> None:
    victim = start("blocked", "read")
    time.sleep(0.1)
    in_child(lambda: inject_twice(victim.pid))
    victim.go()
    assert victim.finish()[0].startswith("1 0 ")


def test_a_signal_sent_meanwhile_is_delivered_afterwards(start: START) -> None:
    victim = start("blocked", "pause")

    def work() -> None:
        ptrace.seize(victim.pid, ptrace.O_TRACESYSGOOD)
        ptrace.interrupt(victim.pid)
        assert ptrace.wait_stop(victim.pid).kind == ptrace.HALTED
        memory = ptrace.Memory(victim.pid)
        task = inject.Borrowed(victim.pid, victim.pid, inject.gadget(victim.pid, memory))
        os.kill(victim.pid, signal.SIGUSR1)
        assert task.call("getpid", GETPID) == victim.pid
        task.give_back()
        ptrace.resume(victim.pid)
        stop = ptrace.wait_stop(victim.pid)
        assert (stop.kind, stop.detail) == (ptrace.SIGNAL, signal.SIGUSR1)
        ptrace.detach(victim.pid, stop.detail)

    time.sleep(0.1)
    in_child(work)
    assert victim.finish()[0].startswith("-1 4 ")


def test_a_stop_signal_sent_meanwhile_is_held_back_and_then_stops_it(start: START) -> None:
    victim = start("blocked", "poll")

    def work() -> None:
        ptrace.seize(victim.pid, ptrace.O_TRACESYSGOOD)
        ptrace.interrupt(victim.pid)
        assert ptrace.wait_stop(victim.pid).kind == ptrace.HALTED
        memory = ptrace.Memory(victim.pid)
        task = inject.Borrowed(victim.pid, victim.pid, inject.gadget(victim.pid, memory))
        os.kill(victim.pid, signal.SIGSTOP)
        assert task.call("getpid", GETPID) == victim.pid
        task.give_back()
        ptrace.resume(victim.pid)
        stop = ptrace.wait_stop(victim.pid)
        assert (stop.kind, stop.detail) == (ptrace.SIGNAL, signal.SIGSTOP)
        ptrace.detach(victim.pid, stop.detail)

    time.sleep(0.1)
    in_child(work)
    wait_until(lambda: procfs.status(victim.pid).state == "T")
    os.kill(victim.pid, signal.SIGCONT)
    assert victim.finish()[0].startswith("0 0 ")


def test_a_failed_call_says_what_was_attempted_and_the_errno_by_name(start: START) -> None:
    victim = start("blocked", "pause")

    def work() -> str:
        ptrace.seize(victim.pid, ptrace.O_TRACESYSGOOD | ptrace.O_SUSPEND_SECCOMP)
        ptrace.interrupt(victim.pid)
        ptrace.wait_stop(victim.pid)
        memory = ptrace.Memory(victim.pid)
        task = inject.Borrowed(victim.pid, victim.pid, inject.gadget(victim.pid, memory))
        with pytest.raises(inject.InjectedFailed) as caught:
            task.call("close", 3, 12345)
        return str(caught.value)

    assert in_child(work) == f"close in task {victim.pid}: EBADF (Bad file descriptor)"
