"""Filters in words: argument conditions, witnesses and answers as a reader of C would name them."""

from __future__ import annotations

import errno as errno_names
from collections.abc import Collection, Iterable, Sequence

from fhir_hook.core import condition as algebra
from fhir_hook.review import constants
from fhir_hook.review.kernel_data import Condition, Conjunction

RELATIONS = {algebra.NE: "not", algebra.LT: "<", algebra.LE: "<=", algebra.GE: ">=", algebra.GT: ">"}
WHOLE = (algebra.MAX, algebra.LOW_HALF)
# Bits of a type or a command that are flags beside a number: (call, index) -> mask of the number
NUMBER_MASKS = {("socket", 1): 0xF, ("socketpair", 1): 0xF, ("futex", 1): 0x7F}


def answer(found: tuple[str, int]) -> str:
    """What the kernel does with a call, in words."""
    action, errno = found
    if action == "SCMP_ACT_ERRNO":
        return f"denied with {errno_name(errno)}"
    return {
        "SCMP_ACT_ALLOW": "allowed",
        "SCMP_ACT_LOG": "allowed and logged",
        "SCMP_ACT_TRACE": "handed to a tracer",
        "SCMP_ACT_NOTIFY": "handed to a supervisor",
        "SCMP_ACT_TRAP": "answered with SIGSYS",
        "SCMP_ACT_KILL_THREAD": "the thread is killed",
        "SCMP_ACT_KILL_PROCESS": "the process is killed",
    }[action]


def errno_name(number: int) -> str:
    """EPERM for 1, and so on."""
    return constants.ERRNO.get(number) or errno_names.errorcode.get(number, str(number))


def conjunction(call: str, conditions: Conjunction) -> str:
    """`family AF_INET, type SOCK_STREAM, any protocol`: one rule's conditions; "any arguments" where there are none."""
    values = {cond[0]: exact(call, cond) for cond in conditions}
    return ", ".join(condition(call, cond, values) for cond in conditions) or "any arguments"


def exact(call: str, cond: Condition) -> int | None:
    """The one value that a condition wants of its argument (flags beside a number left out), or None."""
    _, op, value, value_two = cond
    if op == algebra.EQ:
        return value
    if op == algebra.MASKED_EQ and value in (*WHOLE, NUMBER_MASKS.get((call, cond[0]))):
        return value_two & value
    return None


def condition(call: str, cond: Condition, values: dict[int, int | None]) -> str:
    """One condition; `values` are the exact ones beside it, for options whose names depend on a level or family."""
    index, op, value, value_two = cond
    name, names, bits = _table(call, index, values)
    wanted = exact(call, cond)
    if wanted is not None:
        return value_name(name, names, bits, wanted)
    if op == algebra.MASKED_EQ:
        return _masked(name, names if bits else {}, value, value_two & value)
    return f"{name} {RELATIONS[op]} {names.get(value, number(value))}"


def _masked(name: str, names: dict[int, str], mask: int, value: int) -> str:
    if names or mask.bit_count() <= 8:
        must, must_not = _bits(names, value), _bits(names, mask & ~value)
        parts = [f"with {must}"] if must else []
        parts += [f"without {must_not}"] if must_not else []
        return f"{name} {' and '.join(parts)}" if parts else f"any {name}"
    return f"{name} & {mask:#x} = {value:#x}"


def _bits(names: dict[int, str], value: int) -> str:
    found = []
    for bit in (1 << place for place in range(64)):
        if value & bit:
            found.append(names.get(bit, f"{bit:#x}"))
    return "|".join(found)


def value_name(name: str, names: dict[int, str], bits: bool, value: int) -> str:
    """One value of an argument: its constant's name, else argument and number."""
    if bits:
        return f"{name} {_bits(names, value) or '0'}"
    if value in names:
        return names[value]
    if value & algebra.LOW_HALF in names and value > algebra.LOW_HALF:
        return f"{names[value & algebra.LOW_HALF]} (with {value >> 32:#x} in the register's upper half)"
    return f"{name} {number(value)}"


def number(value: int) -> str:
    """A number as people read it: small ones decimal."""
    return str(value) if value < 4096 else f"{value:#x}"


def _table(call: str, index: int, values: dict[int, int | None]) -> tuple[str, dict[int, str], bool]:
    name, names, bits = constants.ARGUMENTS.get((call, index), (f"argument {index}", {}, False))
    if call == "socket" and index == 2:
        family = values.get(0)
        if family is not None and family & algebra.LOW_HALF == 16:
            names = constants.NETLINK_PROTOCOLS
        elif family is not None and family & algebra.LOW_HALF not in (2, 10):
            names = {}
    if call in ("setsockopt", "getsockopt") and index == 2:
        level = values.get(1)
        names = constants.SOCKET_OPTIONS.get(-1 if level is None else level & algebra.LOW_HALF, {})
    return name, names, bits


def call_text(call: str, args: Sequence[int], shown: Collection[int]) -> str:
    """`socket(AF_PACKET, ...)`: a call with the arguments of the indices `shown`, `...` for the others."""
    if not shown:
        return call
    values: dict[int, int | None] = dict(enumerate(args))
    parts = []
    for index in range(max(shown) + 1):
        if index not in shown:
            parts.append("*")
            continue
        name, names, bits = _table(call, index, values)
        value = args[index]
        mask = NUMBER_MASKS.get((call, index))
        parts.append(value_name(name, names, bits, value & mask if mask and value <= algebra.LOW_HALF else value))
    return f"{call}({', '.join(parts)})"


def alternatives(call: str, conjunctions: Iterable[Conjunction]) -> list[str]:
    """One text for each conjunction; those that differ in their last condition's value only are put on one line."""
    grouped: dict[tuple[Conjunction, int, bool], list[Condition]] = {}
    for found in conjunctions:
        last = found[-1] if found else None
        simple = last is not None and exact(call, last) is not None
        grouped.setdefault((found[:-1] if simple else found, last[0] if last and simple else -1, simple), []).append(
            last or (0, "", 0, 0)
        )
    lines = []
    for (prefix, _, simple), lasts in grouped.items():
        values = {cond[0]: exact(call, cond) for cond in prefix}
        parts = [condition(call, cond, values) for cond in prefix]
        if simple:
            parts.append(" or ".join(condition(call, cond, values) for cond in sorted(lasts)))
        lines.append(", ".join(parts) or "any arguments")
    return lines
