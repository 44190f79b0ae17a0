"""The detached attacher: what it tells the hook, what it keeps, how small it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fhir_hook.kernel import attacher, procfs
from fhir_hook.kernel.failure import AttachError, NeverStarted
from fhir_hook.kernel.late import Outcome
from kernel.driver import NET_RAW, Victim, fields, in_child, plan, wait_until

START = Callable[..., Victim]
ROOT = Path(__file__).resolve().parents[2]
SYS_PTRACE, SYS_ADMIN, KILL = 1 << 19, 1 << 21, 1 << 5


def hook(victim: Victim, record: Callable[[Outcome], None], failed: Callable[[AttachError], None]) -> int:
    """What a hook does, in a process of its own that ends at once: the attacher's number."""
    return in_child(lambda: attacher.start(procfs.Identity(victim.pid), plan(), record, failed))


def test_the_program_runs_confined_after_the_hook_has_ended(start: START, victims: Path, tmp_path: Path) -> None:
    victim = start("init", "-t", "3", victims / "look")
    written = tmp_path / "record"
    hook(victim, lambda outcome: (written.write_text(str(outcome.filters_after)), None)[1], lambda _: None)
    time.sleep(0.1)
    victim.go()
    assert fields(victim.finish()[0])["getppid"] == "EPERM"
    assert written.read_text() == "1"


def test_the_waiting_attacher_is_hardened_detached_and_small(start: START, victims: Path) -> None:
    victim = start("init", "-t", "3", victims / "look")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from fhir_hook.core.plan import Capabilities, LivePlan\n"
        "from fhir_hook.kernel import attacher, procfs\n"
        "sets = Capabilities()\n"
        "wanted = LivePlan((bytes.fromhex('060000000000ff7f'),), sets, sets)\n"
        "identity = procfs.Identity(int(sys.argv[2]))\n"
        "print(attacher.start(identity, wanted, lambda _: None, lambda _: None))\n"
        "heavy = {'json', 're', 'os', 'typing', 'ctypes', 'enum', 'struct', 'signal', 'subprocess'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    started = subprocess.run(
        ["/usr/bin/python3", "-IS", "-c", program, ROOT, str(victim.pid)],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    number, heavy = started.stdout.splitlines()
    pid = int(number)
    assert heavy == "[]"
    wait_until(lambda: procfs.status(pid).capabilities.permitted == SYS_PTRACE | SYS_ADMIN | KILL)
    seen = procfs.status(pid)
    assert (seen.name, seen.no_new_privs) == ("fhir-attach", True)
    assert seen.capabilities.effective == seen.capabilities.bounding == SYS_PTRACE | SYS_ADMIN | KILL
    assert seen.capabilities.inheritable == 0
    assert [os.readlink(f"/proc/{pid}/fd/{n}") for n in (0, 1, 2)] == ["/dev/null"] * 3
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    memory = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    unique = sum(int(memory[key].split()[0]) for key in ("Private_Clean", "Private_Dirty"))
    assert unique < 12 * 1024, f"{unique} KiB"
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.05)
    assert procfs.status(pid).name == "fhir-attach"
    os.kill(pid, signal.SIGKILL)
    assert victim.process.wait(5) == -signal.SIGKILL


def test_the_hook_hears_why_attaching_failed(start: START, victims: Path) -> None:
    victim = start("init", victims / "look")
    identity = procfs.Identity(victim.pid)
    identity.started -= 1
    with pytest.raises(NeverStarted, match="another one than it was"):
        in_child(lambda: attacher.start(identity, plan(), lambda _: None, lambda _: None))
    identity.close()


def test_the_hook_hears_when_the_attacher_dies_without_a_word(
    start: START, victims: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = start("init", victims / "look")
    monkeypatch.setattr(attacher, "_detach_self", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(AttachError, match="attacher-died"):
        hook(victim, lambda _: None, lambda _: None)


def test_a_failure_after_the_hook_s_end_is_handed_to_failed(start: START, victims: Path, tmp_path: Path) -> None:
    victim = start("init", victims / "look")
    written = tmp_path / "failure"

    def full(_: Outcome) -> None:
        raise OSError(28, "No space left on device")

    hook(victim, full, lambda error: (written.write_text(str(error)), None)[1])
    victim.go()
    assert victim.finish() == ("", -signal.SIGKILL)
    wait_until(written.exists)
    assert written.read_text() == "not-recorded: [Errno 28] No space left on device"


def test_a_container_that_never_starts_is_told_apart(start: START, victims: Path, tmp_path: Path) -> None:
    victim = start("init", victims / "look")
    written = tmp_path / "failure"
    hook(victim, lambda _: None, lambda error: (written.write_text(type(error).__name__), None)[1])
    victim.end()
    wait_until(lambda: written.exists() and written.read_text() != "")
    assert written.read_text() == "NeverStarted"


def test_hardening_as_an_ordinary_user_is_no_error() -> None:
    def work() -> tuple[bool, int]:
        from fhir_hook.kernel import hardening

        os.setresgid(1234, 1234, 1234)
        os.setresuid(1234, 1234, 1234)
        hardening.hook()
        hardening.attacher()
        assert os.listdir("/proc/self/fd"), "the attacher closes what it finds here, undumpable or not"
        seen = procfs.status(os.getpid())
        return seen.no_new_privs, seen.capabilities.permitted | seen.capabilities.effective

    assert in_child(work) == (True, 0)


def test_the_plan_refuses_what_the_kernel_never_takes() -> None:
    from fhir_hook.core.plan import Capabilities, LivePlan

    one, sets = bytes(8), Capabilities(NET_RAW)
    for filters in ((b"",), (bytes(7),), (one * 4097,), (one * 4096,) * 8):
        with pytest.raises(ValueError, match="filter"):
            LivePlan(filters, sets, sets)
    with pytest.raises(ValueError, match="no_new_privs"):
        LivePlan((one,), sets, sets, no_new_privs=False)
    assert LivePlan((one * 4096,) * 7, sets, sets).filters


def test_python_is_the_distribution_s() -> None:
    assert os.path.realpath(sys.executable) == os.path.realpath("/usr/bin/python3")
