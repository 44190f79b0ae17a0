"""How much memory does the process hold that waits between `create` and `start` of a container?"""

from __future__ import annotations

import time
from pathlib import Path
from subprocess import DEVNULL

from bench import estimate
from bench.alternate import alternate
from bench.arms import Bench, BenchError, timed
from bench.result import Result, load
from bench.row import Row

TITLE = "The waiting attacher"
SECONDS = 8.0
NAME = "fhir-attach"
KINDS = ("unique", "resident")


def measure(bench: Bench, share: float) -> None:
    """Creates an enrolled bundle on runc and reads what its attacher holds, several times."""
    bundle = bench.host.bundle("probe:hapi", "sleeper")
    bench.host.run(["fhir-hook", "bundle", "enroll", bundle], check=True)
    seen: list[list[float]] = []
    blocks = alternate("memory of the attacher", {"unique": lambda: _once(bench, bundle, seen)}, SECONDS * share, 10)
    bench.result("memory", "KiB", list(KINDS), seen[-len(blocks) :]).save()


def _once(bench: Bench, bundle: Path, seen: list[list[float]]) -> float:
    name = f"bench-{time.monotonic_ns()}"
    # Not through a pipe: the container's process would hold it.
    timed(["runc", "create", "--bundle", str(bundle), "--pid-file", str(bundle / "pid"), name], stderr=DEVNULL)
    try:
        tracer = _tracer(int((bundle / "pid").read_text()))
        _wait_until_settled(tracer)
        memory = _memory(tracer)
    finally:
        bench.host.runtime("runc", "delete", "-f", name)
    seen.append([memory["Private_Clean"] + memory["Private_Dirty"], memory["Rss"]])
    return seen[-1][0]


def _tracer(pid: int) -> int:
    tracer = int(Path(f"/proc/{pid}/status").read_text().split("TracerPid:")[1].split()[0])
    if tracer == 0:
        raise BenchError("runc create returned, and nobody traces the container's process")
    return tracer


def _wait_until_settled(pid: int) -> None:
    """Until the attacher sleeps under its own name: it hardens itself after the hook has returned."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if Path(f"/proc/{pid}/comm").read_text().strip() == NAME and fields[0] == "S":
            return
        time.sleep(0.01)
    raise BenchError(f"the attacher {pid} did not come to rest")


def _memory(pid: int) -> dict[str, int]:
    """KiB by the keys of /proc/PID/smaps_rollup (proc_pid_smaps(5))."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.partition(":")[0]: int(line.partition(":")[2].split()[0]) for line in lines}


def results() -> list[Result]:
    """What was kept of it."""
    return [found for found in [load("memory")] if found]


def says() -> str:
    """One sentence of it."""
    unique = estimate.of(results()[0].arm("unique")).value / 1024
    return f"A live FHIR container costs {unique:.1f} MiB between `create` and `start`, and nothing after."


def rows() -> list[Row]:
    """MiB."""
    found = []
    for result in results():
        resident = estimate.of(result.arm("resident")).value / 1024
        unique = estimate.of(result.arm("unique")).scaled(1 / 1024)
        words = "attacher that waits for `start`: unique memory (with what it shares)"
        found.append(Row(words, "", f"{unique.value:.1f} MiB ({resident:.1f})", unique, "MiB", 12))
    return found
