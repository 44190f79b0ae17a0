"""Rows of the table: what was compared, and whether a goal was reached."""

from __future__ import annotations

import dataclasses

from bench.estimate import Estimate

YES, NOISE, NO, UNCLEAR = "yes", "within noise", "no", "can't tell"
WIDE = 0.2
"""An interval wider than this part of a goal within it tells nothing about the goal."""


@dataclasses.dataclass(frozen=True)
class Row:
    """`without` and `measured` are the two sides in words, `compared` what the goal is about.

    The goal is at most `goal` of it, or at least with `least`. `why` says what stands in the way where it is missed.
    """

    what: str
    without: str
    measured: str
    compared: Estimate
    unit: str = ""
    goal: float | None = None
    least: bool = False
    why: str = ""

    @property
    def reached(self) -> str:
        """yes; no; within noise: the median misses the goal, the nearer end of its interval does not; or can't tell."""
        if self.goal is None:
            return ""
        if self.compared.low < self.goal < self.compared.high and self.compared.high - self.compared.low > self._wide:
            return UNCLEAR
        if self.least:
            return YES if self.compared.value >= self.goal else NOISE if self.compared.high >= self.goal else NO
        return YES if self.compared.value <= self.goal else NOISE if self.compared.low <= self.goal else NO

    @property
    def _wide(self) -> float:
        return WIDE * abs(self.goal or 0.0)

    def markdown(self) -> str:
        """The row of the table."""
        digits = 3 if not self.unit else (0 if self.unit == "ns" else 1)
        unit = f" {self.unit}" if self.unit else ""
        numbers = [f"{n:.{digits}f}" for n in (self.compared.value, self.compared.low, self.compared.high)]
        compared = f"{numbers[0]}{unit} ({numbers[1]} to {numbers[2]})"
        goal = "" if self.goal is None else f"{'≥' if self.least else '≤'} {self.goal:g}{unit}"
        return f"| {self.what} | {self.without} | {self.measured} | {compared} | {goal} | {self.reached} |"


HEAD = "| what | without | with | compared (95 % interval) | goal | reached |\n|---|---|---|---|---|---|"
