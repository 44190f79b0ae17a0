"""What does the hook take when there is more of everything: profiles, labels, containers, threads?"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

from bench import estimate, picture
from bench.alternate import alternate, working
from bench.arms import HOOK, HOOK_ENVIRONMENT, Bench, BenchError, compiled
from bench.result import Result, load
from bench.row import Row

TITLE = "Growth"
SECONDS = 100.0
SIZES = {
    "profiles": (1, 10, 100, 1000),
    "labels": (1, 10, 100, 1000, 10000),
    "containers": (1, 10, 100, 1000, 10000),
    "threads": (1, 10, 100, 1000, 4000),
}
LARGE = {"profiles": 1000, "threads": 4000}
"""These take minutes: in full only."""
LOCAL = Path("/etc/fhir-hook/profiles")
SHIPPED = Path("/usr/share/fhir-hook/profiles/hapi.json")
STATE = Path("/var/lib/fhir-hook")
# what grows -> (words, goal of the exponent in time, what stands in the way)
GROWING = {
    "profiles": ("profiles installed, a FHIR server's start (precreate)", 0.1, ""),
    "profiles, not FHIR": ("profiles installed, a start that is not FHIR (precreate)", 0.1, "every selector is tried"),
    "labels": ("labels of the image (precreate)", 1.0, ""),
    "containers": ("containers in the store (precreate)", 0.1, "the store keeps them in one list, which is read"),
    "threads": ("threads of the process that is attached to (prestart)", 1.0, ""),
}


def measure(bench: Bench, share: float) -> None:
    """Milliseconds and MiB of one stage of the hook at each size; in turn, so that all sizes see the same machine."""
    container, config = bench.config("probe:hapi", "sleeper")
    plain, plain_config = bench.config("probe:plain", "sleeper")
    seconds, stage = SECONDS * share / len(GROWING), Stage(bench)
    try:
        _profiles(bench, stage, {"profiles": config, "profiles, not FHIR": plain_config}, seconds)
        for kind, made in (("labels", _labels), ("containers", _containers)):
            inputs = {size: made(bench.host.directory(), json.loads(config), size) for size in SIZES[kind]}
            calls = {str(size): lambda path=path: stage("precreate", path) for size, path in inputs.items()}
            _grow(bench, kind, calls, seconds)
        _threads(bench, stage, config, container, seconds)
    finally:
        bench.remove(container, plain)


def _grow(
    bench: Bench, kind: str, calls: dict[str, Callable[[], tuple[float, float]]], seconds: float, **about: Any
) -> None:
    """Keeps the milliseconds of every call, and the memory of the last one at each size."""
    memory: dict[str, float] = {}

    def once(size: str) -> float:
        took, memory[size] = calls[size]()
        return took

    arms = {size: lambda size=size: once(size) for size in calls}
    good, failed = working(arms, (BenchError, AssertionError))
    blocks = alternate(f"growth: {kind}", good, seconds, 300)
    said = {f"{kind}, {size}": words for size, words in failed.items()}
    held = {size: memory[size] for size in good}
    bench.result(_name(kind), "ms", list(good), blocks, memory=held, failed=said, **about).save()


def _name(kind: str) -> str:
    return f"growth-{kind.replace(', ', '-').replace(' ', '-')}"


def _sizes(bench: Bench, kind: str) -> list[int]:
    return [size for size in SIZES[kind] if bench.full or size < LARGE.get(kind, size + 1)]


class Stage:
    """One stage of the hook, called by a small program that says what it took."""

    def __init__(self, bench: Bench) -> None:
        self._measured = compiled("measured", bench.host.directory())

    def __call__(self, stage: str, stdin: Path) -> tuple[float, float]:
        """Milliseconds and the most MiB of one call. Raises BenchError."""
        with stdin.open("rb") as source:
            argv = [self._measured, HOOK, stage]
            done = subprocess.run(
                argv, stdin=source, stdout=DEVNULL, stderr=PIPE, env=HOOK_ENVIRONMENT, text=True, check=False
            )
        if done.returncode:
            raise BenchError(f"{HOOK} {stage}: exit code {done.returncode}: {done.stderr}")
        took, held = (float(word) for word in done.stderr.split()[-2:])
        return round(took / 1e3, 4), round(held / 1024, 2)


def _profiles(bench: Bench, stage: Stage, configs: dict[str, bytes], seconds: float) -> None:
    """Compiles policies of different sizes; then each is put where the hook looks while it is called."""
    top = bench.host.directory()
    sizes = _sizes(bench, "profiles")
    compiling = {str(size): _compiled(bench, size, top / str(size)) for size in sizes}
    bench.host.run(["fhir-hook", "policy", "compile"], check=True, timeout=300)
    for name, config in configs.items():
        (top / name).write_bytes(config)

        def call(size: int, path: Path = top / name) -> tuple[float, float]:
            bench.host.run(["mount", "--bind", top / str(size), STATE], check=True)
            try:
                return stage("precreate", path)
            finally:
                bench.host.run(["umount", STATE], check=True)

        calls = {str(size): lambda size=size, call=call: call(size) for size in sizes}
        _grow(bench, name, calls, seconds, compiling=compiling)


def _compiled(bench: Bench, size: int, kept: Path) -> float:
    """Seconds that it takes to compile so many profiles more; keeps the state in a directory."""
    shipped = json.loads(SHIPPED.read_text())
    LOCAL.mkdir(parents=True, exist_ok=True)
    made = [LOCAL / f"bench-{number}.json" for number in range(size)]
    try:
        for number, path in enumerate(made):
            match = [{"labels": {"org.example.bench": f"server-{number}"}}]
            path.write_text(json.dumps({**shipped, "name": path.stem, "match": match}))
        began = time.perf_counter()
        bench.host.run(["fhir-hook", "policy", "compile"], check=True, timeout=900)
        took = time.perf_counter() - began
        shutil.copytree(STATE, kept, symlinks=True)
    finally:
        for path in made:
            path.unlink(missing_ok=True)
    return round(took, 3)


def _labels(top: Path, config: dict[str, Any], size: int) -> Path:
    from support import store  # here: whoever only draws the results may have another module of this name

    labels = store.HAPI | {f"org.example.label-{number}": f"value {number}" for number in range(size - 1)}
    return _with_root(top, config, store.make(top / "store", labels))


def _containers(top: Path, config: dict[str, Any], size: int) -> Path:
    """A store whose list of containers is as long; ours is the last one."""
    from support import store

    root = store.make(top / "store", store.HAPI)
    path = top / "store/overlay-containers/containers.json"
    (ours,) = json.loads(path.read_text())
    others = [
        ours | {"id": f"{number:064x}", "names": [f"other-{number}"], "layer": f"{number:064x}"}
        for number in range(1, size)
    ]
    path.write_text(json.dumps([*others, ours]))
    return _with_root(top, config, root)


def _with_root(top: Path, config: dict[str, Any], root: str) -> Path:
    (top / "config.json").write_text(json.dumps({**config, "root": {**config["root"], "path": root}}))
    return top / "config.json"


def _threads(bench: Bench, stage: Stage, config: bytes, container: str, seconds: float) -> None:
    """The prestart stage on a process with so many threads that all wait."""
    program = compiled("threads", bench.host.directory())
    bundle = bench.host.directory()
    (bundle / "config.json").write_bytes(config)

    def attach(size: int) -> tuple[float, float]:
        with subprocess.Popen([program, str(size)], stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout
                if process.stdout.readline() != b"ready\n":
                    raise BenchError(f"no process with {size} threads")
                state = {"ociVersion": "1.0.2", "id": container, "status": "created", "pid": process.pid}
                (bundle / "state.json").write_text(json.dumps({**state, "bundle": str(bundle)}))
                return stage("prestart", bundle / "state.json")
            finally:
                process.kill()

    _grow(bench, "threads", {str(size): lambda size=size: attach(size) for size in _sizes(bench, "threads")}, seconds)


def results() -> list[Result]:
    """What was kept of it."""
    return [found for kind in GROWING if (found := load(_name(kind)))]


def says() -> str:
    """One sentence of it."""
    parts = []
    for kind in GROWING:
        result = load(_name(kind))
        if result is not None:
            least, most = result.arms[0], result.arms[-1]
            first, last = (estimate.of(result.arm(size)).value for size in (least, most))
            parts.append(f"{first:.0f} ms with {int(least):,} and {last:.0f} ms with {int(most):,} {kind}")
    return f"The hook takes {'; '.join(parts)}."


def rows() -> list[Row]:
    """The exponents, in time and in memory, of the whole stage with the start of its interpreter."""
    found = []
    for kind, (words, goal, why) in GROWING.items():
        result = load(_name(kind))
        if result is None:
            continue
        sizes = [float(size) for size in result.arms]
        times = [result.arm(size) for size in result.arms]
        ends = [f"{estimate.of(values).value:.1f} ms" for values in (times[0], times[-1])]
        sized = f"{words}, {int(sizes[0]):,} to {int(sizes[-1]):,}"
        found.append(Row(f"exponent in time: {sized}", *ends, estimate.exponent(sizes, times), goal=goal, why=why))
        held = [result.about["memory"][size] for size in result.arms]
        ends = [f"{held[0]:.1f} MiB", f"{held[-1]:.1f} MiB"]
        grown = estimate.exact(estimate.slope(sizes, held))
        found.append(Row(f"exponent in memory: {sized}", *ends, grown, goal=goal, why=why))
    return found


def draw(path: Path) -> None:
    """Time over size, a plot for each thing that grows."""
    plots = {}
    for kind, (words, *_) in GROWING.items():
        result = load(_name(kind))
        if result is not None:
            sizes = [float(size) for size in result.arms]
            across = words.partition(" (")[0].replace(", ", ",\n")
            plots[across] = {kind: (sizes, [estimate.of(result.arm(size)) for size in result.arms])}
    picture.lines(path, TITLE, plots, "", "ms")
