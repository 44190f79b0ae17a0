"""How much later does a real FHIR server give its first answer?"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from statistics import median

from bench import estimate
from bench.alternate import alternate
from bench.arms import Bench, BenchError
from bench.result import Result, load
from bench.row import Row

TITLE = "A server's first answer"
SECONDS = 120.0
TAG = "hapi:plain"
POLLER = Path(__file__).resolve().parent.parent / "programs" / "first_answer.py"
ARMS = ("none", "native", "live")
COMPARED = (
    ("native", "FHIR, native", 1.10),
    ("live", "FHIR, live", 1.15),
)


def measure(bench: Bench, share: float) -> None:
    """Times from the start of `podman run -d` to the first 200 of /fhir/metadata, asked for in the server's network."""
    bench.host.load(TAG)
    arms = {arm: lambda arm=arm: _first_answer(bench, arm) for arm in ARMS}
    blocks = alternate("first answer of HAPI FHIR on runc", arms, SECONDS * share)
    bench.result("server", "ms", list(arms), blocks).save()


def _first_answer(bench: Bench, arm: str) -> float:
    bench.settle()
    pid_file = bench.host.directory() / "pid"
    began = time.perf_counter_ns()
    started = subprocess.run(
        bench.podman(arm, "run", "-d", "--network", "none", "--pidfile", pid_file, TAG),
        capture_output=True,
        text=True,
        check=False,
    )
    if started.returncode != 0:
        raise BenchError(f"podman run {TAG}: {started.stderr}")
    try:
        enter = ["nsenter", "-n", "-t", pid_file.read_text().strip()]
        asked = subprocess.run([*enter, "/usr/bin/python3", "-IS", POLLER, "8080", "/fhir/metadata"], check=False)
        took = time.perf_counter_ns() - began
    finally:
        bench.remove(started.stdout.strip())
    if asked.returncode != 0:
        raise BenchError(f"{TAG} ({arm}) did not answer")
    return round(took / 1e6, 4)


def results() -> list[Result]:
    """What was kept of it."""
    return [found for found in [load("server")] if found]


def rows() -> list[Row]:
    """Ratios, arm against arm without the hook."""
    return [
        Row(
            f"HAPI FHIR 8.8.0, `podman run` to first answer, on runc: {words}",
            f"{median(result.arm('none')):.0f} ms",
            f"{median(result.arm(arm)):.0f} ms",
            estimate.ratio(result.arm(arm), result.arm("none")),
            goal=goal,
        )
        for result in results()
        for arm, words, goal in COMPARED
    ]
