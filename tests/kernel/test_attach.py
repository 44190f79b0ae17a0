"""Attaching at exec: what is in force when the program's first instruction runs, however its init behaves."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fhir_hook.core.plan import Capabilities, LivePlan
from fhir_hook.kernel import attach, late, procfs
from fhir_hook.kernel.attach import Seizure
from fhir_hook.kernel.failure import AttachError, NeverStarted
from kernel.driver import (
    KILL,
    NET_BIND_SERVICE,
    NET_RAW,
    SETUID,
    Victim,
    bpf,
    confined,
    fields,
    in_child,
    plan,
    wait_until,
)

START = Callable[..., Victim]
KEPT = f"{KILL | NET_BIND_SERVICE:016x}"


def assert_confined(output: str, permitted: str = KEPT) -> None:
    seen = fields(output)
    assert (seen["NoNewPrivs"], seen["Seccomp"], seen["Seccomp_filters"], seen["getppid"]) == ("1", "2", "1", "EPERM")
    assert (seen["CapBnd"], seen["CapPrm"], seen["CapEff"]) == (KEPT, permitted, permitted)
    assert (seen["CapInh"], seen["CapAmb"], seen["SigBlk"]) == ("0" * 16,) * 3


@pytest.mark.parametrize("how", [(), ("-t", "20"), ("-T",), ("-t", "20", "-T")], ids=" ".join)
def test_the_plan_is_in_force_whichever_thread_calls_execve(start: START, victims: Path, how: tuple[str, ...]) -> None:
    victim = start("init", *how, victims / "look")
    outcome = confined(victim, plan())
    output, code = victim.finish()
    assert code == 0
    assert_confined(output)
    assert (outcome.filters_before, outcome.filters_after, outcome.read_back, outcome.reasons) == (0, 1, True, ())
    assert (outcome.seccomp, outcome.no_new_privs, outcome.ids) == (2, True, ((0,) * 4, (0,) * 4))
    assert outcome.capabilities == plan().left


@pytest.mark.parametrize("how", ["-s", "-f", "-c"], ids=["spawning threads", "forking", "cloning processes"])
@pytest.mark.parametrize("thread", [(), ("-T",)], ids=["leader", "thread"])
def test_attack_an_init_that_forks_or_spawns_while_attached_to(
    start: START, victims: Path, how: str, thread: tuple[str, ...]
) -> None:
    victim = start("init", how, *thread, victims / "look")
    confined(victim, plan(), lambda: time.sleep(0.1))
    output, code = victim.finish()
    assert code == 0
    assert_confined(output)


def test_the_first_call_of_the_entry_point_is_already_denied(start: START, victims: Path) -> None:
    victim = start("init", victims / "first")
    confined(victim, plan())
    assert victim.finish() == ("", 1)


def test_several_filters_are_stacked_in_the_plan_s_order(start: START, victims: Path) -> None:
    victim = start("init", victims / "look")
    two = plan(filters=2)
    two.filters = (bpf({110: 1}), bpf({111: 1}))
    outcome = confined(victim, two)
    assert (outcome.filters_after, outcome.read_back) == (2, True)
    assert fields(victim.finish()[0])["Seccomp_filters"] == "2"


def test_the_longest_filter_fits(start: START, victims: Path) -> None:
    victim = start("init", victims / "look")
    longest = plan()
    padding = struct.pack("<HBBI", 0x20, 0, 0, 0) * (4096 - 4)
    longest.filters = (padding + bpf({110: 1}),)
    assert confined(victim, longest).read_back
    assert_confined(victim.finish()[0])


def test_attack_a_runtime_filter_that_kills_the_injected_calls_is_suspended(start: START, victims: Path) -> None:
    victim = start("init", "-k", victims / "look")
    outcome = confined(victim, plan())
    assert (outcome.filters_before, outcome.filters_after, outcome.read_back) == (1, 2, True)
    seen = fields(victim.finish()[0])
    assert (seen["Seccomp_filters"], seen["CapPrm"], seen["getppid"]) == ("2", KEPT, "EPERM")


def test_attack_setuid_entry_point_of_an_ordinary_user_gains_nothing(start: START, victims: Path) -> None:
    program = copied(victims / "look", "setuid-look")
    program.chmod(0o4755)
    victim = start("init", "-u", "1234", program)
    outcome = confined(victim, plan())
    output, code = victim.finish()
    assert code == 0
    assert fields(output)["Uid"].split() == ["1234"] * 4
    assert_confined(output, "0" * 16)
    assert outcome.ids == ((1234,) * 4, (1234,) * 4)


def test_the_setuid_victim_does_gain_without_the_plan(start: START, victims: Path) -> None:
    program = copied(victims / "look", "setuid-control")
    program.chmod(0o4755)
    victim = start("init", "-u", "1234", program)
    victim.go()
    assert fields(victim.finish()[0])["Uid"].split() == ["1234", "0", "0", "0"]


def test_attack_file_capabilities_of_an_entry_point_gain_nothing(start: START, victims: Path) -> None:
    victim = start("init", "-u", "1234", with_net_raw(copied(victims / "look", "fcaps-look")))
    confined(victim, plan(KILL | NET_RAW))
    seen = fields(victim.finish()[0])
    assert (seen["CapPrm"], seen["CapEff"], seen["CapBnd"]) == ("0" * 16, "0" * 16, f"{KILL | NET_RAW:016x}")


def test_file_capabilities_that_the_plan_does_not_keep_make_execve_fail_as_they_do_natively(
    start: START, victims: Path
) -> None:
    # capabilities(7), safety checking for capability-dumb binaries: the bounding set lacks what the file wants.
    victim = start("init", "-u", "1234", with_net_raw(copied(victims / "look", "fcaps-refused")))
    with pytest.raises(NeverStarted, match="ended before it called execve"):
        confined(victim, plan(KILL))


def test_attack_32_bit_entry_point_is_refused(start: START, victims: Path) -> None:
    program = victims / "i386"
    program.write_bytes(i386_program())
    program.chmod(0o755)
    assert subprocess.run([program], check=False).returncode == 42, "this kernel runs no 32-bit programs"
    victim = start("init", program)
    with pytest.raises(AttachError, match="foreign-abi") as caught:
        confined(victim, plan())
    assert caught.value.reason == "foreign-abi"
    assert victim.finish() == ("", -signal.SIGKILL)


def test_a_complain_plan_attaches_its_filter_and_takes_nothing(start: START, victims: Path) -> None:
    victim = start("init", "-t", "3", "-u", "1234", victims / "look")
    complaining = plan(complain=True)
    complaining.filters = (bpf({}, 0x7FFC0000),)  # SECCOMP_RET_LOG
    outcome = confined(victim, complaining)
    seen = fields(victim.finish()[0])
    assert (seen["NoNewPrivs"], seen["Seccomp"], seen["Seccomp_filters"]) == ("0", "2", "1")
    assert (seen["CapBnd"], seen["getppid"]) == (f"{complaining.asked.bounding:016x}", "allowed")
    assert (outcome.filters_before, outcome.filters_after, outcome.read_back) == (0, 1, True)


def test_signals_for_init_reach_it(start: START, victims: Path) -> None:
    victim = start("init", "-g", "-t", "2", victims / "look")

    def work() -> None:
        seizure = Seizure.of(victim.pid, plan())
        seizure.prepare()
        if os.fork() == 0:
            # Passing it on is the work of run_to_exec; execve must not come first.
            os.kill(victim.pid, signal.SIGUSR1)
            time.sleep(0.2)
            victim.go()
            os._exit(0)
        attach.confine(seizure, lambda _: None)

    in_child(work)
    assert fields(victim.finish()[0])["caught"] == "1"


def test_a_stopped_init_stays_stopped_until_it_is_continued(start: START, victims: Path) -> None:
    victim = start("init", "-t", "3", victims / "look")
    os.kill(victim.pid, signal.SIGSTOP)
    wait_until(lambda: procfs.status(victim.pid).state == "T")

    def continue_later() -> None:
        if os.fork() == 0:
            time.sleep(0.3)
            assert procfs.status(victim.pid).state in "Tt"
            os.kill(victim.pid, signal.SIGCONT)
            os._exit(0)

    confined(victim, plan(), continue_later)
    assert_confined(victim.finish()[0])


@pytest.mark.parametrize("step", ["before", "seized", "prepared", "waiting", "at exec", "installed"])
def test_init_dead_at_each_step_is_noticed(start: START, victims: Path, step: str) -> None:
    victim = start("init", "-t", "5", victims / "look")
    identity = procfs.Identity(victim.pid)
    if step == "before":
        victim.end()

    def killed(now: str) -> None:
        if step == now:
            os.kill(victim.pid, signal.SIGKILL)
            if now != "waiting":
                wait_until(lambda: procfs.status(victim.pid).state in "ZX")

    def work() -> None:
        seizure = Seizure.of(victim.pid, plan(), identity)
        killed("seized")
        seizure.prepare()
        killed("prepared")
        killed("waiting")
        victim.go()
        seizure.run_to_exec()
        killed("at exec")
        seizure.install()
        killed("installed")
        seizure.release()

    with pytest.raises(NeverStarted):
        in_child(work)
    identity.close()


@pytest.mark.parametrize("step", ["seized", "prepared", "at exec", "installed"])
def test_attack_killing_the_attacher_at_each_step_kills_the_container(start: START, victims: Path, step: str) -> None:
    victim = start("init", "-t", "5", victims / "look")

    def work() -> None:
        def die(now: str) -> None:
            if step == now:
                os.kill(os.getpid(), signal.SIGKILL)

        seizure = Seizure.of(victim.pid, plan())
        die("seized")
        seizure.prepare()
        die("prepared")
        victim.go()
        seizure.run_to_exec()
        die("at exec")
        seizure.install()
        die("installed")

    with pytest.raises(AssertionError, match="killed"):
        in_child(work)
    assert victim.process.wait(5) == -signal.SIGKILL


def test_a_record_that_fails_kills_the_container(start: START, victims: Path) -> None:
    victim = start("init", victims / "look")

    def full(_: late.Outcome) -> None:
        raise OSError(28, "No space left on device")

    def work() -> None:
        seizure = Seizure.of(victim.pid, plan())
        seizure.prepare()
        victim.go()
        attach.confine(seizure, full)

    with pytest.raises(AttachError, match="not-recorded"):
        in_child(work)
    assert victim.finish() == ("", -signal.SIGKILL)


def test_the_record_is_written_before_the_program_runs(start: START, victims: Path, tmp_path: Path) -> None:
    victim = start("init", victims / "look")
    written = tmp_path / "record"

    def record(outcome: late.Outcome) -> None:
        written.write_text(f"{outcome.filters_after} {procfs.status(victim.pid).state}")

    def work() -> None:
        seizure = Seizure.of(victim.pid, plan())
        seizure.prepare()
        victim.go()
        attach.confine(seizure, record)

    in_child(work)
    assert written.read_text() == "1 t"
    assert_confined(victim.finish()[0])


def test_a_filter_that_the_kernel_refuses_kills_the_container(start: START, victims: Path) -> None:
    victim = start("init", victims / "look")
    broken = plan()
    broken.filters = (struct.pack("<HBBI", 0xFFFF, 0, 0, 0),)

    def work() -> None:
        seizure = Seizure.of(victim.pid, broken)
        seizure.prepare()
        victim.go()
        attach.confine(seizure, lambda _: None)

    with pytest.raises(AttachError, match="seccomp in task .* EINVAL"):
        in_child(work)
    assert victim.finish() == ("", -signal.SIGKILL)


def test_attack_a_reused_process_number_is_refused(start: START, victims: Path) -> None:
    victim = start("init", victims / "look")
    identity = procfs.Identity(victim.pid)
    identity.started -= 1
    with pytest.raises(NeverStarted, match="another one than it was"):
        in_child(lambda: Seizure.of(victim.pid, plan(), identity))
    identity.close()


def test_steps_in_the_wrong_order_are_refused(start: START, victims: Path) -> None:
    victim = start("init", victims / "look")

    def work() -> None:
        Seizure.of(victim.pid, plan()).install()

    with pytest.raises(RuntimeError, match="seized, not at exec"):
        in_child(work)


def test_a_process_that_another_tracer_holds_is_refused(start: START, victims: Path) -> None:
    victim = start("init", victims / "look")

    def work() -> None:
        Seizure.of(victim.pid, plan())
        in_child(lambda: Seizure.of(victim.pid, plan()))

    with pytest.raises(AttachError, match="not-permitted.*PTRACE_SEIZE of task .* EPERM"):
        in_child(work)


def test_the_target_is_a_meet_and_grants_only_what_execve_could() -> None:
    left = Capabilities(KILL, KILL | SETUID, KILL | SETUID, 0, KILL)
    now = Capabilities(KILL, KILL | SETUID | NET_RAW, KILL | SETUID | NET_RAW, SETUID, SETUID | KILL)
    wanted = late.target(LivePlan((), now, left), now)
    assert wanted == Capabilities(KILL, KILL, KILL, 0, 0)


def test_inheritable_capabilities_that_the_runtime_will_ask_for_survive_the_early_stage(
    start: START, victims: Path
) -> None:
    victim = start("init", victims / "look")
    wanted = plan()
    wanted.asked.inheritable = wanted.asked.ambient = SETUID | KILL

    def work() -> procfs.Status:
        Seizure.of(victim.pid, wanted).prepare()
        return procfs.status(victim.pid)

    seen = in_child(lambda: (lambda s: (s.capabilities.inheritable, s.capabilities.bounding))(work()))
    assert seen == (SETUID, KILL | NET_BIND_SERVICE)


def copied(program: Path, name: str) -> Path:
    copy = program.with_name(name)
    copy.write_bytes(program.read_bytes())
    copy.chmod(0o755)
    return copy


def with_net_raw(program: Path) -> Path:
    # struct vfs_cap_data (linux/capability.h): version 2 with the effective bit, permitted, inheritable.
    os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, NET_RAW, 0, 0, 0))
    return program


def i386_program() -> bytes:
    """A 32-bit ELF program whose exit code is 42."""
    base, header, entry = 0x08048000, 52, 52 + 32
    code = b"\xb8\x01\x00\x00\x00\xbb\x2a\x00\x00\x00\xcd\x80"  # mov eax, 1; mov ebx, 42; int 0x80
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    ehdr = ident + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + entry, header, 0, 0, header, 32, 1, 0, 0, 0)
    size = entry + len(code)
    return ehdr + struct.pack("<IIIIIIII", 1, 0, base, base, size, size, 5, 0x1000) + code
