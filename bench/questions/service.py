"""Does a FHIR server under load answer as fast with the filter as without?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import estimate
from bench.alternate import alternate, one_line
from bench.arms import ARMS as WORDS
from bench.arms import Bench, BenchError, compiled
from bench.result import Result, load
from bench.row import HEAD, Row
from bench.servers import KINDS, MIX, Kind, Server, network

TITLE = "Service"
SECONDS = 75.0  # of load, for each server
ARMS = ("unconfined", "none", "none again", "native", "live", "hand", "gvisor")
# server -> (clients, requests of each in a turn, requests of each to warm up, seconds to start, goal over gVisor)
LOADS = {
    "plain": (8, 700, 6000, 60, 2.0),
    "fhirstarter": (8, 40, 40, 60, None),
    "jpa": (8, 120, 1200, 300, 2.0),
    "helios": (8, 100, 100, 60, 3.0),
}
IN_FULL = ("jpa", "helios")
"""Left to make bench-full: one takes half a minute to start in each arm, the other most of an hour to build."""
KINDS_OF = ("rate", "p50", "p99", "cpu")
WARM_SECONDS = 8.0
# arm, against, goal, words
COMPARED: tuple[tuple[str, str, float | None], ...] = (
    ("native", "unconfined", 0.99),
    ("live", "unconfined", 0.99),
    ("native", "none", 0.99),
    ("live", "none", 0.99),
    ("hand", "none", None),
    ("none again", "none", None),
)


def measure(bench: Bench, share: float) -> None:
    """Requests a second of each server in each arm; all run at the same time, and one is asked at any moment."""
    program = compiled("load", bench.host.directory())
    for name in LOADS:
        if bench.full or name not in IN_FULL:
            bench.host.load(KINDS[name].tag)
            _measure(bench, name, program, SECONDS * share)


def _measure(bench: Bench, name: str, program: Path, seconds: float) -> None:
    clients, requests, _, patience, _ = LOADS[name]
    seen: dict[str, list[tuple[float, ...]]] = {}
    with servers(bench, KINDS[name], ARMS, program, LOADS[name][2], patience) as (running, failed):

        def ask(arm: str) -> float:
            found = running[arm].ask(program, clients, requests, 60, MIX)
            seen.setdefault(arm, []).append((found.rate, found.p50, found.p99, found.processor))
            return found.rate

        blocks = alternate(
            f"{KINDS[name].words} under load", {arm: lambda arm=arm: ask(arm) for arm in running}, seconds
        )
        memory = {arm: round(server.memory(), 1) for arm, server in running.items()}
    names = [f"{arm}: {kind}" for arm in running for kind in KINDS_OF]
    # The first value of each is of the block that alternate() throws away.
    rows = [[value for arm in running for value in seen[arm][1 + number]] for number in range(len(blocks))]
    about = {"mix": MIX, "clients": clients, "requests": requests, "memory": memory, "failed": failed}
    bench.result(f"service-{name}", "req/s, ms, ms, us", names, rows, **about).save()


@contextlib.contextmanager
def servers(
    bench: Bench, kind: Kind, arms: tuple[str, ...], program: Path, warm: int, patience: float
) -> Iterator[tuple[dict[str, Server], dict[str, str]]]:
    """A warm server for each arm that works here, and why the others don't."""
    running: dict[str, Server] = {}
    failed: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for arm in arms:
            server = Server(bench, kind, arm.partition(" ")[0], stack.enter_context(network(bench)))
            try:
                server.start(patience)
                stack.callback(server.stop)
                server.ask(program, 8, warm, WARM_SECONDS, MIX)
                running[arm] = server
            except (BenchError, AssertionError) as error:
                failed[f"{kind.words}, {WORDS[server.arm]}"] = one_line(error)
        yield running, failed


def results() -> list[Result]:
    """What was kept of it."""
    return [found for name in LOADS if (found := load(f"service-{name}"))]


def says() -> str:
    """One sentence of it."""
    parts = []
    for result in results():
        if not {"native: rate", "unconfined: rate"} <= set(result.arms):
            continue
        part = estimate.ratio(result.arm("native: rate"), result.arm("unconfined: rate"))
        words = f"{_kind(result).words} serves {part.value:.2f} times ({part.low:.2f} to {part.high:.2f}) the requests "
        words += "a second that it serves unconfined"
        if "gvisor: rate" in result.arms:
            over = estimate.ratio(result.arm("native: rate"), result.arm("gvisor: rate")).value
            words += f", and {over:.1f} times as many as in gVisor"
        parts.append(words)
    return f"Natively confined, {'; '.join(parts)}."


def rows() -> list[Row]:
    """Ratios of requests a second, and of processor time."""
    found = []
    for result in results():
        for arm, base, goal in (*COMPARED, ("native", "gvisor", LOADS[result.name.partition("-")[2]][4])):
            if f"{arm}: rate" in result.arms and f"{base}: rate" in result.arms:
                found.append(_row(result, arm, base, goal))
        found += [_processor(result, arm) for arm in ("native", "live", "none again") if f"{arm}: cpu" in result.arms]
    return found


def _processor(result: Result, arm: str) -> Row:
    """Processor time a request against the engine's default: other work on the machine matters less to it."""
    values, against = result.arm(f"{arm}: cpu"), result.arm("none: cpu")
    words = f"{arm} against none" if " " not in arm else "noise: two servers alike"
    sides = [f"{median(side):.0f} µs" for side in (against, values)]
    return Row(f"{_kind(result).words}, processor time a request: {words}", *sides, estimate.ratio(values, against))


def _row(result: Result, arm: str, base: str, goal: float | None) -> Row:
    values, against = result.arm(f"{arm}: rate"), result.arm(f"{base}: rate")
    words = f"{arm} against {base}" if " " not in arm else "noise: two servers alike"
    return Row(
        f"{_kind(result).words}, requests a second: {words}",
        f"{median(against):.0f}",
        f"{median(values):.0f}",
        estimate.ratio(values, against),
        goal=goal,
        least=goal is not None,
        why="two servers alike differ as much as the row named noise says" if base != "gvisor" else "",
    )


def table() -> list[str]:
    """The rows, and a table with everything that was measured of each arm."""
    lines = [HEAD, *(row.markdown() for row in rows()), ""]
    lines += ["| server | arm | requests/s | p50 | p99 | processor time a request | memory |", "|---" * 7 + "|"]
    for result in results():
        for arm in ARMS:
            if f"{arm}: rate" not in result.arms:
                continue
            rate, p50, p99, cpu = (median(result.arm(f"{arm}: {kind}")) for kind in KINDS_OF)
            memory = result.about["memory"][arm]
            words = WORDS[arm.partition(" ")[0]] + (", a second one" if " " in arm else "")
            found = f"{rate:,.0f} | {p50:.2f} ms | {p99:.2f} ms | {cpu:.0f} µs | {memory:.0f} MiB"
            lines.append(f"| {_kind(result).words} | {words} | {found} |")
    first = results()[0].about
    told = (
        f"The load: {first['clients']} clients, each with a connection of its own; create, read, update, delete and "
        f"search in the proportion {first['mix'].replace(',', ' : ')}. What only `make bench-full` asks: the servers "
        f"{' and '.join(KINDS[name].words for name in IN_FULL)}."
    )
    return [*lines, "", told]


def _kind(result: Result) -> Kind:
    return KINDS[result.name.partition("-")[2]]
