"""What does the filter cost a system call, against Podman's default profile and against none?"""

from __future__ import annotations

import random
import subprocess
import time
from statistics import median

from bench import estimate
from bench.alternate import Progress
from bench.arms import Bench, BenchError, compiled
from bench.result import Result, load
from bench.row import Row

TITLE = "System calls"
SECONDS = 45.0
COUNT = 8000
# arm -> (arm of bench.arms, runtime, more options)
ARMS: dict[str, tuple[str, str, list[str]]] = {
    "unconfined": ("none", "runc", ["--security-opt", "seccomp=unconfined"]),
    "default runc": ("none", "runc", []),
    "default again": ("none", "runc", []),
    "native runc": ("native", "runc", []),
    "live runc": ("live", "runc", []),
    "default crun": ("none", "crun", []),
    "native crun": ("native", "crun", []),
    "live crun": ("live", "crun", []),
}
# call -> (what it is, goal of native against the default)
CALLS: dict[str, tuple[str, float | None]] = {
    "getppid": ("cacheable", 1.0),
    "socket": ("argument-filtered by both", 1.0),
    "clone": ("argument-filtered by the profile only", None),
    "prctl": ("argument-filtered by the profile only", None),
    "ioctl": ("argument-filtered by the profile only", None),
    "personality": ("denied, the default filters its argument", None),
    "kexec_load": ("denied by both", None),
}


# arm, arm against which, whether it is shown for every call or only for those with a goal
COMPARED = (
    ("native runc", "default runc", True),
    ("live runc", "default runc", True),
    ("native crun", "default crun", False),
    ("live crun", "default crun", False),
)


class Server:
    """The program bench/programs/calls.c in a container of its own, which times calls when told to."""

    def __init__(self, bench: Bench, arm: str, program: str) -> None:
        hooks, runtime, options = ARMS[arm]
        self.arm = arm
        command = ["run", "-i", "--rm", "--network", "none", *options, "-v", f"{program}:/bin/calls:ro"]
        self._process = subprocess.Popen(
            bench.podman(hooks, *command, "probe:hapi", "/bin/calls", runtime=runtime),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def time(self, call: str) -> tuple[float, int]:
        """Nanoseconds of one call, and its result."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{call} {COUNT}\n")
        self._process.stdin.flush()
        words = self._process.stdout.readline().split()
        if len(words) != 2:
            raise BenchError(f"{self.arm}: the program in the container ended at {call}")
        return float(words[0]), int(words[1])

    def end(self) -> None:
        """Lets the program come to its end."""
        self._process.communicate(timeout=60)


def measure(bench: Bench, share: float) -> None:
    """All arms run at the same time and take turns of some milliseconds; only one of them works at any moment."""
    bench.host.load("probe:hapi")
    program = str(compiled("calls", bench.host.directory()))
    servers: list[Server] = []
    try:
        for arm in ARMS:
            servers.append(Server(bench, arm, program))
            servers[-1].time("getppid")
        answers = {arm.arm: {call: arm.time(call)[1] for call in CALLS} for arm in servers}
        blocks = _take_turns(servers, SECONDS * share)
    finally:
        for server in servers:
            server.end()
    names = [f"{call}: {arm}" for call in CALLS for arm in ARMS]
    bench.result("calls", "ns", names, blocks, answers=answers, count=COUNT).save()


def _take_turns(servers: list[Server], seconds: float) -> list[list[float]]:
    draw, order, blocks = random.Random(1), list(range(len(servers))), []
    with Progress("cost of system calls", seconds) as progress:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            block: list[float] = []
            for call in CALLS:
                draw.shuffle(order)
                values = [0.0] * len(servers)
                for position in order:
                    values[position] = servers[position].time(call)[0]
                block += values
            blocks.append(block)
            progress.tell(f"{len(blocks)} blocks of {len(servers)} arms and {len(CALLS)} calls")
    return blocks


def results() -> list[Result]:
    """What was kept of it."""
    return [found for found in [load("calls")] if found]


def says() -> str:
    """One sentence of it."""
    result = results()[0]
    plain, socket = (
        estimate.difference(result.arm(f"{call}: native runc"), result.arm(f"{call}: default runc")).value
        for call in ("getppid", "socket")
    )
    return (
        f"Against the engine's default filter, a call that the kernel's cache knows takes {plain:+.0f} ns, one whose "
        f"arguments both filters look at {socket:+.0f} ns."
    )


def rows() -> list[Row]:
    """Each call natively and live against Podman's default on the same runtime."""
    return [row for result in results() for row in _rows(result)]


def _rows(result: Result) -> list[Row]:
    found = []
    for call, (kind, goal) in CALLS.items():
        unconfined = median(result.arm(f"{call}: unconfined"))
        what = f"`{call}`, {kind} ({unconfined:.0f} ns unconfined)"
        for arm, base, always in COMPARED:
            if always or goal is not None:
                found.append(_row(result, f"{what}: {arm}", f"{call}: {arm}", f"{call}: {base}", goal))
    noise = "noise: Podman's default against itself, `getppid`"
    return [*found, _row(result, noise, "getppid: default again", "getppid: default runc", None)]


def _row(result: Result, what: str, arm: str, base: str, goal: float | None) -> Row:
    values, against = result.arm(arm), result.arm(base)
    ratio = estimate.ratio(values, against)
    why = "the engine's own filter stays, and the profile's is stacked upon it: both look" if ": live" in arm else ""
    return Row(what, f"{median(against):.0f} ns", f"{median(values):.0f} ns", ratio, goal=goal, why=why)
