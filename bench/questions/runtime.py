"""What does the shim in front of runc and crun add?"""

from __future__ import annotations

import itertools
import json
import resource
from pathlib import Path
from statistics import median
from subprocess import DEVNULL
from typing import Any

from bench import estimate
from bench.alternate import alternate
from bench.arms import Bench, timed
from bench.result import Result, load
from bench.row import Row

TITLE = "The shim"
SECONDS = 25.0
RUNTIMES = {"runc": "/usr/sbin/runc", "crun": "/usr/bin/crun"}
SHIM = "/usr/libexec/fhir-hook/fhir-"
_IDS = itertools.count()
# arm, arm without the shim, words, kind of value, unit, goal
COMPARED = (
    ("plain shim", "plain real", "create and start, not FHIR", "", "", 1.10),
    ("plain shim", "plain real", "create and start, not FHIR, processor time", " cpu", "ms", 15.0),
    ("fhir shim", "fhir real", "create and start, FHIR", "", "", 1.20),
    ("fhir shim", "fhir real", "create and start, FHIR, processor time", " cpu", "ms", 30.0),
    ("state shim", "state real", "state, passed on", "", "ms", 8.0),
    ("state real again", "state real", "noise: state against itself", "", "ms", None),
)


def measure(bench: Bench, share: float) -> None:
    """Times create and start of the probe, and a verb that is passed on, with the shim and without."""
    images = {"plain": "probe:plain", "fhir": "probe:hapi"}
    bundles = {kind: bench.host.bundle(tag, "/bin/true") for kind, tag in images.items()}
    # umoci asks for no filter, every engine does: the runtime has one to compile in each arm.
    container, engines = bench.config("probe:plain", "sleeper")
    bench.remove(container)
    seccomp = json.loads(engines)["linux"]["seccomp"]
    configs = {kind: _with_filter(bundle / "config.json", seccomp) for kind, bundle in bundles.items()}
    for runtime, real in RUNTIMES.items():

        processor: dict[str, list[float]] = {f"{kind} {name}": [] for kind in bundles for name in ("real", "shim")}

        def start(
            kind: str, program: str, real: str = real, processor: dict[str, list[float]] = processor
        ) -> float:
            (bundles[kind] / "config.json").write_bytes(configs[kind])
            id = f"bench-{next(_IDS)}"
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            took = timed([program, "create", "--bundle", str(bundles[kind]), id], stderr=DEVNULL)
            took += timed([program, "start", id], stderr=DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            processor[f"{kind} {'real' if program == real else 'shim'}"].append(round(used * 1e3, 4))
            bench.host.run([real, "delete", "-f", id])
            return took

        waiting = f"bench-{next(_IDS)}"
        timed([real, "create", "--bundle", str(bundles["plain"]), waiting], stderr=DEVNULL)
        arms = {
            f"{kind} {name}": lambda kind=kind, program=program, start=start: start(kind, program)
            for kind in bundles
            for name, program in (("real", real), ("shim", SHIM + runtime))
        }
        for name, program in (("real", real), ("real again", real), ("shim", SHIM + runtime)):
            arms[f"state {name}"] = lambda program=program, waiting=waiting: timed([program, "state", waiting])
        blocks = alternate(f"the shim in front of {runtime}", arms, SECONDS * share)
        bench.host.run([real, "delete", "-f", waiting])
        # The first value is of the block that alternate() throws away.
        cpu = zip(*(values[1:] for values in processor.values()), strict=True)
        names = [*arms, *(f"{name} cpu" for name in processor)]
        both = [wall + list(used) for wall, used in zip(blocks, cpu, strict=True)]
        bench.result(f"runtime-{runtime}", "ms", names, both).save()


def _with_filter(config: Path, seccomp: dict[str, Any]) -> bytes:
    document = json.loads(config.read_text())
    return json.dumps({**document, "linux": {**document["linux"], "seccomp": seccomp}}).encode()


def results() -> list[Result]:
    """What was kept of it."""
    return [found for runtime in RUNTIMES if (found := load(f"runtime-{runtime}"))]


def says() -> str:
    """One sentence of it."""
    more = [estimate.difference(result.arm("fhir shim"), result.arm("fhir real")).value for result in results()]
    passed = [estimate.difference(result.arm("state shim"), result.arm("state real")).value for result in results()]
    return (
        f"The shim adds {min(more):.0f} to {max(more):.0f} ms to create and start of a FHIR container, and "
        f"{min(passed):.0f} to {max(passed):.0f} ms to a verb that it passes on."
    )


def rows() -> list[Row]:
    """Ratios of starts, and milliseconds more for what is passed on."""
    return [_row(result, *compared) for result in results() for compared in COMPARED]


def _row(result: Result, arm: str, base: str, words: str, kind: str, unit: str, goal: float | None) -> Row:
    with_, without = result.arm(arm + kind), result.arm(base + kind)
    more = estimate.difference(with_, without)
    compared = more if unit else estimate.ratio(with_, without)
    what = f"fhir-{result.name.removeprefix('runtime-')}: {words}"
    return Row(what, f"{median(without):.1f} ms", f"{median(with_):.1f} ms", compared, unit, goal)
