"""The table of all questions, as Markdown."""

from __future__ import annotations

import importlib

from bench import machine
from bench.row import HEAD, NO, Row

QUESTIONS = ("start", "share", "server", "calls", "memory", "log", "recording", "runtime")
BUSY = 1.0  # load average


def markdown() -> str:
    """Machine, table, noise, and what was not reached; from the kept results alone."""
    rows: list[Row] = []
    machines, blocks, loads = [], {}, []
    for name in QUESTIONS:
        question = importlib.import_module(f"bench.questions.{name}")
        rows += question.rows()
        for result in question.results():
            blocks[result.name] = len(result.blocks)
            loads.append(result.machine["load"])
            words = machine.sentence(result.machine)
            if words not in machines:
                machines.append(words)
    if not rows:
        return "Nothing has been measured yet: `make bench`.\n"
    missed = [row.what for row in rows if row.reached == NO]
    goals = [row for row in rows if row.goal is not None]
    busy = " Other work ran on this machine at the time, so trust the intervals." if max(loads) > BUSY else ""
    counts = ", ".join(f"{name} {count}" for name, count in blocks.items())
    return "\n".join(
        [
            f"{HEAD}",
            *(row.markdown() for row in rows),
            "",
            f"{len(goals) - len(missed)} of {len(goals)} goals reached" + (": missed are" if missed else "."),
            *(f"- {what}" for what in missed),
            "",
            f"Machine: {'; and '.join(machines)}. Load average before the measurements: {min(loads):.1f} to "
            f"{max(loads):.1f}.{busy} Every figure is the median over blocks in which each arm ran once, in an order "
            f"drawn anew ({counts}); its interval is a bootstrap over the blocks. The rows named noise compare an arm "
            "with itself.",
            "",
        ]
    )
