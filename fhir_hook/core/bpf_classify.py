"""What a seccomp program answers to each call number whatever the arguments are: a symbolic walk.

The number and the ABI are known, everything else is unknown bit by bit: each 32-bit word is a pair (known, value),
where a 1 in `known` says that the bit of `value` is certain. A branch that the known bits don't decide is followed both
ways. Jumps only go forward, so the walk ends; it can report an answer that no argument reaches, never miss one.
"""

from __future__ import annotations

from fhir_hook.core import bpf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Word = tuple[int, int]
    State = tuple[int, Word, int, tuple[Word, ...]]

UNKNOWN = (0, 0)
NOWHERE = -1


class Verdict:
    """One call number: `kind` is allowed, logged, denied or filtered (by arguments); `answers` all that may come.

    answers: (action, errno) pairs, the loosest first.
    """

    __slots__ = ("answers", "kind", "nr")

    def __init__(self, nr: int, returns: Iterable[int]) -> None:
        self.nr = nr
        self.answers = tuple(bpf.decision(value) for value in sorted(set(returns), key=_looseness, reverse=True))
        actions = {answer[0] for answer in self.answers}
        permissive = actions & {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG"}
        if not permissive:
            self.kind = "denied"
        elif actions == {"SCMP_ACT_ALLOW"}:
            self.kind = "allowed"
        elif actions == {"SCMP_ACT_LOG"}:
            self.kind = "logged"
        else:
            self.kind = "filtered"

    def __repr__(self) -> str:
        return f"Verdict({self.nr}, {self.kind}, {self.answers})"


def _looseness(value: int) -> int:
    """The kernel compares return values as signed numbers: the smaller, the stricter."""
    return value - (1 << 32) if value & 0x8000_0000 else value


def classify(program: bpf.Program, arch: int, numbers: Iterable[int]) -> dict[int, Verdict]:
    """The verdict on each call number for the ABI `arch` (an AUDIT_ARCH value); the program must pass bpf.check."""
    return {nr: Verdict(nr, answers(program, arch, nr)) for nr in numbers}


def answers(program: bpf.Program, arch: int, nr: int) -> set[int]:
    """Every 32-bit value that the program may return for call `nr`, for some instruction pointer and arguments."""
    words = ((bpf.WORD, nr & bpf.WORD), (bpf.WORD, arch), *[UNKNOWN] * 14)
    found: set[int] = set()
    seen: set[State] = set()
    todo: list[State] = [(0, (bpf.WORD, 0), NOWHERE, words)]
    while todo:
        state = todo.pop()
        if state in seen:
            continue
        seen.add(state)
        pc, a, origin, words = state
        code, jt, jf, k = program[pc]
        if code == bpf.RET_K:
            found.add(k)
        elif code == bpf.RET_A:
            found |= _concrete(a)
        elif code == bpf.JA:
            todo.append((pc + 1 + k, a, origin, words))
        elif code & ~bpf.X_SOURCE in bpf.JUMPS:
            todo += _branch(state, code, jt, jf, k)
        elif code == bpf.LD_ABS:
            todo.append((pc + 1, words[k >> 2], k >> 2, words))
        else:
            todo.append((pc + 1, _compute(code, a, k), NOWHERE, words))
    return found


def _concrete(a: Word) -> set[int]:
    # RET A of an unknown value could be anything; the two ends of the order stand for it.
    return {a[1]} if a[0] == bpf.WORD else {0x8000_0000, bpf.RET_ALLOW}


def _compute(code: int, a: Word, k: int) -> Word:
    known, value = a
    if code == bpf.LD_IMM:
        return bpf.WORD, k
    if code == bpf.LD_LEN:
        return bpf.WORD, bpf.DATA_SIZE
    if code in (bpf.ST, bpf.STX, bpf.TAX, bpf.LDX_IMM, bpf.LDX_LEN, bpf.LDX_MEM):
        return a
    if code == 0x54:  # A &= k
        return known | ~k & bpf.WORD, value & k
    if code == 0x44:  # A |= k
        return known | k, (value | k) & (known | k)
    if code == 0x74:  # A >>= k
        return known >> k | ~(bpf.WORD >> k) & bpf.WORD, value >> k
    if code == 0x64:  # A <<= k
        return (known << k | (1 << k) - 1) & bpf.WORD, value << k & bpf.WORD
    return UNKNOWN


def _decided(code: int, a: Word, k: int) -> bool | None:
    """The outcome of a comparison with a constant, or None when unknown bits decide it."""
    known, value = a
    low, high = value, value | ~known & bpf.WORD
    op = bpf.JUMPS.get(code)
    if op == "==":
        return False if (value ^ k) & known else (True if known == bpf.WORD else None)
    if op == "&":
        return True if value & k else (None if high & k else False)
    if op == ">":
        return True if low > k else (False if high <= k else None)
    if op == ">=":
        return True if low >= k else (False if high < k else None)
    return None  # a comparison with X


def _branch(state: State, code: int, jt: int, jf: int, k: int) -> list[State]:
    pc, a, origin, words = state
    decided = _decided(code, a, k)
    found: list[State] = []
    if decided is not False:
        if code == 0x15 and decided is None:
            # Equal to k from here on, and so is the argument half it was loaded from.
            a_true = (bpf.WORD, k)
            learnt = words if origin == NOWHERE else (*words[:origin], a_true, *words[origin + 1 :])
            found.append((pc + 1 + jt, a_true, origin, learnt))
        else:
            found.append((pc + 1 + jt, a, origin, words))
    if decided is not True:
        found.append((pc + 1 + jf, a, origin, words))
    return found
