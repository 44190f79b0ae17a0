"""Medians of paired values, and growth, each with a 95 % interval from a bootstrap (percentile method)."""

from __future__ import annotations

import dataclasses
import functools
import math
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
    return _of(tuple(values))


@functools.cache
def _of(values: tuple[float, ...]) -> Estimate:
    draw = random.Random(SEED)
    return _within(median(values), [median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES)])


def exact(value: float) -> Estimate:
    """A number that was counted, or measured once."""
    return Estimate(value, value, value)


def paired(combine: Callable[..., float], *arms: Sequence[float]) -> Estimate:
    """The median of `combine` applied to the values that the arms have in the same block."""
    return of([combine(*values) for values in zip(*arms, strict=True)])


def ratio(arm: Sequence[float], base: Sequence[float]) -> Estimate:
    """How many times as much `arm` takes as `base`, block by block."""
    return paired(lambda a, b: a / b, arm, base)


def difference(arm: Sequence[float], base: Sequence[float]) -> Estimate:
    """How much more `arm` takes than `base`, block by block."""
    return paired(lambda a, b: a - b, arm, base)


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope through the logarithms: 0 when size does not matter, 1 when twice the size takes twice as long."""
    points = [(math.log(size), math.log(value)) for size, value in zip(sizes, values, strict=True)]
    middle = [sum(axis) / len(points) for axis in zip(*points, strict=True)]
    above = sum((x - middle[0]) * (y - middle[1]) for x, y in points)
    return above / sum((x - middle[0]) ** 2 for x, _ in points)


def exponent(sizes: Sequence[float], samples: Sequence[Sequence[float]]) -> Estimate:
    """The slope of the medians; `samples` are the values of each size, which the bootstrap draws from one by one."""
    return _exponent(tuple(sizes), tuple(map(tuple, samples)))


@functools.cache
def _exponent(sizes: tuple[float, ...], samples: tuple[tuple[float, ...], ...]) -> Estimate:
    draw = random.Random(SEED)
    resampled = [
        slope(sizes, [median(draw.choices(values, k=len(values))) for values in samples]) for _ in range(RESAMPLES)
    ]
    return _within(slope(sizes, [median(values) for values in samples]), resampled)


def _within(value: float, resampled: list[float]) -> Estimate:
    resampled.sort()
    cut = RESAMPLES * 25 // 1000
    return Estimate(value, resampled[cut], resampled[-cut - 1])
