"""The meet of two seccomp sections: an OCI linux.seccomp object that is never looser than either.

A call is allowed where both sides allow it. What one section can't express (see core.condition) is denied and
named, so that the record can say so. Meeting the result with either side again changes nothing, by which the
live path knows that a config already carries a plan.
"""

from __future__ import annotations

from fhir_hook.core import compilable, condition, oci_seccomp
from fhir_hook.core.condition import Inexpressible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fhir_hook.core.condition import Conjunction

    Action = tuple[str, int]
    Rule = tuple[Action, Conjunction]

ALLOW, LOG, ERRNO, EPERM = oci_seccomp.ALLOW, oci_seccomp.LOG, oci_seccomp.ERRNO, oci_seccomp.EPERM
STRICTNESS = oci_seccomp.RANK


class SectionError(Exception):
    """A linux.seccomp object that no runtime accepts; str() is one line."""


class Section:
    """A section in one form: `default` action, `calls` {name: rules}; each rule is (action, conjunction)."""

    __slots__ = ("default", "calls")

    def __init__(self, default: Action, calls: dict[str, list[Rule]]) -> None:
        self.default = default
        self.calls = calls

    def rules(self, name: str) -> list[Rule]:
        """The rules for a call; one without conditions when nothing names it."""
        return self.calls.get(name) or [(self.default, ())]


def read(section: dict[str, Any]) -> Section:
    """Take an OCI linux.seccomp object apart; raises SectionError."""
    default = _action(section.get("defaultAction"), section.get("defaultErrnoRet"))
    calls: dict[str, list[Rule]] = {}
    listed = section.get("syscalls") or []
    if not isinstance(listed, list):
        raise SectionError("linux.seccomp.syscalls is no list")
    for rule in listed:
        if not isinstance(rule, dict) or not isinstance(rule.get("names"), list):
            raise SectionError("linux.seccomp.syscalls holds something that is no rule")
        action = _action(rule.get("action"), rule.get("errnoRet"))
        if action == default:
            continue  # runtimes drop such a rule before they look at anything else (core.oci_seccomp)
        for conjunction in _conjunctions(rule.get("args") or []):
            for name in rule["names"]:
                if not isinstance(name, str):
                    raise SectionError("linux.seccomp.syscalls names something that is no call")
                calls.setdefault(name, []).append((action, conjunction))
    return Section(default, calls)


def _action(name: Any, errno: Any) -> Action:
    try:
        return oci_seccomp.action(name, errno)
    except ValueError as error:
        raise SectionError(f"linux.seccomp: {error}") from None


def _conjunctions(args: Any) -> list[Conjunction]:
    """The conditions of one rule; runc and crun make each a rule of its own when an argument occurs twice."""
    if not isinstance(args, list) or not all(isinstance(arg, dict) for arg in args):
        raise SectionError("linux.seccomp: args holds something that is no condition")
    try:
        conditions = [oci_seccomp.condition(arg) for arg in args]
    except ValueError as error:
        raise SectionError(f"linux.seccomp: {error}") from None
    if len({c[0] for c in conditions}) < len(conditions):
        found = [condition.simplify((c,)) for c in conditions]
    else:
        found = [condition.simplify(tuple(conditions))]
    return [conjunction for conjunction in found if not condition.impossible(conjunction)]


def meet(left: Section, right: Section, denied: set[str]) -> Section:
    """Return the meet; calls that it denies only because it can't express them are added to `denied`."""
    default = _stricter(left.default, right.default)
    result = Section(default, {})
    for name in left.calls.keys() | right.calls.keys():
        one, other = left.rules(name), right.rules(name)
        rules: list[Rule]
        if _allows(default):
            rules = _add_refusals(default, one + other, name, denied)
        elif len(one) == 1 == len(other) and not one[0][1] and not other[0][1]:
            # Nearly all calls: one answer on each side. The rest of the way would come to the same, much later.
            rules = [(_stricter(one[0][0], other[0][0]), ())]
        else:
            rules = _meet_call(_View(one, left.default), _View(other, right.default), default, name, denied)
        rules = [rule for rule in rules if rule[0] != default]
        if rules:
            result.calls[name] = rules
    return result


