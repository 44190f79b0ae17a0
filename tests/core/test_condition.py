"""The algebra of argument conditions, against brute force on the values where conditions change their mind."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_hook.core import condition, oci_seccomp
from fhir_hook.core.condition import Inexpressible

if TYPE_CHECKING:
    from fhir_hook.core.condition import Condition, Conjunction

MAX = condition.MAX
EDGES = sorted(
    {
        (base + step) & MAX
        for base in (0, 3, 0xFF, 0x7E020000, 1 << 31, 1 << 32, 0xFFFF_FFFF_0000_0000, 1 << 63, MAX)
        for step in (-1, 0, 1)
    }
)
NUMBERS = st.sampled_from(EDGES) | st.integers(0, 15) | st.integers(0, MAX)


def one(index: int) -> st.SearchStrategy[Condition]:
    """Any condition on argument `index`, as a section may hold it."""
    return st.tuples(st.just(index), st.sampled_from(condition.OPERATORS), NUMBERS, NUMBERS | st.just(0))


CONDITIONS = one(0)
CONJUNCTIONS = st.lists(st.integers(0, 2), max_size=3, unique=True).flatmap(
    lambda indices: st.tuples(*[one(index) for index in sorted(indices)])
)


def interesting(conditions: Iterable[Condition]) -> list[int]:
    """Values on both sides of every edge of the conditions, and some that masks tell apart."""
    values = set(EDGES)
    for _, _, value, value2 in conditions:
        for base in (value, value2, value & value2, value | value2, ~value, value2 & ~value, (value & value2) | ~value):
            values |= {(base + step) & MAX for step in (-1, 0, 1)}
    return sorted(values)


def calls(*conjunctions: Conjunction) -> list[tuple[int, ...]]:
    """Argument triples that tell the conjunctions apart."""
    per_index = []
    for index in range(3):
        named = [c for conjunction in conjunctions for c in conjunction if c[0] == index]
        values = interesting(named) if named else [0]
        per_index.append(values if len(values) < 12 else values[:: len(values) // 12 + 1] + interesting_only(named))
    return list(product(*per_index))


def interesting_only(conditions: Iterable[Condition]) -> list[int]:
    """The edges of the conditions alone."""
    found = set()
    for _, op, value, value2 in conditions:
        found |= (
            {value2, value2 | ~value & MAX} if op == condition.MASKED_EQ else {value, value - 1 & MAX, value + 1 & MAX}
        )
    return sorted(found)[:6]


def true_of(conjunction: Conjunction, call: tuple[int, ...]) -> bool:
    return all(condition.holds(c, call[c[0]]) for c in conjunction)


@given(CONDITIONS)
def test_a_condition_holds_where_libseccomp_says_so(c: Condition) -> None:
    for value in interesting([c]):
        assert condition.holds(c, value) == oci_seccomp.holds(c, [value]), (c, value)


@given(CONDITIONS, CONDITIONS)
@settings(max_examples=500)
def test_both_holds_exactly_where_both_hold(a: Condition, b: Condition) -> None:
    try:
        common = condition.both(a, b)
    except Inexpressible:
        return
    for value in interesting([a, b]):
        expected = condition.holds(a, value) and condition.holds(b, value)
        assert (common is not None and condition.holds(common, value)) == expected, (common, value)


@given(CONDITIONS, CONDITIONS)
def test_both_does_not_depend_on_the_order(a: Condition, b: Condition) -> None:
    results = []
    for pair in ((a, b), (b, a)):
        try:
            results.append(condition.both(*pair))
        except Inexpressible:
            results.append("inexpressible")
    left, right = results
    if isinstance(left, tuple) and isinstance(right, tuple):
        assert all(condition.holds(left, value) == condition.holds(right, value) for value in interesting([a, b]))
    else:
        assert left == right


@pytest.mark.parametrize("never", [(0, condition.LT, 0, 0), (0, condition.GT, MAX, 0), (0, condition.MASKED_EQ, 0, 0)])
@pytest.mark.parametrize("op", condition.OPERATORS)
@pytest.mark.parametrize("value", [0, 1, MAX - 1, MAX])
def test_conditions_that_never_or_always_hold_meet_like_any_other(never: Condition, op: str, value: int) -> None:
    other = (0, op, value, value)
    for a, b in ((never, other), (other, never)):
        try:
            common = condition.both(a, b)
        except Inexpressible:
            continue
        for argument in EDGES:
            expected = condition.holds(never, argument) and condition.holds(other, argument)
            assert (common is not None and condition.holds(common, argument)) == expected, (common, argument)


@given(CONDITIONS)
def test_a_complement_holds_exactly_where_the_condition_does_not(c: Condition) -> None:
    try:
        other = condition.complement(c)
    except Inexpressible:
        return
    for value in interesting([c, other]):
        assert condition.holds(c, value) != condition.holds(other, value), (other, value)


@pytest.mark.parametrize("op", [o for o in condition.OPERATORS if o != condition.MASKED_EQ])
def test_every_comparison_with_an_ordinary_value_has_a_complement(op: str) -> None:
    assert condition.complement((1, op, 5, 0))[0] == 1


@given(CONJUNCTIONS, CONJUNCTIONS)
@settings(max_examples=150)
def test_a_conjunction_holds_exactly_where_both_of_its_sides_do(a: Conjunction, b: Conjunction) -> None:
    try:
        common = condition.conjoin(a, b)
    except Inexpressible:
        return
    for call in calls(a, b):
        assert (common is not None and true_of(common, call)) == (true_of(a, call) and true_of(b, call)), (common, call)
    if common is not None:
        assert [c[0] for c in common] == sorted({c[0] for c in common})


@given(CONJUNCTIONS, CONJUNCTIONS)
@settings(max_examples=150)
def test_implication_is_never_claimed_wrongly(a: Conjunction, b: Conjunction) -> None:
    if condition.implies(a, b):
        for call in calls(a, b):
            assert not true_of(a, call) or true_of(b, call), call


@given(CONJUNCTIONS)
def test_simplifying_keeps_the_meaning_and_is_done_once(a: Conjunction) -> None:
    simple = condition.simplify(a)
    assert condition.simplify(simple) == simple
    assert condition.implies(simple, simple)
    for call in calls(a, simple):
        assert true_of(a, call) == true_of(simple, call), call


@given(st.lists(CONJUNCTIONS, max_size=5))
@settings(max_examples=150)
def test_absorbing_keeps_the_union_and_is_done_once(conjunctions: list[Conjunction]) -> None:
    kept = condition.absorb(conjunctions)
    assert len(kept) <= len(conjunctions)
    assert condition.absorb(kept) == kept
    for call in calls(*conjunctions)[:2000]:
        assert any(true_of(c, call) for c in kept) == any(true_of(c, call) for c in conjunctions), call


def test_what_one_condition_covers_is_absorbed() -> None:
    wide, narrow = ((0, condition.GE, 3, 0),), ((0, condition.EQ, 7, 0), (1, condition.EQ, 0, 0))
    assert condition.absorb([narrow, wide, narrow]) == [wide]
    assert condition.absorb([(), narrow, wide]) == [()]


def test_a_range_between_two_edges_and_a_set_of_excluded_values_are_inexpressible() -> None:
    for a, b in (
        ((0, condition.GE, 3, 0), (0, condition.LE, 9, 0)),
        ((0, condition.NE, 3, 0), (0, condition.NE, 9, 0)),
        ((0, condition.MASKED_EQ, 3, 0), (0, condition.LE, 9, 0)),
    ):
        with pytest.raises(Inexpressible):
            condition.both(a, b)
