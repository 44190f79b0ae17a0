"""The figures of bench/: medians and exponents with their intervals, goals, and what a failing arm leaves behind."""

from __future__ import annotations

import random

import pytest

from bench import estimate
from bench.alternate import alternate, one_line, working
from bench.estimate import Estimate
from bench.row import NO, NOISE, UNCLEAR, YES, Row

SIZES = [1.0, 10.0, 100.0, 1000.0]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_the_power_law_behind_the_values(power: float) -> None:
    draw = random.Random(1)
    samples = [[3.0 * size**power * draw.uniform(0.99, 1.01) for _ in range(50)] for size in SIZES]
    found = estimate.exponent(SIZES, samples)
    assert found.value == pytest.approx(power, abs=0.01)
    assert found.low <= power <= found.high or abs(found.value - power) < 0.002


def test_the_exponent_of_exact_values_has_an_interval_without_width() -> None:
    found = estimate.exponent(SIZES, [[size] for size in SIZES])
    assert (found.low, found.value, found.high) == pytest.approx((1.0, 1.0, 1.0))


def test_noisier_values_widen_the_interval() -> None:
    draw = random.Random(2)
    widths = []
    for noise in (0.01, 0.3):
        samples = [[draw.uniform(1 - noise, 1 + noise) for _ in range(30)] for _ in SIZES]
        found = estimate.exponent(SIZES, samples)
        widths.append(found.high - found.low)
    assert widths[0] < widths[1] / 5


def test_a_median_lies_within_its_interval_and_pairs_keep_what_both_arms_suffer() -> None:
    noise = [random.Random(3).uniform(1, 9) for _ in range(100)]
    found = estimate.ratio([2 * value for value in noise], noise)
    assert (found.low, found.value, found.high) == pytest.approx((2.0, 2.0, 2.0))
    single = estimate.of(noise)
    assert single.low <= single.value <= single.high


@pytest.mark.parametrize(
    ("compared", "least", "said"),
    [
        (Estimate(1.0, 0.9, 1.1), False, YES),
        (Estimate(1.2, 1.05, 1.25), False, NOISE),
        (Estimate(1.2, 1.15, 1.3), False, NO),
        (Estimate(1.0, 0.6, 1.9), False, UNCLEAR),
        (Estimate(1.0, 0.6, 1.09), False, YES),
        (Estimate(1.5, 0.9, 1.9), True, UNCLEAR),
        (Estimate(1.2, 1.15, 1.3), True, YES),
        (Estimate(1.05, 1.0, 1.2), True, NOISE),
        (Estimate(1.0, 0.9, 1.05), True, NO),
    ],
)
def test_a_goal_is_reached_missed_or_within_noise(compared: Estimate, least: bool, said: str) -> None:
    row = Row("what", "1", "2", compared, goal=1.1, least=least)
    assert row.reached == said
    assert ("≥" if least else "≤") + " 1.1" in row.markdown()


def test_an_arm_that_fails_is_left_out_with_its_reason_in_one_line() -> None:
    def fails() -> float:
        raise RuntimeError("no such\nthing")

    good, bad = working({"good": lambda: 1.0, "bad": fails}, (RuntimeError,))
    assert list(good) == ["good"] and bad == {"bad": "no such thing"}
    assert one_line(RuntimeError("x" * 1000 + "the cause")).endswith("the cause")


def test_every_block_has_a_value_of_each_arm_in_its_own_place() -> None:
    blocks = alternate("test", {"one": lambda: 1.0, "two": lambda: 2.0}, 0.0, 7)
    assert len(blocks) >= 3 and all(block == [1.0, 2.0] for block in blocks)