def _add_refusals(default: Action, rules: list[Rule], name: str, denied: set[str]) -> list[Rule]:
    """Both sides allow what they don't name: the meet is whatever either side answers more strictly than that."""
    found: dict[Conjunction, Action] = {}
    for action, conjunction in sorted(rules, key=lambda rule: _severity(rule[0])):
        if STRICTNESS[action[0]] > STRICTNESS[default[0]]:
            found[conjunction] = action
    if () in found:
        strictest = max(found.values(), key=_severity)
        if STRICTNESS[strictest[0]] > STRICTNESS[found[()][0]]:
            denied.add(name)
        return [(strictest, ())]
    changed = True
    while changed:
        changed = False
        for conjunction in found:
            for other, action in found.items():
                if _severity(action) > _severity(found[conjunction]) and _may_overlap(conjunction, other):
                    found[conjunction] = action
                    changed = True
    if not compilable.exact(found):
        denied.add(name)
        return [(max((ERRNO, EPERM), *found.values(), key=_severity), ())]
    return sorted((action, conjunction) for conjunction, action in found.items())


def _severity(action: Action) -> tuple[int, int]:
    """An order of actions in which no two are equal, so that the greatest of a set does not depend on its order."""
    return STRICTNESS[action[0]], action[1]


def _may_overlap(a: Conjunction, b: Conjunction) -> bool:
    try:
        return condition.conjoin(a, b) is not None
    except Inexpressible:
        return True


def _stricter(a: Action, b: Action) -> Action:
    """The stricter action; of two equally strict ones the right side's, so that a meet repeated is stable."""
    return a if STRICTNESS[a[0]] > STRICTNESS[b[0]] else b


def passing(section: Section, known: dict[str, int]) -> int:
    """How many of the `known` calls the section lets through, at least with some arguments."""
    by_default = may_pass(section.default)
    named = [rules for name, rules in section.calls.items() if name in known]
    passing = sum(any(may_pass(action) for action, _ in rules) or by_default and rules[0][1] != () for rules in named)
    return passing + (len(known) - len(named) if by_default else 0)


def may_pass(action: Action) -> bool:
    """Whether a call with this answer can reach the kernel, perhaps after a supervisor was asked."""
    return STRICTNESS[action[0]] < STRICTNESS[ERRNO]


def _allows(action: Action) -> bool:
    return action[0] in (ALLOW, LOG)


class _View:
    """One call on one side: either one `action` for all arguments, or where it is `allowed` and what else is `refused`.

    `refused` are the rules that answer differently from the default outside of `allowed`; `exact` is false when
    `allowed` had to leave something out because no conjunction can express it.
    """

    __slots__ = ("action", "allowed", "allow", "refused", "exact")

    def __init__(self, rules: list[Rule], default: Action) -> None:
        self.action: Action | None = None
        self.allowed: list[Conjunction] = []
        self.refused: list[Rule] = []
        self.allow: Action = (ALLOW, 0)
        self.exact = True
        if any(not conjunction for _, conjunction in rules):
            # libseccomp lets a rule without conditions replace or shadow the others; the strictest is safe either way.
            self.action = max((action for action, _ in rules), key=lambda a: STRICTNESS[a[0]])
            return
        self.refused = sorted(rule for rule in rules if not _allows(rule[0]))
        permitted = [rule for rule in rules if _allows(rule[0])]
        if _allows(default):
            permitted = [*permitted, (default, ())]
        if any(action[0] == LOG for action, _ in permitted):
            self.allow = (LOG, 0)
        self._allow_outside([conjunction for _, conjunction in permitted])
        if not self.allowed:
            self.action = _strictest([default], self.refused)
            self.refused = []
        elif any(not conjunction for conjunction in self.allowed):
            self.action = self.allow

    def _allow_outside(self, allowed: list[Conjunction]) -> None:
        """Take every refusal out of `allowed`: rules of different actions that overlap have no defined order."""
        for _, refusal in self.refused:
            remaining: list[Conjunction] = []
            for conjunction in allowed:
                remaining += self._without(conjunction, refusal)
            allowed = remaining
        self.allowed = condition.absorb(allowed)

    def _without(self, conjunction: Conjunction, refusal: Conjunction) -> list[Conjunction]:
        if not _may_overlap(conjunction, refusal):
            return [conjunction]
        parts = []
        for single in refusal:
            try:
                part = condition.conjoin(conjunction, (condition.complement(single),))
            except Inexpressible:
                self.exact = False
                continue
            if part is not None:
                parts.append(part)
        return parts


