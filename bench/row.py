"""Rows of the table: what was compared, and whether a goal was reached."""

from __future__ import annotations

import dataclasses

from bench.estimate import Estimate

YES, NOISE, NO = "yes", "within noise", "no"


@dataclasses.dataclass(frozen=True)
class Row:
    """`without` and `measured` are the two sides in words, `compared` what the goal is about, at most `goal` of it."""

    what: str
    without: str
    measured: str
    compared: Estimate
    unit: str = ""
    goal: float | None = None

    @property
    def reached(self) -> str:
        """yes; no; or within noise: the median is above the goal, the lower end of its interval is not."""
        if self.goal is None:
            return ""
        if self.compared.value <= self.goal:
            return YES
        return NOISE if self.compared.low <= self.goal else NO

    def markdown(self) -> str:
        """The row of the table."""
        digits = 3 if not self.unit else (0 if self.unit == "ns" else 1)
        unit = f" {self.unit}" if self.unit else ""
        numbers = [f"{n:.{digits}f}" for n in (self.compared.value, self.compared.low, self.compared.high)]
        compared = f"{numbers[0]}{unit} ({numbers[1]} to {numbers[2]})"
        goal = "" if self.goal is None else f"≤ {self.goal:g}{unit}"
        return f"| {self.what} | {self.without} | {self.measured} | {compared} | {goal} | {self.reached} |"


HEAD = "| what | without | with | compared (95 % interval) | goal | reached |\n|---|---|---|---|---|---|"
