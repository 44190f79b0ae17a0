"""The founding paper's own experiment: N clients at once, a hundred requests each"""

from __future__ import annotations

from pathlib import Path
from statistics import median

from bench import estimate, picture
from bench.alternate import alternate
from bench.arms import ARMS as WORDS
from bench.arms import Bench, compiled
from bench.questions.service import servers
from bench.result import Result, load
from bench.row import Row
from bench.servers import KINDS, READS, Server

TITLE = "The founding paper's experiment"
SECONDS = 40.0
CLIENTS = (1, 10, 50, 100)
ARMS = ("unconfined", "none", "native", "live", "gvisor")
# milliseconds by the number of clients, as the paper gives them
PAPER = {
    "paper: container (Alpine)": (4.94, 219.9, 1718.0, 3643.0),
    "paper: QEMU/KVM (Ubuntu)": (28.90, 1947.0, 50354.0, 199565.0),
}


def measure(bench: Bench, share: float) -> None:
    """Milliseconds from the first request to the last answer, on HAPI FHIR's plain server; each reads a patient."""
    bench.host.load(KINDS["plain"].tag)
    program = compiled("load", bench.host.directory())
    with servers(bench, KINDS["plain"], ARMS, program, 6000, 60) as (running, failed):

        def ask(server: Server, clients: int) -> float:
            return server.ask(program, clients, 100, 120, READS).took

        arms = {
            f"{clients}: {arm}": lambda server=server, clients=clients: ask(server, clients)
            for clients in CLIENTS
            for arm, server in running.items()
        }
        blocks = alternate("the paper's experiment", arms, SECONDS * share, warm=False)
    bench.result("paper", "ms", list(arms), blocks, failed=failed).save()


def results() -> list[Result]:
    """What was kept of it."""
    return [found for found in [load("paper")] if found]


def says() -> str:
    """One sentence of it."""
    result = results()[0]
    most = max(CLIENTS)
    ratio = estimate.ratio(result.arm(f"{most}: native"), result.arm(f"{most}: unconfined"))
    return (
        f"The paper compares a container with a virtual machine, and not one with a filter with one without: with "
        f"{most} clients, fhir-hook's makes it {ratio.value:.2f} times as long ({ratio.low:.2f} to {ratio.high:.2f})."
    )


def rows() -> list[Row]:
    """Nothing here has a goal: service has it."""
    return []


def table() -> list[str]:
    """Its table beside ours. The machines, servers and requests are others: compare within a column's source only."""
    result = results()[0]
    ours = [arm for arm in ARMS if f"1: {arm}" in result.arms]
    lines = [
        f"| clients x 100 requests | {' | '.join(PAPER)} | {' | '.join(f'here: {WORDS[arm]}' for arm in ours)} |",
        "|---" * (1 + len(PAPER) + len(ours)) + "|",
    ]
    for number, clients in enumerate(CLIENTS):
        theirs = [f"{values[number]:,.0f} ms" for values in PAPER.values()]
        found = [f"{median(result.arm(f'{clients}: {arm}')):,.0f} ms" for arm in ours]
        lines.append(f"| {clients} | {' | '.join([*theirs, *found])} |")
    told = "Machines, servers and requests are not the paper's: compare its two columns with each other, and ours."
    return [*lines, "", told]


def draw(path: Path) -> None:
    """Time over the number of clients."""
    result = results()[0]
    counts = [float(clients) for clients in CLIENTS]
    series = {words: (counts, [estimate.exact(value) for value in values]) for words, values in PAPER.items()}
    for arm in ARMS:
        if f"1: {arm}" in result.arms:
            series[f"here: {WORDS[arm]}"] = (counts, [estimate.of(result.arm(f"{n}: {arm}")) for n in CLIENTS])
    picture.lines(path, TITLE, {"": series}, "clients, with 100 requests each", "ms until the last answer")
