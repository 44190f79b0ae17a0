"""Runs the arms of a comparison in turn, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping

Arm = Callable[[], float]
SEED = 20_001
REPORT_SECONDS = 5.0


def alternate(
    title: str, arms: Mapping[str, Arm], seconds: float, most: int = 10_000, warm: bool = True
) -> list[list[float]]:
    """Blocks, each with one value of every arm in the order of `arms`, until `seconds` have passed or `most` are done.

    Within a block the order is drawn anew; with `warm`, one block before the first is thrown away. There are at least
    three.
    """
    names = list(arms)
    order = list(range(len(names)))
    draw = random.Random(SEED)
    blocks: list[list[float]] = []
    with Progress(title, seconds) as progress:
        for arm in arms.values() if warm else ():
            arm()
        began = time.monotonic()
        while len(blocks) < most and (len(blocks) < 3 or time.monotonic() - began < seconds):
            draw.shuffle(order)
            block = [0.0] * len(names)
            for position in order:
                block[position] = arms[names[position]]()
            blocks.append(block)
            progress.tell(f"{len(blocks)} blocks of {len(names)} arms")
    return blocks


def working(arms: Mapping[str, Arm], failures: tuple[type[Exception], ...]) -> tuple[dict[str, Arm], dict[str, str]]:
    """The arms that can be run here, each tried once, and why the others can't, in one line each."""
    good: dict[str, Arm] = {}
    bad: dict[str, str] = {}
    for name, arm in arms.items():
        try:
            arm()
            good[name] = arm
        except failures as error:
            bad[name] = one_line(error)
            print(f"  {name} can't be measured: {bad[name]}", file=sys.stderr, flush=True)
    return good, bad


def one_line(error: Exception, most: int = 300) -> str:
    """The end of what an error says, which names the cause."""
    words = " ".join(str(error).split())
    return words if len(words) <= most else f"... {words[-most:]}"


class Progress:
    """One line on stderr every few seconds, and one at the end."""

    def __init__(self, title: str, seconds: float) -> None:
        self._title = title
        self._seconds = seconds
        self._began = self._told = time.monotonic()
        self._last = ""

    def __enter__(self) -> Progress:
        print(f"{self._title} (about {self._seconds:.0f} s)", file=sys.stderr, flush=True)
        return self

    def tell(self, what: str) -> None:
        """Say what has been done so far, if the last time is some seconds ago."""
        self._last = what
        now = time.monotonic()
        if now - self._told >= REPORT_SECONDS:
            self._told = now
            print(f"  {now - self._began:4.0f} s: {what}", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        print(f"  {time.monotonic() - self._began:4.0f} s: {self._last or 'done'}, end", file=sys.stderr, flush=True)
