"""The arguments a call is NOT allowed with, as rules that don't overlap the allowed ones.

libseccomp has no "none of these" (several NE conditions on one argument don't mean that) and no default per call, so
the values outside the allowed ones are covered with blocks: a block is every value whose masked bits have one pattern,
which is what SCMP_CMP_MASKED_EQ tests. Blocks stay disjoint from the allowed values whatever the upper half of the
register holds.
"""

from __future__ import annotations

from typing import Any

MASKED_EQ = "SCMP_CMP_MASKED_EQ"
FEW_BITS = 8

# Arguments whose whole sensible range can be listed: (call, index) -> number of low bits that the range takes.
RANGE_BITS = {
    ("socket", 0): 6,  # address families end at AF_MCTP 45
    ("socketpair", 0): 6,
    ("prctl", 0): 7,  # options end below 80, but for a few large ones that then answer ENOSYS
    ("personality", 0): 5,  # PER_MASK's low bits, without the flags
}

Condition = tuple[int, int]  # mask, value
Conditions = dict[int, Condition]


def complement(call: str, allowed: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """Lists of `args` that together cover what `allowed` (lists of `args`, OR-ed) leaves out of the sensible range.

    Empty where it can't be listed: operators other than MASKED_EQ, different masks for one argument, wide ranges.
    """
    rules: list[Conditions] = []
    for args in allowed:
        if any(entry["op"] != MASKED_EQ for entry in args):
            return []
        rules.append({entry["index"]: (entry["value"], entry.get("valueTwo", 0) & entry["value"]) for entry in args})
    try:
        return [_args(block) for block in _refused(call, rules, {})]
    except _Unlistable:
        return []


class _Unlistable(Exception):
    """Two rules look at one argument through different masks."""


def _args(block: Conditions) -> list[dict[str, Any]]:
    return [
        {"index": index, "value": mask, "valueTwo": value, "op": MASKED_EQ}
        for index, (mask, value) in sorted(block.items())
    ]


def _refused(call: str, rules: list[Conditions], prefix: Conditions) -> list[Conditions]:
    """What no rule allows among the calls that have the prefix; rules only name arguments behind the prefix."""
    indices = {index for rule in rules for index in rule}
    if any(not rule for rule in rules) or not indices:
        return []
    index = min(indices)
    masks = {rule[index][0] for rule in rules if index in rule}
    if len(masks) > 1:
        raise _Unlistable
    mask = masks.pop()
    anyway = [rule for rule in rules if index not in rule]
    found: list[Conditions] = []
    values = sorted({rule[index][1] for rule in rules if index in rule})
    for value in values:
        rest = [_without(rule, index) for rule in rules if rule.get(index, (mask, value)) == (mask, value)]
        found += _refused(call, rest, {**prefix, index: (mask, value)})
    for block in _blocks(values, mask, RANGE_BITS.get((call, index))):
        inner = {**prefix, index: block}
        found += _refused(call, anyway, inner) if anyway else [inner]
    return found


def _without(rule: Conditions, index: int) -> Conditions:
    return {key: value for key, value in rule.items() if key != index}


def _blocks(values: list[int], mask: int, low_bits: int | None) -> list[Condition]:
    """Disjoint blocks that cover the range but for `values`: the range is the mask's bits, or its `low_bits` only."""
    bits = [bit for bit in range(63, -1, -1) if mask >> bit & 1]
    fixed = 0
    if low_bits is not None:
        fixed = mask & ~((1 << low_bits) - 1)
        bits = [bit for bit in bits if bit < low_bits]
    elif len(bits) > FEW_BITS:
        return []
    return _split([value for value in values if not value & fixed], bits, (fixed, 0))


def _split(values: list[int], bits: list[int], block: Condition) -> list[Condition]:
    if not values:
        return [block]
    if not bits:
        return []
    bit = 1 << bits[0]
    zero = _split([value for value in values if not value & bit], bits[1:], (block[0] | bit, block[1]))
    one = _split([value for value in values if value & bit], bits[1:], (block[0] | bit, block[1] | bit))
    return zero + one
