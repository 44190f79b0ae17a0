"""The hook, its gate or its attacher killed at each step; the container's first process dead before, during, after.

For a FHIR container: either it never ran, or it ran confined. What the engine's protocol makes of a killed hook for
other containers is shown as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from host.machine import Host, parse_status, proc_status
from system.killing import killed_at
from system.support import FHIR, LIVE, PLAIN, confined, unbroken, wait_until

PTRACE = {
    "SEIZE": 0x4206, "INTERRUPT": 0x4207, "LISTEN": 0x4208, "GETREGSET": 0x4204, "SETREGSET": 0x4205,
    "GETSIGMASK": 0x420A, "SETSIGMASK": 0x420B, "CONT": 7, "SYSCALL": 24, "GET_SYSCALL_INFO": 0x420E,
    "SECCOMP_GET_FILTER": 0x420C, "DETACH": 17,
}  # fmt: skip
PRECREATE = {
    "the interpreter's start": ("brk", None),
    "reading the config": ("read", (0, 0)),
    "reading files": ("pread64", None),
    "locking the log": ("flock", None),
    "making the record durable": ("fdatasync", None),
    "answering": ("write", (0, 1)),
    "leaving": ("exit_group", None),
}
GATE = {
    "the interpreter's start": ("brk", None),
    "reading the state": ("read", (0, 0)),
    "locking the log": ("flock", None),
    "making the record durable": ("fdatasync", None),
    "leaving": ("exit_group", None),
}
PRESTART = {
    **GATE,
    "forking the attacher": ("pipe2", None),
    "detaching itself": ("setsid", None),
    "waiting for a stop": ("wait4", None),
    "reading its memory": ("process_vm_readv", None),
    "writing to its memory": ("process_vm_writev", None),
    "shrinking itself": ("capset", None),
    **{f"ptrace {name}": ("ptrace", (0, value)) for name, value in PTRACE.items() if name != "LISTEN"},
}
MARK = ("sh", "-c", "status >/marker/ran")


def _never_unconfined(ran: str) -> None:
    assert ran == "" or confined(parse_status(ran))


@pytest.mark.parametrize("step", list(PRECREATE))
def test_the_precreate_hook_is_killed(
    host: Host, run: Callable[..., Any], marker: Callable[..., Any], user: str | None, step: str
) -> None:
    """Podman's protocol: a precreate hook that dies refuses every container, FHIR or not."""
    mount, ran = marker(user)
    with killed_at("precreate", *PRECREATE[step]):
        fhir = run(FHIR, *MARK, options=mount, user=user)
        assert (fhir.returncode, ran()) == (126, "")
        if step != "reading files" and "log" not in step and "record" not in step:
            other = run(PLAIN, *MARK, options=mount, user=user)
            assert (other.returncode, ran()) == (126, "")
    assert confined(parse_status(run(FHIR, "status", user=user, check=True).stdout)), "and works again"


@pytest.mark.parametrize("step", list(GATE))
def test_the_gate_is_killed(run: Callable[..., Any], marker: Callable[..., Any], runtime: str, step: str) -> None:
    mount, ran = marker()
    with killed_at("gate", *GATE[step]):
        done = run(FHIR, *MARK, options=mount, runtime=runtime)
        assert (done.returncode, ran()) == (126, "")
        assert run(PLAIN, "status", runtime=runtime).returncode == 0, "another image has no gate"


@pytest.mark.parametrize("step", list(PRESTART))
def test_the_prestart_hook_or_its_attacher_is_killed(
    run: Callable[..., Any], marker: Callable[..., Any], runtime: str, step: str
) -> None:
    mount, ran = marker()
    with killed_at("prestart", *PRESTART[step]):
        done = run(FHIR, *MARK, options=mount, before=LIVE, runtime=runtime, timeout=60)
        assert done.returncode != 0
        assert ran() == ""
        other = run(PLAIN, "status", before=LIVE, runtime=runtime)
        hot = step in ("the interpreter's start", "reading the state", "leaving")
        assert other.returncode == (126 if hot else 0), "the runtimes' protocol: a prestart hook that dies refuses"


