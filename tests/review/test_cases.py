"""cases.py: every kind of argument that conditions tell apart is found, and no more are needed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_hook.core import condition as algebra
from fhir_hook.core.oci_seccomp import Meaning
from fhir_hook.review import cases
from review.support import WORD, allow, args, section

SMALL = st.integers(0, 15)
CONDITION = st.tuples(st.just(0), st.sampled_from(algebra.OPERATORS), SMALL, SMALL)


def truth(conditions: list[cases.Condition], value: int) -> tuple[bool, ...]:
    return tuple(algebra.holds(cond, value) for cond in conditions)


@settings(max_examples=300, deadline=None)
@given(st.lists(CONDITION, min_size=1, max_size=5))
def test_each_combination_of_outcomes_that_a_value_can_have_is_found_once(conditions: list[cases.Condition]) -> None:
    found = [truth(conditions, value) for value in cases.cells(tuple(conditions))]
    # constants are below 16, so that 0 to 31 and one large value show every outcome there is
    possible = {truth(conditions, value) for value in (*range(32), algebra.MAX)}
    assert len(found) == len(set(found))
    assert set(found) == possible


@pytest.mark.parametrize(
    ("conditions", "values"),
    [
        ([(0, algebra.EQ, 38, 0)], [0, 38]),
        ([(0, algebra.LT, 38, 0), (0, algebra.EQ, 39, 0), (0, algebra.GT, 40, 0)], [0, 38, 39, 41]),
        ([(0, algebra.GT, 40, 0), (0, algebra.MASKED_EQ, WORD, 38)], [0, 38, 41, 38 | 1 << 32]),
    ],
)
def test_the_smallest_value_of_each_cell_is_the_example(conditions: list[cases.Condition], values: list[int]) -> None:
    assert list(cases.cells(tuple(conditions))) == values


def test_arguments_combine() -> None:
    points = set(cases.points([(0, algebra.EQ, 2, 0), (1, algebra.EQ, 1, 0)]))
    assert points == {(a, b, 0, 0, 0, 0) for a, b in itertools.product((0, 2), (0, 1))}


def test_attack_conditions_that_tell_millions_of_cases_apart_end_in_one_line() -> None:
    bits = [(0, algebra.MASKED_EQ, 1 << bit, 0) for bit in range(64)]
    with pytest.raises(cases.TooMany):
        cases.cells(tuple(bits))
    many = [(index, algebra.EQ, value, 0) for index in range(6) for value in range(20)]
    with pytest.raises(cases.TooMany):
        cases.points(many)


def test_a_witness_meets_the_conditions_and_is_let_through() -> None:
    meaning = Meaning(section(allow("socket", args=args((0, "LT", 38))), allow("socket", args=args((0, "GT", 40)))))
    assert cases.witness(meaning, "socket", [(0, algebra.MASKED_EQ, WORD, 17)]) == (17, 0, 0, 0, 0, 0)
    # the kernel takes the low half of the register as the family, the filter sees all of it
    found = cases.witness(meaning, "socket", [(0, algebra.MASKED_EQ, WORD, 38)])
    assert found is not None and found[0] & WORD == 38 and found[0] > WORD
    exact = Meaning(section(allow("socket", args=args((0, "EQ", 2)))))
    assert cases.witness(exact, "socket", [(0, algebra.MASKED_EQ, WORD, 38)]) is None
