"""The algebra of argument conditions in seccomp rules (runtime-spec config-linux.md, seccomp_rule_add(3)).

A condition is the tuple (index, op, value, value2): argument `index` compared as an unsigned 64-bit number; for
SCMP_CMP_MASKED_EQ `value` is the mask and `value2` what the masked argument must equal, as the runtimes pass them.
A conjunction is a tuple of conditions on different arguments, sorted by index: what libseccomp can hold in one rule.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Condition = tuple[int, str, int, int]
    Conjunction = tuple[Condition, ...]

MAX = (1 << 64) - 1
LOW_HALF = (1 << 32) - 1
NE, LT, LE, EQ = "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ"
GE, GT, MASKED_EQ = "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"
OPERATORS = (NE, LT, LE, EQ, GE, GT, MASKED_EQ)
# What _simple() makes of every condition that holds for all values, or for none, without the index.
_ALWAYS, _NEVER = (GE, 0, 0), (LT, 0, 0)


class Inexpressible(Exception):
    """Two conditions on one argument have no common form that a single condition can hold."""


def holds(condition: Condition, argument: int) -> bool:
    """Whether the condition holds for the 64-bit value of its argument."""
    _, op, value, value2 = condition
    if op == EQ:
        return argument == value
    if op == MASKED_EQ:
        return argument & value == value2 & value  # libseccomp masks the datum too
    if op == NE:
        return argument != value
    if op == LT:
        return argument < value
    if op == LE:
        return argument <= value
    if op == GE:
        return argument >= value
    return argument > value


def both(a: Condition, b: Condition) -> Condition | None:
    """Return the condition for `a` and `b`, on the same argument; None when they contradict each other.

    They are taken to contradict each other, too, where only values with something in the upper half of a 32-bit
    argument are left: the kernel ignores that half, so such a value would slip past the unequal one's intention.
    Raises Inexpressible when both hold for some values and no single condition says for which.
    """
    a, b = _simple(a), _simple(b)
    if a == b or b[1:] == _ALWAYS:
        return None if a[1:] == _NEVER else a
    if _NEVER in (a[1:], b[1:]):
        return None
    if a[1:] == _ALWAYS:
        return b
    if a[1] == EQ or b[1] == EQ:
        exact, other = (a, b) if a[1] == EQ else (b, a)
        return exact if holds(other, exact[2]) else None
    if a[1] == MASKED_EQ and b[1] == MASKED_EQ:
        if (a[3] ^ b[3]) & a[2] & b[2]:
            return None
        return _simple((a[0], MASKED_EQ, a[2] | b[2], a[3] | b[3]))
    if NE in (a[1], b[1]):
        unequal, other = (a, b) if a[1] == NE else (b, a)
        if not holds(other, unequal[2]):
            return other
        if other[1:] == (MASKED_EQ, LOW_HALF, unequal[2]):
            return None
        raise Inexpressible
    if MASKED_EQ in (a[1], b[1]):
        return _masked_range(*((a, b) if a[1] == MASKED_EQ else (b, a)))
    return _range(a, b)


def _masked_range(masked: Condition, limit: Condition) -> Condition | None:
    """A mask with GE or LE: all of its values, none, or the lowest alone (families below 38 in an engine's profile)."""
    index, _, mask, lowest = masked
    highest, step = lowest | (~mask & MAX), ~mask & (mask + 1)
    if holds(limit, lowest) and holds(limit, highest):
        return masked
    if limit[1] == LE and limit[2] < lowest + step:
        return (index, EQ, lowest, 0) if holds(limit, lowest) else None
    if limit[1] == GE and limit[2] > highest - step:
        return (index, EQ, highest, 0) if holds(limit, highest) else None
    raise Inexpressible


def _range(a: Condition, b: Condition) -> Condition | None:
    """Two of GE and LE: the narrower of the same kind; of different kinds only an empty or one-value range."""
    if a[1] == b[1]:
        return (a[0], a[1], (max if a[1] == GE else min)(a[2], b[2]), 0)
    low, high = (a[2], b[2]) if a[1] == GE else (b[2], a[2])
    if low > high:
        return None
    if low == high:
        return (a[0], EQ, low, 0)
    if low == 0:
        return (a[0], LE, high, 0)
    if high == MAX:
        return (a[0], GE, low, 0)
    raise Inexpressible


def _simple(condition: Condition) -> Condition:
    """One form for each meaning: GT and LT become GE and LE, a full mask becomes EQ, a datum lies in its mask."""
    index, op, value, value2 = condition
    if op == MASKED_EQ and 0 < value < MAX and not value2 & ~value:
        return condition  # what nearly all conditions of profiles are
    if (op == MASKED_EQ and value == 0) or (op == LE and value == MAX):
        return (index, *_ALWAYS)
    if op == GT:
        return (index, GE, value + 1, 0) if value < MAX else (index, *_NEVER)
    if op == LT:
        return (index, LE, value - 1, 0) if value > 0 else (index, *_NEVER)
    if op == MASKED_EQ:
        return (index, EQ, value2, 0) if value == MAX else (index, MASKED_EQ, value, value2 & value)
    return (index, op, value, 0)


def conjoin(a: Conjunction, b: Conjunction) -> Conjunction | None:
    """Return the conjunction of both; None when they can't both hold; raises Inexpressible."""
    if _clash(a, b):
        return None
    by_index = {condition[0]: condition for condition in a}
    for condition in b:
        present = by_index.get(condition[0])
        if present is None:
            by_index[condition[0]] = condition
        else:
            common = both(present, condition)
            if common is None:
                return None
            by_index[condition[0]] = common
    common_form = simplify(tuple(by_index.values()))
    return None if impossible(common_form) else common_form


def _clash(a: Conjunction, b: Conjunction) -> bool:
    """Whether two masked conditions on one argument contradict each other: the quick way to most answers."""
    for index, op, mask, value in a:
        if op == MASKED_EQ:
            for other_index, other_op, other_mask, other_value in b:
                if index == other_index and op == other_op and (value ^ other_value) & mask & other_mask:
                    return value & mask == value and other_value & other_mask == other_value
    return False


def implies(a: Conjunction, b: Conjunction) -> bool:
    """Whether `a` certainly holds only where `b` does (false when that can't be seen)."""
    if a == b:
        return True
    if _clash(a, b) and all(op == MASKED_EQ for _, op, _, _ in a):
        return False  # nearly all pairs; `a` holds somewhere, since each of its masks can be met
    form = simplify(a)
    try:
        return impossible(form) or conjoin(a, b) == form
    except Inexpressible:
        return False


def simplify(conjunction: Conjunction) -> Conjunction:
    """The same conjunction in the one form that comparisons need, sorted by argument index."""
    simple = sorted(_simple(condition) for condition in conjunction)
    return tuple(condition for condition in simple if condition[1:] != _ALWAYS)


def impossible(conjunction: Conjunction) -> bool:
    """Whether a simplified conjunction holds for no call, since one of its conditions never does."""
    return any(condition[1:] == _NEVER for condition in conjunction)


def complement(condition: Condition) -> Condition:
    """Return the condition that holds exactly where this one does not; raises Inexpressible (masks have none)."""
    index, op, value, value2 = _simple(condition)
    if (op, value, value2) in (_ALWAYS, _NEVER):
        return (index, *(_NEVER if op == GE else _ALWAYS))
    if op == EQ:
        return (index, NE, value, 0)
    if op == NE:
        return (index, EQ, value, 0)
    if op == GE and value > 0:
        return (index, LE, value - 1, 0)
    if op == LE and value < MAX:
        return (index, GE, value + 1, 0)
    raise Inexpressible


def absorb(conjunctions: list[Conjunction]) -> list[Conjunction]:
    """Drop what another member already covers, and sort: the shortest list with the same union that is seen."""
    kept: list[Conjunction] = []
    for candidate in sorted(set(conjunctions), key=lambda c: (len(c), c)):
        if not any(implies(candidate, other) for other in kept):
            kept = [other for other in kept if not implies(other, candidate)]
            kept.append(candidate)
    return sorted(kept)
