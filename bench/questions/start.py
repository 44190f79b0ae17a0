"""What does each arm add to a whole `podman run --rm`?"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median

from bench import estimate
from bench.alternate import alternate, working
from bench.arms import ARMS as WORDS
from bench.arms import Bench, BenchError, timed
from bench.result import Result, load
from bench.row import Row

TITLE = "Start"
SECONDS = 80.0
# name of the result -> (runtime, user, words)
WAYS: dict[str, tuple[str, str | None, str]] = {
    "runc": ("runc", None, "on runc"),
    "crun": ("crun", None, "on crun"),
    "rootless": ("runc", "rootless", "on runc, rootless"),
    "cold": ("runc", None, "on runc, nothing cached"),
}
IN_FULL = ("cold",)
"""Empties the caches of the whole machine."""
# what is measured in the ways after the first two
FEW = ("plain none", "plain hook", "fhir none", "fhir native", "fhir live")
AS_USER = "/usr/local/bin/as-user"
# arm -> (image, arm of bench.arms)
ARMS = {
    "plain none": ("probe:plain", "none"),
    "plain none again": ("probe:plain", "none"),
    "plain hook": ("probe:plain", "native"),
    "plain conventional": ("probe:plain", "conventional"),
    "fhir unconfined": ("probe:hapi", "unconfined"),
    "fhir none": ("probe:hapi", "none"),
    "fhir native": ("probe:hapi", "native"),
    "fhir live": ("probe:hapi", "live"),
    "fhir hand": ("probe:hapi", "hand"),
    "fhir conventional": ("probe:hapi", "conventional"),
    "fhir gvisor": ("probe:hapi", "gvisor"),
    "fhir gvisor-debian": ("probe:hapi", "gvisor-debian"),
}
# gVisor is a runtime itself: it is measured beside runc only
ONCE = ("fhir gvisor", "fhir gvisor-debian")
# arm -> the stages of the hook in it, as the question share names them
STAGES = {
    "plain hook": ("plain precreate",),
    "fhir native": ("fhir precreate", "fhir gate"),
    "fhir live": ("fhir prestart",),
}
# arm, arm without the hook, words, goal
COMPARED = (
    ("plain hook", "plain none", "not FHIR", 1.06),
    ("fhir native", "fhir none", "FHIR, native", 1.10),
    ("fhir live", "fhir none", "FHIR, live", 1.15),
    ("plain conventional", "plain none", f"not FHIR, {WORDS['conventional']}", None),
    ("fhir conventional", "fhir none", f"FHIR, {WORDS['conventional']}", None),
    ("fhir hand", "fhir none", f"FHIR, {WORDS['hand']}", None),
    ("fhir unconfined", "fhir none", f"FHIR, {WORDS['unconfined']}", None),
    ("fhir gvisor", "fhir none", f"FHIR, {WORDS['gvisor']}", None),
    ("fhir gvisor-debian", "fhir none", f"FHIR, {WORDS['gvisor-debian']}", None),
    ("plain none again", "plain none", "noise: no hook against itself", None),
)


def measure(bench: Bench, share: float) -> None:
    """Times every arm in each way; `share` scales the time it may take."""
    for way in WAYS:
        if bench.full or way not in IN_FULL:
            _measure(bench, way, SECONDS * share * (1 if way in ("runc", "crun") else 0.5))


def _measure(bench: Bench, way: str, seconds: float) -> None:
    runtime, user, words = WAYS[way]
    for tag, _ in ARMS.values():
        bench.host.load(tag, user)

    def run(tag: str, arm: str) -> float:
        bench.settle()
        argv = bench.podman(arm, "run", "--rm", "--network", "none", tag, "true", runtime=runtime)
        if way == "cold":
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3")
        return timed([AS_USER, *argv] if user else argv)

    left_out = {"runc": (), "crun": ONCE}.get(way, tuple(set(ARMS) - set(FEW)))
    chosen = [name for name in ARMS if name not in left_out]
    arms = {name: lambda name=name: run(*ARMS[name]) for name in chosen}
    good, failed = working(arms, (BenchError, AssertionError))
    blocks = alternate(f"podman run {words}", good, seconds)
    bench.result(f"start-{way}", "ms", list(good), blocks, failed=failed).save()


def results() -> list[Result]:
    """What was kept of it."""
    return [found for way in WAYS if (found := load(f"start-{way}"))]


def says() -> str:
    """One sentence of it."""
    plain, native, live = (_more(arm, base) for arm, base, *_ in COMPARED[:3])
    return (
        f"A container that is not FHIR starts {plain} later, a FHIR server {native} later natively and {live} later "
        f"live{_interpreter()}."
    )


def _interpreter() -> str:
    share = load("share")
    return f"; Python's interpreter takes {median(share.arm('bare')):.0f} ms to start, natively twice" if share else ""


def _more(arm: str, base: str) -> str:
    found = [estimate.difference(result.arm(arm), result.arm(base)).value for result in results()]
    return f"{min(found):.0f} to {max(found):.0f} ms"


def rows() -> list[Row]:
    """Ratios, arm against arm without the hook."""
    return [
        _row(result, *compared)
        for result in results()
        for compared in COMPARED
        if compared[0] in result.arms and compared[1] in result.arms
    ]


def _row(result: Result, arm: str, base: str, words: str, goal: float | None) -> Row:
    return Row(
        f"`podman run` {WAYS[result.name.removeprefix('start-')][2]}: {words}",
        f"{median(result.arm(base)):.0f} ms",
        f"{median(result.arm(arm)):.0f} ms",
        estimate.ratio(result.arm(arm), result.arm(base)),
        goal=goal,
        why=_why(arm),
    )


def _why(arm: str) -> str:
    """From the hook's own share: what starting the interpreter takes of what is added."""
    share = load("share")
    if share is None or arm not in STAGES:
        return ""
    stages = STAGES[arm]
    bare = median(share.arm("bare")) * len(stages)
    whole = sum(median(share.arm(stage)) for stage in stages)
    return f"{bare:.0f} of the hook's {whole:.0f} ms are the start of Python's interpreter"