def test_the_log_is_whole_after_all_those_kills(host: Host, run: Callable[..., Any]) -> None:
    run(FHIR, "status", check=True)
    assert unbroken()


def test_attack_killing_the_hook_at_random_moments(
    host: Host, run: Callable[..., Any], marker: Callable[..., Any], runtime: str
) -> None:
    """SIGKILL to every process of the hook that is found, at moments spread over a start, native and live."""
    for before in ((), LIVE):
        for delay in range(0, 100, 12):
            mount, ran = marker()
            words = ["podman", "--runtime", runtime, *before, "run", "--rm", "--network", "none", *mount, FHIR, *MARK]
            starting = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(delay / 1000)
            _kill(_hooks())
            starting.wait(timeout=60)
            _never_unconfined(ran())
    run(FHIR, "status", runtime=runtime, check=True)
    assert unbroken()


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _hooks() -> list[int]:
    """Processes that run the hook or are its attacher."""
    return _running(b"/usr/libexec/fhir-hook/hook")


def _running(words: bytes) -> list[int]:
    """Processes with these words in their command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if words in file.read():
                        found.append(int(name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_container_s_first_process_is_dead_before_or_right_after_the_attaching(
    host: Host, runtime: str, moment: str
) -> None:
    """Another prestart hook, in front of ours or behind it, kills the process."""
    top = host.bundle(FHIR, "sleeper")
    host.run(["fhir-hook", "bundle", "enroll", top], check=True)
    script = host.directory() / "kill"
    script.write_text('#!/bin/sh\nkill -9 "$(jq -r .pid)"\nsleep 0.2\n')
    script.chmod(0o755)
    config = json.loads((top / "config.json").read_text())
    other = {"path": str(script), "env": ["PATH=/usr/bin:/bin"]}
    ours = config["hooks"]["prestart"]
    config["hooks"]["prestart"] = [other, *ours] if moment == "before" else [*ours, other]
    (top / "config.json").write_text(json.dumps(config))
    words = ["--root", host.directory(), "run", "-b", top, f"dead-{moment}-{runtime}"]
    done = host.runtime(runtime, *words, timeout=60)
    assert done.returncode != 0
    assert "ready" not in done.stdout
    wait_until(lambda: not _hooks(), "the attacher's end")


def test_the_container_s_first_process_is_killed_while_it_is_attached(
    host: Host, marker: Callable[..., Any], runtime: str
) -> None:
    """SIGKILL to whatever has an attacher, as soon as it has one and a little later: nothing hangs, nothing is left."""
    for delay in (0, 0, 0, 0.001, 0.002, 0.004, 0.008):
        mount, ran = marker()
        words = ["podman", "--runtime", runtime, *LIVE, "run", "--rm", "--network", "none", *mount, FHIR, *MARK]
        starting = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while starting.poll() is None and time.monotonic() < deadline:
            traced = _traced()
            time.sleep(delay if traced else 0)
            _kill(traced)
        if runtime == "crun" and starting.poll() is None:
            # crun start itself waits for ever on the exec fifo of a container that died after create.
            _kill(_running(b"/usr/bin/crun\0start\0"))
        starting.wait(timeout=20)
        _never_unconfined(ran())
        wait_until(lambda: not _hooks(), "the attacher's end")


def _traced() -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if proc_status(name)["TracerPid"] != "0":
                    found.append(int(name))
            except (OSError, KeyError):
                continue
    return found


@pytest.mark.parametrize("path", ["native", "live"])
def test_attack_a_container_that_forks_and_spawns_threads_from_its_first_moment(
    run: Callable[..., Any], runtime: str, user: str | None, path: str
) -> None:
    more = {"before": LIVE if path == "live" else (), "runtime": runtime, "user": user, "check": True}
    done = run(FHIR, "forker", "40", "1", options=("--privileged",), **more)
    seen = [line.split()[4:] for line in done.stdout.splitlines()]
    assert len(seen) == 2 * (2 * 40 + 1)
    assert {tuple(line) for line in seen} == {("2", "1", "0" * 16)}
