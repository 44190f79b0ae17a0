"""How much of a server's throughput does it cost to record its system calls?"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import estimate
from bench.alternate import alternate
from bench.arms import Bench, BenchError
from bench.result import Result, load
from bench.row import Row

TITLE = "Recording a server"
SECONDS = 110.0
TAG = "hapi:plain"
READ = "http://127.0.0.1:8080/fhir/Patient/1"
WARM_UP, LOADED = 6.0, 6.0
ARMS = ("none", "again", "recorded", "logged", "strace")
COMPARED = (
    ("recorded", "`fhir-hook profile record`", 1.10),
    ("logged", "a filter that logs every call (SCMP_ACT_LOG)", None),
    ("strace", "`strace -f`", None),
    ("again", "noise: not recorded against itself", None),
)


def measure(bench: Bench, share: float) -> None:
    """Microseconds a request of HAPI FHIR under load, recorded in different ways and not at all.

    Beside the time that passes, the processor time of server and recorder: other work matters less to it.
    """
    if shutil.which("wrk") is None or shutil.which("strace") is None:
        raise BenchError("tools are missing: apt-get install wrk strace")
    bench.host.load(TAG)
    logging = bench.host.directory() / "logging.json"
    logging.write_text(json.dumps({"defaultAction": "SCMP_ACT_LOG", "syscalls": []}))
    servers = {}
    try:
        for name, options in (("plain", ()), ("logged", ("--security-opt", f"seccomp={logging}"))):
            with _kernel_log():
                servers[name] = _server(bench, *options)
        plain = servers["plain"]
        ways = {
            "none": lambda: _loaded(plain),
            "again": lambda: _loaded(plain),
            "recorded": lambda: _recorded(bench, plain),
            "logged": lambda: _logged(servers["logged"]),
            "strace": lambda: _straced(plain),
        }
        used: dict[str, list[float]] = {name: [] for name in ways}
        arms = {name: lambda name=name, way=way: _noted(way(), used[name]) for name, way in ways.items()}
        blocks = alternate("a request of HAPI FHIR while it is recorded", arms, SECONDS * share)
        about = {"warm_up": WARM_UP, "loaded": LOADED}
        bench.result("recording", "us", list(arms), blocks, **about).save()
        processor = [list(values) for values in zip(*(used[name][-len(blocks) :] for name in arms), strict=True)]
        bench.result("recording-processor", "us", list(arms), processor, **about).save()
    finally:
        bench.remove(*(name for name, _ in servers.values()))


@contextlib.contextmanager
def _kernel_log() -> Iterator[None]:
    """Nobody else's test reads the kernel's log meanwhile: it gets more records than it passes on."""
    with open("/dev/kmsg") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        yield


def _server(bench: Bench, *options: str) -> tuple[str, int]:
    """A running server with one patient: its container and process."""
    container = bench.host.start(TAG, *options, hooks=False)
    bench.host.wait_http(container, "http://127.0.0.1:8080/fhir/metadata")
    patient = ["-f", "-X", "POST", "-H", "Content-Type: application/fhir+json", "-d", '{"resourceType": "Patient"}']
    bench.host.http(container, "http://127.0.0.1:8080/fhir/Patient", *patient)
    answer = bench.host.http(container, READ, "-f")
    if answer.returncode != 0:
        raise BenchError(f"{READ} does not answer: {answer.stderr}")
    return container, bench.host.pid(container)


def _noted(taken: tuple[float, float], used: list[float]) -> float:
    used.append(taken[1])
    return taken[0]


def _wrk(server: tuple[str, int], seconds: float, recorder: int = 0) -> tuple[float, float]:
    """Microseconds a request with eight connections at once: of time, and of processor time of server and recorder."""
    enter = ["nsenter", "-n", "-t", str(server[1])]
    words = [*enter, "wrk", "-t", "1", "-c", "8", "-d", f"{seconds:.0f}s", READ]
    before = _processor(server[1]) + _processor(recorder)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    spent = _processor(server[1]) + _processor(recorder) - before
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)
    requests = re.search(r"(\d+) requests in", done.stdout)
    if not rate or not requests or int(requests[1]) == 0 or "Non-2xx" in done.stdout:
        raise BenchError(f"wrk: {done.stdout}{done.stderr}")
    return round(1e6 / float(rate[1]), 4), round(spent / int(requests[1]), 4)


def _processor(pid: int) -> float:
    """Microseconds of processor time that a process has used (proc_pid_stat(5))."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")


def _loaded(server: tuple[str, int], recorder: int = 0) -> tuple[float, float]:
    _wrk(server, WARM_UP)
    return _wrk(server, LOADED, recorder)


def _recorded(bench: Bench, server: tuple[str, int]) -> tuple[float, float]:
    directory = bench.host.directory()
    words = ["fhir-hook", "profile", "record", server[0], "--output", "seen.json", "--profile", "mine"]
    recorder = subprocess.Popen(words, cwd=directory, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert recorder.stderr is not None
    try:
        if "recording phase serve" not in (line := recorder.stderr.readline()):
            raise BenchError(f"the recorder did not start: {line}{recorder.stderr.read()}")
        return _loaded(server, recorder.pid)
    finally:
        recorder.send_signal(signal.SIGINT)
        recorder.wait(60)
        _check(directory / "seen.json")


def _check(path: Path) -> None:
    """What was recorded must be what a request needs, and complete."""
    seen = json.loads(path.read_text())
    if seen["lost"]["events"] or not {"read", "write", "futex"} <= set(seen["phases"]["serve"]):
        raise BenchError(f"the recording is not complete: {seen['lost']}, {seen['phases']}")


def _logged(server: tuple[str, int]) -> tuple[float, float]:
    with _kernel_log():
        return _loaded(server)


def _straced(server: tuple[str, int]) -> tuple[float, float]:
    words = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(server[1])]
    tracer = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        time.sleep(1)
        return _loaded(server, tracer.pid)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(60)


def results() -> list[Result]:
    """What was kept of it."""
    return [found for found in [load("recording"), load("recording-processor")] if found]


def says() -> str:
    """One sentence of it."""
    result = results()[0]
    ours, strace = (estimate.ratio(result.arm(arm), result.arm("none")).value for arm in ("recorded", "strace"))
    return (
        f"While `fhir-hook profile record` looks, a request takes {ours:.2f} times as long; under `strace -f` "
        f"{strace:.1f} times."
    )


def rows() -> list[Row]:
    """Ratios, arm against arm that is not recorded."""
    return [
        Row(
            f"HAPI FHIR 8.8.0, a read under load{', processor time' if 'processor' in result.name else ''}: {words}",
            f"{median(result.arm('none')):.0f} µs",
            f"{median(result.arm(arm)):.0f} µs",
            estimate.ratio(result.arm(arm), result.arm("none")),
            goal=goal if result.name == "recording" else None,
        )
        for result in results()
        for arm, words, goal in COMPARED
    ]
