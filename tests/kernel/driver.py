"""Victims, plans and a child process to trace from: waiting for tracees must not take the test's own children."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fhir_hook.core.plan import Capabilities, LivePlan
from fhir_hook.kernel import procfs
from fhir_hook.kernel.attach import Seizure
from fhir_hook.kernel.late import Outcome

T = TypeVar("T")
SOURCES = Path(__file__).parent / "victims"
GETPPID = 110
KILL, SETUID, NET_RAW, NET_BIND_SERVICE, SETPCAP = 1 << 5, 1 << 7, 1 << 13, 1 << 10, 1 << 8


def bpf(deny: dict[int, int], default: int = 0x7FFF0000) -> bytes:
    """A filter that answers errno for the numbers in deny, and default (SECCOMP_RET_ALLOW) for the rest."""
    code = [(0x20, 0, 0, 0)]
    for number, answer in deny.items():
        code += [(0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | answer)]
    code.append((0x06, 0, 0, default))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def plan(keep: int = KILL | NET_BIND_SERVICE, complain: bool = False, filters: int = 1) -> LivePlan:
    """Denies getppid; keeps those capabilities of all."""
    everything = procfs.status(os.getpid()).capabilities.bounding
    return LivePlan(
        (bpf({GETPPID: 1}),) * filters,
        Capabilities(everything, everything, everything, 0, 0),
        Capabilities(keep, keep, keep, 0, 0),
        no_new_privs=not complain,
        complain=complain,
    )


def in_child(work: Callable[[], T], timeout: float = 20) -> T:
    """Run work in a forked child; its result, or its exception. The child and its tracees are dead afterwards."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            message: tuple[bool, Any] = (True, work())
        except BaseException as error:  # noqa: BLE001  # raised again by the parent
            message = (False, (type(error), error.args, error.__dict__))
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(message, pipe)
        os._exit(0)
    os.close(writing)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        with os.fdopen(reading, "rb") as pipe:
            text = pipe.read()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.waitpid(child, 0)
    assert text, f"the tracing child was killed: it took longer than {timeout} s, or crashed"
    good, result = pickle.loads(text)
    if not good:
        raise _rebuilt(*result)
    return result  # type: ignore[no-any-return]


def _rebuilt(kind: type[Exception], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> Exception:
    """An exception from the other process; pickle alone would call its constructor with other arguments."""
    error = kind.__new__(kind)
    (OSError if isinstance(error, OSError) else Exception).__init__(error, *arguments)
    error.__dict__.update(attributes)
    return error


class Victim:
    """A started victim program whose first line, "ready", was read."""

    def __init__(self, *argv: str | Path) -> None:
        self.process = subprocess.Popen([str(word) for word in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.pid = self.process.pid

    def go(self) -> None:
        """Let an init become its program; this file object is shared with the tracing child."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it may be dead
            os.write(self.process.stdin.fileno(), b"x")

    def finish(self, timeout: float = 10) -> tuple[str, int]:
        """What it printed, and its exit code."""
        output, _ = self.process.communicate(timeout=timeout)
        return output.decode(), self.process.returncode

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def fields(output: str) -> dict[str, str]:
    """What `look` printed, by field."""
    return {key: value.strip() for key, _, value in (line.partition(":") for line in output.splitlines())}


def confined(victim: Victim, wanted: LivePlan, between: Callable[[], None] | None = None) -> Outcome:
    """The whole at-exec attachment to an init victim, traced from a child process."""

    def work() -> Outcome:
        seizure = Seizure.of(victim.pid, wanted)
        seizure.prepare()
        if between is not None:
            between()
        victim.go()
        seizure.run_to_exec()
        outcome = seizure.install()
        seizure.release()
        return outcome

    return in_child(work)


def wait_until(holds: Callable[[], bool], timeout: float = 5) -> None:
    """Wait for something to become true; AssertionError when it doesn't."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
