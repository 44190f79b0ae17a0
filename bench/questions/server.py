"""How much later does a real FHIR server give its first answer?"""

from __future__ import annotations

from statistics import median

from bench import estimate
from bench.alternate import alternate, working
from bench.arms import ARMS as WORDS
from bench.arms import Bench, BenchError
from bench.result import Result, load
from bench.row import Row
from bench.servers import KINDS, Server, network

TITLE = "A server's first answer"
SECONDS = 110.0
ARMS = ("none", "unconfined", "native", "live", "hand", "gvisor")
COMPARED = (
    ("native", "FHIR, native", 1.10),
    ("live", "FHIR, live", 1.15),
    ("hand", f"FHIR, {WORDS['hand']}", None),
    ("unconfined", f"FHIR, {WORDS['unconfined']}", None),
    ("gvisor", f"FHIR, {WORDS['gvisor']}", None),
)


def measure(bench: Bench, share: float) -> None:
    """Times from the start of `podman run -d` to the first 200 of /fhir/metadata, asked for in the server's network."""
    bench.host.load(KINDS["plain"].tag)
    with network(bench) as name:
        arms = {arm: lambda arm=arm: _first_answer(bench, arm, name) for arm in ARMS}
        good, failed = working(arms, (BenchError, AssertionError))
        blocks = alternate("first answer of HAPI FHIR on runc", good, SECONDS * share)
    bench.result("server", "ms", list(good), blocks, failed=failed).save()


def _first_answer(bench: Bench, arm: str, name: str) -> float:
    bench.settle()
    server = Server(bench, KINDS["plain"], arm, name)
    try:
        return server.start()
    finally:
        server.stop()


def results() -> list[Result]:
    """What was kept of it."""
    return [found for found in [load("server")] if found]


def says() -> str:
    """One sentence of it."""
    result = results()[0]
    native, live = (estimate.difference(result.arm(arm), result.arm("none")).value for arm in ("native", "live"))
    words = f"HAPI FHIR gives its first answer {native:.0f} ms later natively and {live:.0f} ms later live"
    if "gvisor" not in result.arms:
        return f"{words}, of the {median(result.arm('none')):.0f} ms that it takes without the hook."
    gvisor = estimate.ratio(result.arm("gvisor"), result.arm("none")).value
    return f"{words} than after {median(result.arm('none')):.0f} ms; in gVisor it takes {gvisor:.1f} times as long."


def rows() -> list[Row]:
    """Ratios, arm against arm without the hook."""
    return [
        Row(
            f"HAPI FHIR 8.8.0, `podman run` to first answer, on runc: {words}",
            f"{median(result.arm('none')):.0f} ms",
            f"{median(result.arm(arm)):.0f} ms",
            estimate.ratio(result.arm(arm), result.arm("none")),
            goal=goal,
        )
        for result in results()
        for arm, words, goal in COMPARED
        if arm in result.arms
    ]
