"""What was measured, as Markdown and pictures: a page with everything, and the few rows of the README."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from bench import machine, picture
from bench.row import HEAD, NO, NOISE, UNCLEAR, YES, Row

QUESTIONS = (
    *("surface", "start", "share", "bundle", "crowd", "server", "service", "paper"),
    *("calls", "memory", "growth", "log", "recording", "runtime", "pod"),
)
HEADLINES = ("start", "server", "service")  # questions whose rows with a goal are in the README
BUSY = 1.0  # load average
NOTHING = "Nothing has been measured yet: `make bench`.\n"
PICTURES = "bench"
"""Directory of the pictures, below docs/."""
QEMU = (
    "There is no row for a QEMU machine: the machine that measured is a virtual one without KVM, so that a guest on it "
    "would be emulated, and its figures would say nothing. The founding paper's are quoted where it measured."
)


def page() -> str:
    """docs/bench.md: for each question a sentence, a picture, tables; then goals and the machine; from kept results."""
    parts = ["# What it costs", "", "Written by `make bench` from `bench/results/`, good or bad.", ""]
    for question in answered():
        title = (question.__doc__ or question.__name__).strip().splitlines()[0].rstrip(".")
        name = question.__name__.rpartition(".")[2]
        parts += [f"## {title}", "", question.says(), "", f"![{question.TITLE}]({PICTURES}/{name}.svg)", ""]
        parts += question.table() if hasattr(question, "table") else _table(question.rows())
        parts += ["", *_failed(question)]
    parts += ["## Goals", "", *_reached(), "", "## How it was measured", "", _measured(), "", QEMU, ""]
    return "\n".join(parts) if answered() else NOTHING


def summary() -> str:
    """The README's part: the one picture, its sentence, the headlines."""
    rows = [row for name in HEADLINES for row in _question(name).rows() if row.goal is not None]
    goals = [row for row in _all_rows() if row.goal is not None]
    if not rows:
        return NOTHING
    surface, parts = _question("surface"), []
    if surface in answered():
        parts = [f"![{surface.TITLE}](docs/{PICTURES}/surface.svg)", "", surface.says(), ""]
    told = f"{_counted(goals)}: [every figure, what is missed, and how](docs/bench.md)."
    return "\n".join([*parts, *_table(rows), "", told, ""])


def pictures(directory: Path) -> list[Path]:
    """Draws NAME.svg of each question that was answered; returns what it drew. Raises picture.PictureError."""
    drawn = []
    for question in answered():
        path = directory / f"{question.__name__.rpartition('.')[2]}.svg"
        if hasattr(question, "draw"):
            question.draw(path)
        else:
            picture.forest(path, question.TITLE, question.rows())
        drawn.append(path)
    return drawn


def answered() -> list[ModuleType]:
    """The questions of which there are results."""
    return [question for question in map(_question, QUESTIONS) if question.results()]


def _question(name: str) -> ModuleType:
    return importlib.import_module(f"bench.questions.{name}")


def _all_rows() -> list[Row]:
    return [row for question in answered() for row in question.rows()]


def _table(rows: list[Row]) -> list[str]:
    return [HEAD, *(row.markdown() for row in rows)]


def _failed(question: ModuleType) -> list[str]:
    """What could not be measured, in words: results keep it in about["failed"], by arm."""
    said = {
        f"- Not measured: {arm}: `{words.replace('`', '')}`": None
        for result in question.results()
        for arm, words in result.about.get("failed", {}).items()
    }
    return [*said, ""] if said else []


def _reached() -> list[str]:
    goals = [row for row in _all_rows() if row.goal is not None]
    missed = [f"- {row.what}{f': {row.why}' if row.why else ''}" for row in goals if row.reached == NO]
    return [_counted(goals) + ("; missed are" if missed else "."), *([""] if missed else []), *missed]


def _counted(goals: list[Row]) -> str:
    reached = len([row for row in goals if row.reached in (YES, NOISE)])
    unclear = len([row for row in goals if row.reached == UNCLEAR])
    noisy = f", of {unclear} the noise lets nobody tell" if unclear else ""
    return f"{reached} of {len(goals)} goals are reached{noisy}"


def _measured() -> str:
    machines, blocks, loads = [], [], [0.0]
    for result in (result for question in answered() for result in question.results()):
        blocks.append(f"{result.name} {len(result.blocks)} at {result.machine['load']:.0f}")
        loads.append(result.machine["load"])
        words = machine.sentence(result.machine)
        if words not in machines:
            machines.append(words)
    busy = " Other work ran on this machine at the time and made all of it slower." if max(loads) > BUSY else ""
    return (
        f"Machine: {'; and '.join(machines)}. Load average before the measurements: at most {max(loads):.0f}.{busy} "
        f"Every figure is the median over blocks in which each arm ran once, in an order drawn anew (blocks at load "
        f"average: {', '.join(blocks)}); its interval is a bootstrap over the blocks. The rows named noise compare an "
        "arm with itself."
    )
