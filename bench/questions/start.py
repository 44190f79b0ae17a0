"""What does the hook add to a whole `podman run --rm`?"""

from __future__ import annotations

from statistics import median

from bench import estimate
from bench.alternate import alternate
from bench.arms import Bench, timed
from bench.result import Result, load
from bench.row import Row

TITLE = "Start"
SECONDS = 75.0
RUNTIMES = ("runc", "crun")
# arm -> (image, arm of bench.arms)
ARMS = {
    "plain none": ("probe:plain", "none"),
    "plain none again": ("probe:plain", "none"),
    "plain hook": ("probe:plain", "native"),
    "fhir none": ("probe:hapi", "none"),
    "fhir native": ("probe:hapi", "native"),
    "fhir live": ("probe:hapi", "live"),
}
# arm, arm without the hook, words, goal
COMPARED = (
    ("plain hook", "plain none", "not FHIR", 1.06),
    ("fhir native", "fhir none", "FHIR, native", 1.10),
    ("fhir live", "fhir none", "FHIR, live", 1.15),
    ("plain none again", "plain none", "noise: no hook against itself", None),
)


def measure(bench: Bench, share: float) -> None:
    """Times every arm on each runtime; `share` scales the time it may take."""
    for tag, _ in ARMS.values():
        bench.host.load(tag)
    for runtime in RUNTIMES:

        def run(tag: str, arm: str, runtime: str = runtime) -> float:
            bench.settle()
            return timed(bench.podman(arm, "run", "--rm", "--network", "none", tag, "true", runtime=runtime))

        arms = {name: lambda tag=tag, arm=arm, run=run: run(tag, arm) for name, (tag, arm) in ARMS.items()}
        blocks = alternate(f"podman run on {runtime}", arms, SECONDS * share)
        bench.result(f"start-{runtime}", "ms", list(arms), blocks).save()


def results() -> list[Result]:
    """What was kept of it."""
    return [found for runtime in RUNTIMES if (found := load(f"start-{runtime}"))]


def rows() -> list[Row]:
    """Ratios, arm against arm without the hook."""
    return [
        Row(
            f"`podman run` on {result.name.removeprefix('start-')}: {words}",
            f"{median(result.arm(base)):.0f} ms",
            f"{median(result.arm(arm)):.0f} ms",
            estimate.ratio(result.arm(arm), result.arm(base)),
            goal=goal,
        )
        for result in results()
        for arm, base, words, goal in COMPARED
    ]
