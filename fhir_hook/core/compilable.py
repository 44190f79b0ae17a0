"""Which rules of one call libseccomp compiles to what they mean, whatever the runtime's version of it.

libseccomp 2.5.4 (db.c, gen_bpf.c) shares tests between the rules of a call. Rules with several conditions, one of them
NE or a comparison, can lose the reload of the accumulator between two tests, and two comparisons of one argument with
values above 32 bits can share a test of the upper half: both let calls through that no rule allows. Adding rules with
comparisons of two arguments can take it for ever. tests/core/test_meet.py shows each.
"""

from __future__ import annotations

from fhir_hook.core.condition import EQ, GE, LE, MASKED_EQ, NE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from fhir_hook.core.condition import Conjunction

_EXACT = (EQ, MASKED_EQ)
_WORD = 0xFFFF_FFFF


def never_looser(conjunction: Conjunction, alone: bool) -> bool:
    """Whether a simplified rule among others (or `alone`) matches nothing that it should not."""
    if len(conjunction) <= 1:
        return all(op not in (GE, LE) or value <= _WORD for _, op, value, _ in conjunction)
    return all(op in _EXACT or (op == NE and alone) for _, op, _, _ in conjunction)


def exact(conjunctions: Collection[Conjunction]) -> bool:
    """Whether simplified rules together match neither more nor less than they should."""
    alone = len(conjunctions) == 1
    if not all(never_looser(conjunction, alone) for conjunction in conjunctions):
        return False
    return (
        all(len(c) <= 1 for c in conjunctions) or all(op in _EXACT for c in conjunctions for _, op, _, _ in c) or alone
    )
