"""What does each arm leave within reach, and at what price?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bench import estimate, picture
from bench.alternate import one_line
from bench.arms import ARMS as WORDS
from bench.arms import Bench, BenchError
from bench.estimate import Estimate
from bench.result import Result, load
from bench.row import Row
from fhir_hook.authoring.expand import NUMBERS

TITLE = "Attack surface against cost"
SECONDS = 10.0
ARMS = ("unconfined", "none", "native", "live", "hand", "gvisor")
# arm -> what `fhir-hook profile surface` calls its filter; gVisor answers most calls itself, so its flaws are others
FILTERS = {"unconfined": "unconfined", "none": "podman", "native": "hapi", "live": "hapi", "hand": "hapi"}
PANELS = (("start-runc", "fhir {}", "`podman run`, ms"), ("service-plain", "{}: cpu", "processor time a request, us"))


def measure(bench: Bench, share: float) -> None:
    """Reads from the kernel what each arm's process may call of the host, and asks for the CVEs of each filter."""
    bench.host.load("probe:hapi")
    found: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for arm in ARMS:
        try:
            found[arm] = _read_back(bench, arm)
        except (BenchError, AssertionError) as error:
            failed[WORDS[arm]] = one_line(error)
    said = bench.host.run(["fhir-hook", "profile", "surface", "--json", *sorted(set(FILTERS.values()))], check=True)
    lines = {line["name"]: line for line in json.loads(said.stdout)}
    for arm, name in FILTERS.items():
        if arm in found:
            found[arm] |= {"closed": lines[name]["closed"], "cves": lines[name]["cves"]}
    blocks = [[float(seen["allowed"]) for seen in found.values()]]
    bench.result("surface", "calls", list(found), blocks, counted=found, failed=failed).save()


def _read_back(bench: Bench, arm: str) -> dict[str, Any]:
    """Counts of `fhir-hook inspect` for the process that the host sees: the program, or gVisor's own kernel."""
    done = bench.host.run(bench.podman(arm, "run", "-d", "--network", "none", "probe:hapi", "sleeper"))
    if done.returncode != 0:
        raise BenchError(done.stderr)
    container = done.stdout.strip().splitlines()[-1]
    try:
        pid = bench.host.podman("inspect", "-f", "{{.State.Pid}}", container, check=True).stdout.strip()
        seen = json.loads(bench.host.run(["fhir-hook", "inspect", pid, "--json"], check=True).stdout)
    finally:
        bench.remove(container)
    counts = seen["counts"]
    if counts is None:
        # no filter at all
        return {"allowed": len(NUMBERS[os.uname().machine]), "filtered": 0}
    return {"allowed": counts["allowed"] + counts["filtered"], "filtered": counts["filtered"]}


def results() -> list[Result]:
    """What was kept of it."""
    return [found for found in [load("surface")] if found]


def says() -> str:
    """One sentence of it."""
    arms = results()[0].about["counted"]
    native, default = arms["native"], arms["none"]
    return (
        f"Of the {default['allowed']} calls that the engine's default allows, fhir-hook leaves a HAPI server "
        f"{native['allowed']} and closes {native['closed']} of {native['cves']} known kernel flaws instead of "
        f"{default['closed']}."
    )


def rows() -> list[Row]:
    """No goals here."""
    return []


def table() -> list[str]:
    """Calls, CVEs and cost of each arm."""
    arms = results()[0].about["counted"]
    lines = [
        "| arm | calls of the host allowed | by arguments | known kernel flaws closed | `podman run` | "
        "HAPI FHIR, processor time a request |",
        "|---" * 6 + "|",
    ]
    for arm, seen in arms.items():
        closed = f"{seen['closed']} of {seen['cves']}" if "closed" in seen else "not comparable"
        start, service = (_said(cost) for cost in (_cost(arm, *panel[:2]) for panel in PANELS))
        lines.append(
            f"| {WORDS[arm]} | {seen['allowed']} | {seen['filtered']} | {closed} | {start and start + ' ms'} | "
            f"{service and service + ' µs'} |"
        )
    told = (
        "Calls are counted in the kernel's own copy of the filters, at least with some arguments, with what the "
        "runtime needs itself. With gVisor it is the filter around gVisor's own kernel, which answers the server's "
        "calls itself: which flaws that closes can't be told by the calls."
    )
    return [*lines, "", told]


def _said(cost: Estimate | None) -> str:
    return "" if cost is None else f"{cost.value:.0f} ({cost.low:.0f} to {cost.high:.0f})"


def _cost(arm: str, name: str, pattern: str) -> Estimate | None:
    """The price that another question found; None when it was not asked."""
    result = load(name)
    if result is None or pattern.format(arm) not in result.arms:
        return None
    return estimate.of(result.arm(pattern.format(arm)))


def draw(path: Path) -> None:
    """Calls over cost: a dot for each arm, with the CVEs that it closes."""
    arms = results()[0].about["counted"]
    with picture.figure(path, TITLE, 2, (12, 4.4), sharey=True) as axes:
        for axis, (name, pattern, across) in zip(axes, PANELS, strict=True):
            for number, (arm, seen) in enumerate(arms.items()):
                cost = _cost(arm, name, pattern)
                if cost is None:
                    continue
                closed = f", {seen['closed']} of {seen['cves']} flaws closed" if "closed" in seen else ""
                look = {"color": picture.COLOURS[number], "marker": picture.MARKERS[number], "markersize": 8}
                axis.plot([cost.low, cost.high], [seen["allowed"]] * 2, color=picture.COLOURS[number], linewidth=1.5)
                axis.plot([cost.value], [seen["allowed"]], linestyle="", label=WORDS[arm] + closed, alpha=0.8, **look)
            axis.set(xscale="log", xlabel=across.replace("`", ""), ylim=(0, 380))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter("{x:g}")
            axis.grid(True, which="both", axis="x", alpha=0.2)
        axes[0].set_ylabel("system calls allowed, of 362")
        axes[1].legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1.0, 0.86))
