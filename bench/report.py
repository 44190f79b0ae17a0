"""What was measured, as Markdown: a page with everything, and the few rows of the README."""

from __future__ import annotations

import importlib
from types import ModuleType

from bench import machine
from bench.row import HEAD, NO, Row

QUESTIONS = ("start", "share", "server", "calls", "memory", "log", "recording", "runtime")
HEADLINES = ("start", "server")  # questions whose rows with a goal are in the README
BUSY = 1.0  # load average
NOTHING = "Nothing has been measured yet: `make bench`.\n"


def page() -> str:
    """docs/bench.md: a table for each question, what was not reached, the machine, the noise; from the kept results."""
    parts = ["# What it costs", "", "Written by `make bench` from `bench/results/`, good or bad.", ""]
    for question in _questions():
        rows = question.rows()
        if rows:
            title = (question.__doc__ or question.__name__).strip().splitlines()[0].rstrip(".")
            parts += [f"## {title}", "", HEAD, *(row.markdown() for row in rows), ""]
    parts += ["## Goals", "", *_reached(), "", "## How it was measured", "", _measured(), ""]
    return "\n".join(parts) if _all_rows() else NOTHING


def summary() -> str:
    """The README's rows."""
    rows = [row for name in HEADLINES for row in _question(name).rows() if row.goal is not None]
    if not rows:
        return NOTHING
    goals = [row for row in _all_rows() if row.goal is not None]
    reached = len([row for row in goals if row.reached != NO])
    told = f"{reached} of {len(goals)} goals are reached: [every figure, what is missed, and how](docs/bench.md)."
    return "\n".join([HEAD, *(row.markdown() for row in rows), "", told, ""])


def _question(name: str) -> ModuleType:
    return importlib.import_module(f"bench.questions.{name}")


def _questions() -> list[ModuleType]:
    return [_question(name) for name in QUESTIONS]


def _all_rows() -> list[Row]:
    return [row for question in _questions() for row in question.rows()]


def _reached() -> list[str]:
    goals = [row for row in _all_rows() if row.goal is not None]
    missed = [row.what for row in goals if row.reached == NO]
    said = f"{len(goals) - len(missed)} of {len(goals)} are reached"
    return [said + ("; missed are" if missed else "."), *([""] if missed else []), *(f"- {what}" for what in missed)]


def _measured() -> str:
    machines, blocks, loads = [], [], [0.0]
    for result in (result for question in _questions() for result in question.results()):
        blocks.append(f"{result.name} {len(result.blocks)}")
        loads.append(result.machine["load"])
        words = machine.sentence(result.machine)
        if words not in machines:
            machines.append(words)
    busy = " Other work ran on this machine at the time, so trust the intervals." if max(loads) > BUSY else ""
    return (
        f"Machine: {'; and '.join(machines)}. Load average before the measurements: at most {max(loads):.1f}.{busy} "
        f"Every figure is the median over blocks in which each arm ran once, in an order drawn anew "
        f"({', '.join(blocks)}); its interval is a bootstrap over the blocks. The rows named noise compare an arm with "
        "itself."
    )
