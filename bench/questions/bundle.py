"""What does the hook add to a start of runc and crun without an engine?"""

from __future__ import annotations

import itertools
import json
from statistics import median
from subprocess import DEVNULL

from bench import estimate
from bench.alternate import alternate, working
from bench.arms import Bench, BenchError, timed
from bench.result import Result, load
from bench.row import Row

TITLE = "runc and crun alone"
SECONDS = 25.0
RUNTIMES = ("runc", "crun")
_IDS = itertools.count()
# arm, words
COMPARED = (
    ("enrolled", "enrolled by `fhir-hook bundle enroll`"),
    ("hand", "the same profile by hand"),
    ("unconfined", "no filter"),
    ("none again", "noise: the engine's default filter against itself"),
)


def measure(bench: Bench, share: float) -> None:
    """Times `RUNTIME run` of the FHIR probe's bundle, with the filter that Podman gives every container and others."""
    container, engines = bench.config("probe:plain", "sleeper")
    bench.remove(container)
    hapi = bench.host.directory() / "hapi.json"
    bench.host.run(["fhir-hook", "profile", "export", "hapi", "-o", hapi], check=True)
    default = json.loads(engines)["linux"]["seccomp"]
    filters = {"unconfined": None, "hand": json.loads(hapi.read_text())}
    filters |= dict.fromkeys(("none", "none again", "enrolled"), default)
    bundles = {}
    for arm, seccomp in filters.items():
        bundle = bench.host.bundle("probe:hapi", "/bin/true")
        config = json.loads((bundle / "config.json").read_text())
        config["linux"]["seccomp"] = seccomp
        if arm == "hand":
            config["process"] |= {"noNewPrivileges": True, "capabilities": {}}
        (bundle / "config.json").write_text(json.dumps(config))
        bundles[arm] = bundle
    bench.host.run(["fhir-hook", "bundle", "enroll", bundles["enrolled"]], check=True)
    for runtime in RUNTIMES:

        def run(arm: str, runtime: str = runtime) -> float:
            argv = [runtime, "run", "--bundle", str(bundles[arm]), f"bench-bundle-{next(_IDS)}"]
            return timed(argv, stderr=DEVNULL)

        good, failed = working({arm: lambda arm=arm, run=run: run(arm) for arm in bundles}, (BenchError,))
        blocks = alternate(f"{runtime} run", good, SECONDS * share)
        bench.result(f"bundle-{runtime}", "ms", list(good), blocks, failed=failed).save()


def results() -> list[Result]:
    """What was kept of it."""
    return [found for runtime in RUNTIMES if (found := load(f"bundle-{runtime}"))]


def says() -> str:
    """One sentence of it."""
    more = []
    for result in results():
        over = estimate.difference(result.arm("enrolled"), result.arm("none")).value
        more.append(f"{over:.0f} ms on {result.name.partition('-')[2]}")
    return f"A bundle that is enrolled starts {' and '.join(more)} later than the same bundle with the engine's filter."


def rows() -> list[Row]:
    """Ratios against the same bundle with Podman's default filter."""
    return [
        Row(
            f"`{result.name.partition('-')[2]} run`, FHIR: {words}",
            f"{median(result.arm('none')):.0f} ms",
            f"{median(result.arm(arm)):.0f} ms",
            estimate.ratio(result.arm(arm), result.arm("none")),
        )
        for result in results()
        for arm, words in COMPARED
        if arm in result.arms
    ]
