"""What does the hook add when up to a hundred containers start at once?"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from pathlib import Path
from statistics import median

from bench import estimate, picture
from bench.alternate import alternate, working
from bench.arms import ARMS as WORDS
from bench.arms import Bench, BenchError
from bench.result import Result, load
from bench.row import Row

TITLE = "Starts at once"
SECONDS = 90.0
COUNTS = {1: 0.1, 10: 0.2, 50: 0.3, 100: 0.4}
"""Starts at once, and their part of the time."""
IN_FULL = (50,)
FEW = 10
"""Up to here there is time for a noise arm."""
ARMS = ("none", "none again", "native", "live")
COMPARED = (
    ("native", "native", 1.10),
    ("live", "live", 1.10),
    ("none again", "noise: no hook against itself", None),
)


def measure(bench: Bench, share: float) -> None:
    """Times N `podman run --rm` of the FHIR probe from the first start to the last end, and counts the records."""
    bench.host.load("probe:hapi")
    chosen = {count: part for count, part in COUNTS.items() if bench.full or count not in IN_FULL}
    for count, part in chosen.items():
        lost: list[int] = []
        names = [name for name in ARMS if count <= FEW or name in WORDS]
        arms = {name: lambda name=name, count=count, lost=lost: _at_once(bench, name, count, lost) for name in names}
        good, failed = working(arms, (BenchError,)) if count == min(COUNTS) else (arms, {})
        blocks = alternate(f"{count} starts at once", good, SECONDS * part * share, warm=count <= FEW)
        bench.result(f"crowd-{count}", "ms", list(good), blocks, failed=failed, lost=sum(lost), starts=len(lost)).save()


def _at_once(bench: Bench, name: str, count: int, lost: list[int]) -> float:
    bench.settle()
    arm = name.partition(" ")[0]
    before = _decisions(bench)
    argv = bench.podman(arm, "run", "--rm", "--network", "none", "probe:hapi", "true")
    began = time.perf_counter_ns()
    running = [subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(count)]
    ended = [(process.communicate(timeout=300)[1], process.returncode) for process in running]
    took = (time.perf_counter_ns() - began) / 1e6
    if said := [words for words, code in ended if code]:
        raise BenchError(f"{len(said)} of {count} starts failed ({arm}): {said[0].decode(errors='replace')}")
    if arm != "none":
        made = _decisions(bench) - before
        lost.append(count - min(made["decision"], made["outcome"]))
    return round(took, 4)


def _decisions(bench: Bench) -> Counter[str]:
    """How many records of each event there are, in the log as it is and in what was put aside."""
    found: Counter[str] = Counter()
    for path in Path("/var/log/fhir-hook").glob("decisions*.jsonl"):
        for event in ("decision", "outcome"):
            found[event] += path.read_bytes().count(b'"event":"%s"' % event.encode())
    return found


def results() -> list[Result]:
    """What was kept of it."""
    return [found for count in COUNTS if (found := load(f"crowd-{count}"))]


def says() -> str:
    """One sentence of it."""
    last = results()[-1]
    count = last.name.partition("-")[2]
    native, live = (estimate.ratio(last.arm(arm), last.arm("none")).value for arm in ("native", "live"))
    lost = sum(result.about["lost"] for result in results())
    return (
        f"{count} starts at once take {native:.2f} times as long natively and {live:.2f} times live as without the "
        f"hook, and {f'{lost} decisions were lost' if lost else 'no decision or outcome was lost'}."
    )


def rows() -> list[Row]:
    """Ratios of the time until the last has ended."""
    return [
        Row(
            f"{result.name.partition('-')[2]} at once, FHIR: {words}",
            f"{median(result.arm('none')):.0f} ms",
            f"{median(result.arm(arm)):.0f} ms",
            estimate.ratio(result.arm(arm), result.arm("none")),
            goal=goal if result.name == f"crowd-{max(COUNTS)}" else None,
            why="every start costs processor time of its own, and all processors are busy" if goal else "",
        )
        for result in results()
        for arm, words, goal in COMPARED
        if arm in result.arms
    ]


def draw(path: Path) -> None:
    """Time over the number of starts."""
    series = {}
    for arm in ("none", "native", "live"):
        kept = [result for result in results() if arm in result.arms]
        counts = [float(result.name.partition("-")[2]) for result in kept]
        series[WORDS[arm]] = (counts, [estimate.of(result.arm(arm)) for result in kept])
    picture.lines(path, TITLE, {"": series}, "containers started at once", "ms until the last has ended")
