"""All kinds of arguments that a call's conditions tell apart, one example of each: exact answers about filters.

Conditions on one 64-bit argument split its values into cells, in each of which every condition is either true or
false. The cells are found by walking over the bits from the highest to the lowest with what is known of each condition
so far, so that a cell is found if and only if some value lies in it. Filters that agree on one example of every
combination of cells agree on all 2^384 argument lists.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

from fhir_hook.core import condition as algebra
from fhir_hook.core.oci_seccomp import MAX_ARGS, Meaning

Condition = tuple[int, str, int, int]
Answer = tuple[str, int]
State = tuple[int, ...]

BITS = 64
MOST_STATES = 20_000
MOST_POINTS = 500_000
PASSING = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY")
# What the walk knows of a condition: the bits so far equal its constant's, lie below or above (for a mask: differ).
SAME, BELOW, ABOVE = 0, 1, 2


class TooMany(Exception):
    """The conditions on one call split its arguments into more cases than can be looked at; str() is one line."""


@functools.lru_cache(maxsize=1024)
def cells(conditions: tuple[Condition, ...]) -> tuple[int, ...]:
    """The smallest value of each cell that `conditions`, all on one argument, split the 64-bit numbers into.

    Kept, since profiles share their groups' conditions and are asked about them one after the other. Raises TooMany.
    """
    constants = [(_mask(cond), _constant(cond)) for cond in conditions]
    ordered = [cond[1] not in (algebra.EQ, algebra.NE, algebra.MASKED_EQ) for cond in conditions]
    states: dict[State, int] = {(SAME,) * len(conditions): 0}
    for bit in range(BITS - 1, -1, -1):
        after: dict[State, int] = {}
        for state, value in states.items():
            for digit in (0, 1):
                new = tuple(
                    known if known != SAME or not mask >> bit & 1 else _seen(digit, constant >> bit & 1, order)
                    for known, (mask, constant), order in zip(state, constants, ordered, strict=True)
                )
                lowest = value | digit << bit
                if lowest < after.get(new, 1 << BITS):
                    after[new] = lowest
        if len(after) > MOST_STATES:
            raise TooMany(f"{len(conditions)} conditions on one argument tell more than {MOST_STATES} cases apart")
        states = after
    found: dict[tuple[bool, ...], int] = {}
    for value in sorted(states.values()):
        found.setdefault(tuple(algebra.holds(cond, value) for cond in conditions), value)
    return tuple(found.values())


def _seen(digit: int, wanted: int, ordered: bool) -> int:
    if digit == wanted:
        return SAME
    return ABOVE if digit > wanted or not ordered else BELOW


def _mask(cond: Condition) -> int:
    return cond[2] if cond[1] == algebra.MASKED_EQ else algebra.MAX


def _constant(cond: Condition) -> int:
    return cond[3] & cond[2] if cond[1] == algebra.MASKED_EQ else cond[2]


def points(conditions: Iterable[Condition]) -> Iterator[tuple[int, ...]]:
    """Six arguments for each combination of cells: arguments without conditions are 0. Raises TooMany."""
    distinct = sorted(set(conditions))
    columns = []
    for index in range(MAX_ARGS):
        own = tuple(cond for cond in distinct if cond[0] == index)
        columns.append(cells(own) if own else (0,))
    if math.prod(len(column) for column in columns) > MOST_POINTS:
        raise TooMany(f"{len(distinct)} conditions tell more than {MOST_POINTS} combinations of arguments apart")
    return itertools.product(*columns)


def conditions_of(meaning: Meaning, call: str) -> list[Condition]:
    """Every condition in the rules on a call."""
    return [cond for rule in meaning.rules.get(call, ()) for cond in rule.conditions]


def holds(conjunction: Iterable[Condition], args: Sequence[int]) -> bool:
    """Whether all conditions of a conjunction hold for a call's six arguments."""
    return all(algebra.holds(cond, args[cond[0]]) for cond in conjunction)


def passes(answer: Answer) -> bool:
    """Whether a call with this answer reaches the kernel, perhaps after a supervisor was asked."""
    return answer[0] in PASSING


def witness(meaning: Meaning, call: str, conditions: Sequence[Condition]) -> tuple[int, ...] | None:
    """Arguments under which the call meets `conditions` and reaches the kernel, or None. Raises TooMany."""
    for args in points([*conditions_of(meaning, call), *conditions]):
        if holds(conditions, args) and passes(meaning.answer(call, args)):
            return args
    return None
