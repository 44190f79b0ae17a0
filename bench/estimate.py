"""Medians of paired values, each with a 95 % interval from a bootstrap over the pairs (percentile method)."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from statistics import median

RESAMPLES = 1000
SEED = 20_002


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A median and the ends of its 95 % interval, in the unit of the values."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


def of(values: Sequence[float]) -> Estimate:
    """The median of single values."""
    draw = random.Random(SEED)
    medians = sorted(median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    cut = RESAMPLES * 25 // 1000
    return Estimate(median(values), medians[cut], medians[-cut - 1])


def paired(combine: Callable[..., float], *arms: Sequence[float]) -> Estimate:
    """The median of `combine` applied to the values that the arms have in the same block."""
    return of([combine(*values) for values in zip(*arms, strict=True)])


def ratio(arm: Sequence[float], base: Sequence[float]) -> Estimate:
    """How many times as much `arm` takes as `base`, block by block."""
    return paired(lambda a, b: a / b, arm, base)


def difference(arm: Sequence[float], base: Sequence[float]) -> Estimate:
    """How much more `arm` takes than `base`, block by block."""
    return paired(lambda a, b: a - b, arm, base)
