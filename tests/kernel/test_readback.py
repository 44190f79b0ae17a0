"""Reading filters of running tasks back, and what /proc says of a process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fhir_hook.core.plan import Capabilities
from fhir_hook.kernel import libc, procfs, readback
from kernel.driver import GETPPID, Victim, bpf, confined, in_child, plan, wait_until

START = Callable[..., Victim]


def test_filters_of_a_running_process_come_back_oldest_first(start: START, victims: Path) -> None:
    victim = start("init", victims / "blocked", "nanosleep")
    two = plan(filters=2)
    two.filters = (bpf({GETPPID: 1}), bpf({111: 2, 112: 3}))
    confined(victim, two)
    wait_until(lambda: procfs.status(victim.pid).name == "blocked")
    time.sleep(0.1)
    assert in_child(lambda: readback.filters(victim.pid)) == list(two.filters)
    assert victim.finish()[0].split()[1:3] == ["0", "0"]


def test_a_process_without_filters_has_none(start: START) -> None:
    victim = start("blocked", "pause")
    assert in_child(lambda: readback.filters(victim.pid)) == []


def test_a_stopped_process_stays_stopped(start: START) -> None:
    victim = start("blocked", "pause")
    os.kill(victim.pid, signal.SIGSTOP)
    wait_until(lambda: procfs.status(victim.pid).state == "T")
    assert in_child(lambda: readback.filters(victim.pid)) == []
    wait_until(lambda: procfs.status(victim.pid).state == "T")


def test_reading_back_without_cap_sys_admin_says_so_by_errno(start: START) -> None:
    victim = start("blocked", "pause")

    def work() -> list[bytes]:
        from fhir_hook.kernel import hardening

        hardening.hook("test")
        import prctl

        prctl.cap_effective.drop("sys_admin")
        return readback.filters(victim.pid)

    with pytest.raises(libc.CallFailed, match="PTRACE_SECCOMP_GET_FILTER of task .*: EACCES"):
        in_child(work)


def test_status_tells_ids_capabilities_and_seccomp_of_each_task(start: START, victims: Path) -> None:
    victim = start("init", "-t", "4", victims / "look")
    seen = procfs.status(victim.pid)
    assert (seen.tgid, seen.seccomp, seen.filters, seen.no_new_privs) == (victim.pid, 0, 0, False)
    assert seen.uids == seen.gids == (0, 0, 0, 0)
    assert seen.capabilities.ambient == 0
    assert seen.capabilities == procfs.status(os.getpid()).capabilities
    assert len(procfs.tasks(victim.pid)) == 5
    assert {procfs.status(victim.pid, tid).tgid for tid in procfs.tasks(victim.pid)} == {victim.pid}


def test_status_of_a_kernel_that_does_not_count_filters() -> None:
    lines = "Name:\tx\nState:\tS (sleeping)\nTgid:\t1\nTracerPid:\t0\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n"
    caps = "CapInh:\t1\nCapPrm:\t2\nCapEff:\t4\nCapBnd:\t8\nCapAmb:\t10\nNoNewPrivs:\t1\nSeccomp:\t2\n"
    seen = procfs.Status(lines + caps)
    assert (seen.filters, seen.seccomp, seen.no_new_privs, seen.uids) == (None, 2, True, (1, 2, 3, 4))
    assert seen.capabilities == Capabilities(8, 4, 2, 1, 16)


def test_the_start_time_is_read_past_any_process_name(victims: Path) -> None:
    odd = victims / "a) b (c 1"
    odd.write_bytes((victims / "blocked").read_bytes())
    odd.chmod(0o755)
    victim = Victim(odd, "pause")
    assert procfs.start_time(victim.pid) > 0
    victim.end()


def test_an_identity_holds_while_the_process_lives(start: START) -> None:
    victim = start("blocked", "pause")
    identity = procfs.Identity(victim.pid)
    assert identity.holds()
    os.kill(victim.pid, signal.SIGKILL)
    wait_until(lambda: not identity.holds())
    victim.end()
    assert not identity.holds()
    identity.close()


def test_a_process_that_is_gone_has_no_tasks(start: START) -> None:
    victim = start("blocked", "pause")
    victim.end()
    assert procfs.tasks(victim.pid) == []
    with pytest.raises(FileNotFoundError):
        procfs.status(victim.pid)
    with pytest.raises(libc.CallFailed, match="pidfd_open of process .*: ESRCH"):
        procfs.Identity(victim.pid)


def test_namespaces_cgroups_and_id_maps_are_read() -> None:
    me = os.getpid()
    assert procfs.uid_map(me)[0][0] == 0
    assert procfs.pid_namespace(me) == os.readlink("/proc/self/ns/pid")
    assert all(path.startswith("/") for path in procfs.cgroups(me).values())


def test_failures_in_threads_keep_their_own_errno() -> None:
    failures = []

    def fail() -> None:
        try:
            libc.pidfd_open(2**22 + 1)
        except libc.CallFailed as error:
            failures.append(error.errno)

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(failures) <= {3, 22}
    assert len(failures) == 4