def _meet_call(left: _View, right: _View, default: Action, name: str, denied: set[str]) -> list[Rule]:
    if not (left.exact and right.exact):
        denied.add(name)
    if left.action is not None and right.action is not None:
        return [(_stricter(left.action, right.action), ())]
    if left.action is not None or right.action is not None:
        whole, parts = (left, right) if left.action is not None else (right, left)
        return _whole_and_parts(whole.action or (ERRNO, EPERM), parts, default, name, denied)
    allowed: list[Conjunction] = []
    for a in left.allowed:
        for b in right.allowed:
            try:
                common = condition.conjoin(a, b)
            except Inexpressible:
                denied.add(name)
                continue
            if common is not None:
                allowed.append(common)
    allow = _stricter(left.allow, right.allow)
    return _rules(allow, allowed, left.refused + right.refused, default, name, denied)


def _whole_and_parts(action: Action, parts: _View, default: Action, name: str, denied: set[str]) -> list[Rule]:
    """One side gives one answer for all arguments, the other allows some."""
    if _allows(action):
        return _rules(_stricter(action, parts.allow), parts.allowed, parts.refused, default, name, denied)
    if STRICTNESS[action[0]] < STRICTNESS[ERRNO]:
        denied.add(name)
    return [(_stricter(_strictest([default], parts.refused), action), ())]


def _strictest(answers: list[Action], refused: list[Rule]) -> Action:
    """The strictest of the answers; at least a denial, since what asks a supervisor first may allow."""
    every = [(ERRNO, EPERM), *answers, *(answer for answer, _ in refused)]
    return max(reversed(every), key=lambda a: STRICTNESS[a[0]])


def _rules(
    allow: Action, allowed: list[Conjunction], refused: list[Rule], default: Action, name: str, denied: set[str]
) -> list[Rule]:
    """The rules for a call that is `allowed` somewhere; the `default` is the stricter one of both sides."""
    strictest = _strictest([default], refused)
    if any(STRICTNESS[action[0]] != STRICTNESS[strictest[0]] for action, _ in refused):
        # Where one side has a rule the other may answer more strictly; the strictest everywhere is never looser.
        refused = [(strictest, conjunction) for _, conjunction in refused]
    denials: dict[Conjunction, Action] = {}
    for action, conjunction in refused:
        denials.setdefault(conjunction, action)
    absorbed = condition.absorb(allowed)
    alone = len(absorbed) + len(denials) == 1
    kept = [conjunction for conjunction in absorbed if compilable.never_looser(conjunction, alone)]
    if len(kept) < len(absorbed):
        denied.add(name)
    if not all(compilable.never_looser(conjunction, alone) for conjunction in denials):
        denied.add(name)
        kept = []
    if not kept:
        return [(strictest, ())]
    return [(allow, conjunction) for conjunction in kept] + sorted(
        (a, conjunction) for conjunction, a in denials.items()
    )


def write(section: Section, architecture: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the section as an OCI linux.seccomp object for one architecture (SCMP_ARCH_...).

    Flags and the notification listener of the engine's own section `given` stay. Calls are sorted, so that equal
    meanings give equal bytes.
    """
    whole: dict[Action, list[str]] = {}
    partial: dict[tuple[Rule, ...], list[str]] = {}
    for name, rules in section.calls.items():
        if len(rules) == 1 and not rules[0][1]:
            whole.setdefault(rules[0][0], []).append(name)
        else:
            partial.setdefault(tuple(rules), []).append(name)
    rows = [_row(sorted(names), action, ()) for action, names in sorted(whole.items())]
    for rules_of, names in sorted(partial.items(), key=lambda item: sorted(item[1])):
        rows += [_row(sorted(names), action, conjunction) for action, conjunction in rules_of]
    result: dict[str, Any] = {"defaultAction": section.default[0]}
    if section.default[0] in (ERRNO, "SCMP_ACT_TRACE"):
        result["defaultErrnoRet"] = section.default[1]
    result["architectures"] = [architecture]
    for name in ("flags", "listenerPath", "listenerMetadata"):
        if given.get(name):
            result[name] = given[name]
    result["syscalls"] = rows
    return result


def _row(names: list[str], action: Action, conjunction: Conjunction) -> dict[str, Any]:
    row: dict[str, Any] = {"names": names, "action": action[0]}
    if action[0] in (ERRNO, "SCMP_ACT_TRACE"):
        row["errnoRet"] = action[1]
    if conjunction:
        row["args"] = [{"index": i, "value": v, "valueTwo": v2, "op": op} for i, op, v, v2 in conjunction]
    return row
