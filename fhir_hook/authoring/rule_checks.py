"""Checks of rule objects in one document: names, conditions, contradictions."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from fhir_hook.authoring import expand
from fhir_hook.authoring.finding import ERROR, WARNING, Finding, pointer
from fhir_hook.authoring.source import Source
from fhir_hook.core import oci_seccomp
from fhir_hook.core.oci_seccomp import ALLOW, ERRNO

ALL_NAMES = sorted(set().union(*expand.NUMBERS.values()))
# int and unsigned int parameters, whose upper register half can hold anything: call -> argument indices
NARROW = {
    "socket": (0, 1, 2),
    "socketpair": (0, 1, 2),
    "prctl": (0,),
    "ioctl": (0, 1),
    "fcntl": (0, 1),
    "kill": (0, 1),
    "tgkill": (0, 1, 2),
    "madvise": (2,),
    "setsockopt": (0, 1, 2),
    "getsockopt": (0, 1, 2),
    "personality": (0,),
}
Prefix = tuple[object, ...]


def check_rules(source: Source, rules: list[dict[str, Any]], prefix: Prefix) -> list[Finding]:
    """The findings on the rule objects of one document; prefix: the path of the list in it."""
    found: list[Finding] = []
    path = str(source.path)
    for index, rule in enumerate(rules):
        here = (*prefix, index)
        found += _names(path, rule, here)
        found += _conditions(path, rule, here)
        if "errnoRet" in rule and rule.get("action", ALLOW) != ERRNO:
            message = f"{rule.get('action', ALLOW)} takes no errno; crun refuses such a rule"
            found.append(Finding("P308", ERROR, path, pointer((*here, "errnoRet")), message, "remove errnoRet"))
    found += _contradictions(path, rules, prefix)
    return found


def _names(path: str, rule: dict[str, Any], here: Prefix) -> Iterator[Finding]:
    for place, name in enumerate(rule["names"]):
        where = pointer((*here, "names", place))
        if name not in ALL_NAMES:
            close = difflib.get_close_matches(name, ALL_NAMES, 1)
            hint = f"did you mean {close[0]}?" if close else "names are those of libseccomp 2.5.4, up to Linux 5.17"
            yield Finding("P201", ERROR, path, where, f"no system call is named {name!r}", hint)
        elif "arches" in rule and not any(name in expand.NUMBERS[arch] for arch in rule["arches"]):
            message = f"{name} does not exist on {', '.join(rule['arches'])}"
            yield Finding("P205", WARNING, path, where, message, "remove it, or the architecture")


def _conditions(path: str, rule: dict[str, Any], here: Prefix) -> Iterator[Finding]:
    seen: set[int] = set()
    for place, arg in enumerate(rule.get("args", ())):
        where = pointer((*here, "args", place))
        if arg["index"] in seen:
            message = f"argument {arg['index']} occurs twice: runc and crun would then OR all conditions of the rule"
            hint = "write one rule for each, or one MASKED_EQ condition"
            yield Finding("P301", ERROR, path, where + "/index", message, hint)
        seen.add(arg["index"])
        masked = arg["op"] == "SCMP_CMP_MASKED_EQ"
        if masked and arg.get("valueTwo", 0) & ~arg["value"]:
            message = "valueTwo has bits outside the mask (value); they are ignored"
            yield Finding("P303", WARNING, path, where + "/valueTwo", message, "value is the mask, valueTwo the value")
        narrow = [name for name in rule["names"] if arg["index"] in NARROW.get(name, ())]
        if narrow and not (masked and arg["value"] <= 0xFFFFFFFF):
            message = f"argument {arg['index']} of {narrow[0]} has 32 bits; the register's upper half can hold junk"
            hint = "use SCMP_CMP_MASKED_EQ with value 4294967295 (the mask) and valueTwo"
            yield Finding("P306", WARNING, path, where, message, hint)


def _contradictions(path: str, rules: list[dict[str, Any]], prefix: Prefix) -> Iterator[Finding]:
    """Rules on the same call in one document that can't both hold."""
    first: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
    for index, rule in enumerate(rules):
        for name in rule["names"]:
            for arch in expand.ARCHITECTURES:
                if not expand.applies(rule, arch):
                    continue
                other = first.setdefault((name, arch), (index, rule))
                finding = _pair(path, name, other, (index, rule), prefix) if other[0] != index else None
                if finding is not None:
                    yield finding
                    break


def _pair(
    path: str, name: str, one: tuple[int, dict[str, Any]], two: tuple[int, dict[str, Any]], prefix: Prefix
) -> Finding | None:
    actions = [(rule.get("action", ALLOW), rule.get("errnoRet", 1)) for _, rule in (one, two)]
    same = actions[0] == actions[1] or actions[0][0] == actions[1][0] == ALLOW
    where = pointer((*prefix, two[0]))
    conditional = [("args" in rule) for _, rule in (one, two)]
    if not any(conditional) and not same:
        message = f"{name} is {_verb(one[1])} by rule {one[0]} and {_verb(two[1])} here"
        return Finding("P302", ERROR, path, where, message, "keep one of the two")
    if conditional[0] != conditional[1]:
        message = f"the condition on {name} has no effect: an unconditional rule replaces it"
        severity = WARNING if same else ERROR
        code = "P303" if same else "P302"
        return Finding(code, severity, path, where, message, "keep the conditional rules only, or the other")
    if all(conditional) and not same and not disjoint(one[1]["args"], two[1]["args"]):
        message = f"rule {one[0]} and this one match some calls of {name} alike, with different actions"
        return Finding("P304", ERROR, path, where, message, "make them differ in one argument under the same mask")
    if all(conditional) and not all(_plain(rule) for rule in (one[1], two[1])):
        message = f"libseccomp compiles several rules on {name} rightly only with EQ and MASKED_EQ conditions"
        return Finding("P305", ERROR, path, where, message, "write the ranges as MASKED_EQ blocks")
    return None


def _verb(rule: dict[str, Any]) -> str:
    return "allowed" if rule.get("action", ALLOW) == ALLOW else f"denied with errno {rule.get('errnoRet', 1)}"


def _plain(rule: dict[str, Any]) -> bool:
    return all(oci_seccomp.plain(oci_seccomp.condition(arg)) for arg in rule["args"])


def disjoint(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> bool:
    """Whether no call can match both lists of `args`, as far as EQ and MASKED_EQ conditions tell."""
    return oci_seccomp.disjoint(
        tuple(oci_seccomp.condition(arg) for arg in one), tuple(oci_seccomp.condition(arg) for arg in two)
    )
