"""Unwanted arguments as blocks: disjoint from the allowed ones, and nothing of the range left out."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_hook.authoring.complement import complement
from fhir_hook.core import oci_seccomp

MASK = 0xFFFFFFFF
CLONE_NEW = 0x7E020000


def arg(index: int, two: int, mask: int = MASK) -> dict[str, Any]:
    return {"index": index, "value": mask, "valueTwo": two, "op": "SCMP_CMP_MASKED_EQ"}


def matches(rules: list[list[dict[str, Any]]], args: tuple[int, ...]) -> bool:
    return any(all(oci_seccomp.holds(oci_seccomp.condition(entry), args) for entry in rule) for rule in rules)


@settings(max_examples=200, deadline=None)
@given(
    families=st.sets(st.integers(0, 63), min_size=1, max_size=5),
    types=st.sets(st.integers(0, 15), min_size=1, max_size=4),
    call=st.tuples(st.integers(0, 63), st.integers(0, 15), st.integers(0, MASK), st.integers(0, MASK)),
)
def test_every_family_and_type_is_either_allowed_or_refused(
    families: set[int], types: set[int], call: tuple[int, int, int, int]
) -> None:
    allowed = [[arg(0, family), arg(1, kind, 0xF)] for family in families for kind in types]
    refused = complement("socket", allowed)
    family, kind, junk, flags = call
    args = (family | junk << 32, kind | (flags & ~0xF), 0)
    assert matches(allowed, args) != matches(refused, args)


def test_each_namespace_flag_of_clone_is_refused() -> None:
    allowed = [[arg(0, 0, CLONE_NEW)]]
    refused = complement("clone", allowed)
    assert len(refused) == 7
    for bit in range(32):
        flag = 1 << bit
        assert matches(refused, (flag | 17,)) == bool(flag & CLONE_NEW) == (not matches(allowed, (flag | 17,)))


def test_families_beyond_the_range_are_left_to_the_default() -> None:
    refused = complement("socket", [[arg(0, 2)]])
    assert matches(refused, (45,)) and not matches(refused, (64,)) and not matches(refused, (1 << 31,))


def test_a_rule_without_the_argument_stays_allowed() -> None:
    allowed = [[arg(0, 2), arg(2, 0)], [arg(1, 1, 0xF)]]
    refused = complement("socket", allowed)
    assert not matches(refused, (5, 1, 0)) and matches(refused, (5, 2, 0))


def test_what_can_not_be_listed_is_empty() -> None:
    assert complement("mlock", [[{"index": 0, "value": 5, "op": "SCMP_CMP_LT"}]]) == []
    assert complement("socket", [[arg(0, 2)], [arg(0, 10, 0xFF)]]) == []
    assert complement("ioctl", [[arg(1, 0x5401)]]) == []
