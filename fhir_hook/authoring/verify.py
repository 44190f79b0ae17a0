"""Proof by emulation: the compiled program answers every call as the section says, argument values included."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from fhir_hook.authoring.expand import NUMBERS
from fhir_hook.core import bpf, oci_seccomp
from fhir_hook.core.oci_seccomp import MASK_64, Meaning, Rule

if TYPE_CHECKING:
    from fhir_hook.core.oci_seccomp import Answer, Condition

    Rules = tuple[tuple[tuple[Condition, ...], Answer], ...]

LAST_NUMBER = 1023
MOST_COMBINATIONS = 2000
FOREIGN = {"x86_64": ("x86", "aarch64"), "aarch64": ("arm", "x86_64")}
ODD_NUMBERS = (0x3FFFFFFF, 0x40000000, 0x400000FF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE)
JUNK = 0xDEADBEEF << 32


def differences(section: dict[str, Any], arch: str, data: bytes, most: int = 5) -> list[str]:
    """Calls that the program `data` answers otherwise than `section` means, one line each, at most `most`.

    Raises bpf.BpfError on a program that the kernel would refuse.
    """
    program = bpf.decode(data)
    bpf.check(program)
    return list(itertools.islice(_differences(section, arch, program), most))


def _differences(section: dict[str, Any], arch: str, program: bpf.Program) -> Iterator[str]:
    meaning = Meaning(section)
    names = {number: name for name, number in NUMBERS[arch].items()}
    for nr in range(LAST_NUMBER + 1):
        name = names.get(nr, "")
        start = bpf.common_start(program, nr, bpf.ARCH[arch])
        for args, wanted in _cases(meaning.default, _key(meaning, name)):
            got = bpf.decision(bpf.run(program, nr, bpf.ARCH[arch], 0, args, start))
            if got != wanted:
                shown = ", ".join(hex(arg) for arg in args)
                yield f"{name or 'call'} ({nr}) with ({shown}): the program answers {got}, the section means {wanted}"
    yield from _foreign(meaning, arch, program)


def _key(meaning: Meaning, name: str) -> Rules:
    return tuple((rule.conditions, rule.answer) for rule in meaning.rules.get(name, ()))


@functools.cache
def _cases(default: Answer, key: Rules) -> tuple[tuple[tuple[int, ...], Answer], ...]:
    """The argument lists to try on a call with these rules, with the answers wanted; profiles share most of them."""
    rules = [Rule(conditions, answer) for conditions, answer in key]
    return tuple((args, oci_seccomp.answer_of(rules, default, args)) for args in interesting(rules))


def _foreign(meaning: Meaning, arch: str, program: bpf.Program) -> Iterator[str]:
    """Other ABIs: killed, unless the section covers them (the complaining one does: then never denied)."""
    for other in FOREIGN[arch]:
        for nr in range(LAST_NUMBER + 1):
            got = bpf.decision(bpf.run(program, nr, bpf.ARCH[other], 0, ()))
            yield from _wrong_foreign(meaning, other, arch, nr, got)
    for nr in (*ODD_NUMBERS, *[bpf.X32_BIT | nr for nr in range(LAST_NUMBER + 1)]):
        got = bpf.decision(bpf.run(program, nr, bpf.ARCH[arch], 0, ()))
        if arch == "x86_64" and nr >= bpf.X32_BIT:
            yield from _wrong_foreign(meaning, "x32", arch, nr, got)
        elif got != meaning.default:
            yield f"call {nr:#x}: the program answers {got}, the section means {meaning.default}"


def _wrong_foreign(meaning: Meaning, other: str, arch: str, nr: int, got: tuple[str, int]) -> Iterator[str]:
    if meaning.covers(other, arch):
        if got[0] not in (oci_seccomp.ALLOW, meaning.default[0]):
            yield f"{other} call {nr:#x}: the program answers {got}"
    elif got != (oci_seccomp.KILL_THREAD, 0):
        yield f"{other} call {nr:#x} is not covered, but the program answers {got}"


def interesting(rules: list[Rule]) -> Iterable[tuple[int, ...]]:
    """Argument lists worth trying on a call with these rules: constants, neighbours, junk above bit 31, the ends.

    For each rule arguments that satisfy it, with every one of them changed in turn; beside that all combinations,
    thinned out beyond 2,000.
    """
    conditions = [cond for rule in rules for cond in rule.conditions]
    if not conditions:
        return ((0,) * 6, (MASK_64,) * 6)
    columns = [_column([cond for cond in conditions if cond[0] == index]) for index in range(6)]
    return itertools.chain(_around(rules, columns), _combine(columns))


def _column(conditions: list[Condition]) -> list[int]:
    """Values worth trying for one argument."""
    if not conditions:
        return [0]
    values = {0, MASK_64}
    for cond in conditions:
        constant = _constant(cond)
        values |= {constant, constant + 1, constant - 1, constant | JUNK, constant ^ 1 << 31}
        if cond[1] == "SCMP_CMP_MASKED_EQ":
            values |= {constant | ~cond[2], cond[2]}
    return sorted({value & MASK_64 for value in values})


def _constant(cond: Condition) -> int:
    _, op, value, value_two = cond
    return value_two if op == "SCMP_CMP_MASKED_EQ" else value


def _around(rules: list[Rule], columns: list[list[int]]) -> Iterator[tuple[int, ...]]:
    for rule in rules:
        base = [0] * 6
        for cond in rule.conditions:
            base[cond[0]] = _constant(cond)
        for index, column in enumerate(columns):
            for value in column:
                yield (*base[:index], value, *base[index + 1 :])


def _combine(columns: list[list[int]]) -> Iterator[tuple[int, ...]]:
    total = math.prod(len(column) for column in columns)
    # A step without a common factor with the total, so that thinning doesn't skip a value altogether.
    step = max(1, total // MOST_COMBINATIONS)
    while math.gcd(step, total) > 1:
        step += 1
    for start in range(0, total, step):
        number, combination = start, []
        for column in columns:
            number, place = divmod(number, len(column))
            combination.append(column[place])
        yield tuple(combination)
