"""Real FHIR servers as arms: each in a network namespace of its own, asked by bench/programs/load.c."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.arms import PROGRAMS, Bench, BenchError

_NUMBERS = itertools.count()
PORT = 8080
MIX = "10,60,25,5,10"
"""Weights of create, read, update, delete and search."""
READS = "0,1,0,0,0"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A server: its image, the path of its base URL, the profile that fits it, what it is in the tables."""

    tag: str
    path: str
    profile: str
    words: str


KINDS = {
    "plain": Kind("hapi:plain", "/fhir", "hapi", "HAPI FHIR 8.8.0, plain server"),
    "jpa": Kind("hapi:jpa", "/fhir", "hapi", "HAPI FHIR 6.0.1, JPA server"),
    "fhirstarter": Kind("fhirstarter:4.2.0", "", "fhirstarter", "fhirstarter 4.2.0 (Python)"),
    "helios": Kind("helios:0.2.7", "", "helios", "Helios 0.2.7 (Rust)"),
}


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a load came to: requests a second; milliseconds; microseconds of the server's processor time a request."""

    rate: float
    p50: float
    p99: float
    processor: float
    took: float


class Server:
    """A running container. start() raises BenchError when it does not come up."""

    def __init__(self, bench: Bench, kind: Kind, arm: str, network: str) -> None:
        self._bench, self.kind, self.arm, self._network = bench, kind, arm, network
        self._container = ""
        self.pid = 0

    def start(self, seconds: float = 60) -> float:
        """Starts it; milliseconds from `podman run` to its first answer."""
        pid_file = self._bench.host.directory() / "pid"
        options = ["-d", "--network", f"ns:/run/netns/{self._network}", "--pidfile", pid_file]
        options += ["--tmpfs", "/data:mode=1777"] if self.kind.profile == "helios" else []
        began = time.perf_counter_ns()
        argv = self._bench.podman(self.arm, "run", *options, self.kind.tag, profile=self.kind.profile)
        started = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        if started.returncode != 0:
            raise BenchError(f"podman run {self.kind.tag} ({self.arm}): {started.stderr}")
        self._container = started.stdout.strip().splitlines()[-1]
        poller = ["/usr/bin/python3", "-IS", PROGRAMS / "first_answer.py", str(PORT), f"{self.kind.path}/metadata"]
        asked = subprocess.run([*self._inside(), *poller, str(seconds)], check=False)
        took = (time.perf_counter_ns() - began) / 1e6
        if asked.returncode != 0:
            said = self._bench.host.podman("logs", "--tail", "3", self._container, hooks=False)
            self.stop()
            raise BenchError(f"{self.kind.tag} ({self.arm}) did not answer in {seconds:.0f} s: {said.stderr}")
        self.pid = int(pid_file.read_text())
        return round(took, 4)

    def stop(self) -> None:
        """Removes the container."""
        if self._container:
            self._bench.remove(self._container)

    def ask(self, program: Path, clients: int, requests: int, seconds: float, mix: str) -> Answers:
        """Puts a load on it. Raises BenchError when a request fails."""
        words = [str(PORT), self.kind.path, str(clients), str(requests), str(seconds), mix]
        before = self.processor()
        done = subprocess.run(
            [*self._inside(), program, *words], capture_output=True, text=True, check=False, timeout=seconds + 180
        )
        used = self.processor() - before
        if done.returncode != 0:
            raise BenchError(f"load on {self.kind.tag} ({self.arm}): exit code {done.returncode} {done.stderr}")
        count, failed, took, p50, p99 = (float(word) for word in done.stdout.split())
        if failed or not count:
            raise BenchError(f"{self.kind.tag} ({self.arm}): {failed:.0f} of {count:.0f} requests failed")
        rate, each = count / took, used / count
        return Answers(round(rate, 3), round(p50 / 1e3, 4), round(p99 / 1e3, 4), round(each, 3), round(took * 1e3, 4))

    def processor(self) -> float:
        """Microseconds of processor time that its processes have used (proc_pid_stat(5))."""
        ticks = 0
        for pid in _tree(self.pid):
            with contextlib.suppress(OSError):  # it ended just now
                ticks += sum(int(field) for field in _stat(pid)[11:13])
        return ticks * 1e6 / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """MiB that its processes hold, shared pages in equal parts (proc_pid_smaps(5))."""
        total = 0
        for pid in _tree(self.pid):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    total += int(line.split()[1]) if line.startswith("Pss:") else 0
        return total / 1024

    def _inside(self) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self._network}"]


@contextlib.contextmanager
def network(bench: Bench) -> Iterator[str]:
    """A network namespace with the loopback interface only: gVisor takes it over as it finds it."""
    name = f"bench{next(_NUMBERS)}"
    bench.host.run(["ip", "netns", "add", name], check=True)
    try:
        bench.host.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        bench.host.run(["ip", "netns", "delete", name])


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _tree(top: int) -> list[int]:
    """A process and all that come from it: gVisor runs the server's own threads in processes below its kernel."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                children.setdefault(int(_stat(int(name))[1]), []).append(int(name))
            except (OSError, IndexError):
                continue
    found = [top]
    for pid in found:
        found += children.get(pid, [])
    return found
