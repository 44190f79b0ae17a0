"""The meaning of an OCI `linux.seccomp` section, as runc and crun give it (runtime-spec, config-linux.md, "Seccomp").

What the specification leaves open is answered by the sources of both runtimes (runc libcontainer/seccomp/
seccomp_linux.go, crun src/libcrun/seccomp.c) and of libseccomp 2.5 (src/db.c):

- a rule whose action (with its errno) equals the default is dropped before anything else is looked at;
- when one rule names an argument index twice, each of its conditions becomes a rule of its own: they are OR-ed;
- an unconditional rule for a call replaces every conditional one, the first unconditional one wins;
- names that libseccomp doesn't know are skipped;
- `architectures` adds to the machine's own, which is always there; a call from any other ABI gets SCMP_ACT_KILL;
- argument values are compared as unsigned 64-bit numbers.

Two conditional rules with different actions that match the same call have no defined meaning: libseccomp answers by
the order of its tree (or refuses, -EEXIST). Here the strictest of them is the answer, and `Meaning.ambiguous` says so.
"""

from __future__ import annotations

from fhir_hook.core import condition as algebra

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Answer = tuple[str, int]
    Condition = tuple[int, str, int, int]

ALLOW = "SCMP_ACT_ALLOW"
ERRNO = "SCMP_ACT_ERRNO"
LOG = "SCMP_ACT_LOG"
KILL_THREAD = "SCMP_ACT_KILL_THREAD"
EPERM = 1
ENOSYS = 38
MAX_ARGS = 6
MASK_64 = algebra.MAX

# Strictness as the kernel orders return values when several filters answer (seccomp(2), "the highest precedence").
RANK = {
    "SCMP_ACT_KILL_PROCESS": 7,
    "SCMP_ACT_KILL_THREAD": 6,
    "SCMP_ACT_TRAP": 5,
    "SCMP_ACT_ERRNO": 4,
    "SCMP_ACT_NOTIFY": 3,
    "SCMP_ACT_TRACE": 2,
    "SCMP_ACT_LOG": 1,
    "SCMP_ACT_ALLOW": 0,
}
ARCH_TOKENS = {
    "x86_64": "SCMP_ARCH_X86_64",
    "x86": "SCMP_ARCH_X86",
    "x32": "SCMP_ARCH_X32",
    "aarch64": "SCMP_ARCH_AARCH64",
    "arm": "SCMP_ARCH_ARM",
}


def action(name: object, errno: object = None) -> Answer:
    """Normalise an action name and errnoRet to (action, errno): errno is 0 where the action has none.

    SCMP_ACT_KILL is another name of SCMP_ACT_KILL_THREAD. Raises ValueError on what a runtime would refuse.
    """
    if name == "SCMP_ACT_KILL":
        name = KILL_THREAD
    if not isinstance(name, str) or name not in RANK:
        raise ValueError(f"unknown seccomp action {name!r}")
    if name not in (ERRNO, "SCMP_ACT_TRACE"):
        return name, 0
    if errno is None:
        return name, EPERM
    if not isinstance(errno, int) or isinstance(errno, bool) or errno < 0:
        raise ValueError(f"errnoRet is {errno!r}, not a number")
    return name, errno & 0xFFFF


def stricter(one: Answer, other: Answer) -> Answer:
    """The answer the kernel gives when two filters answer `one` and `other`; `one` when they rank the same."""
    return other if RANK[other[0]] > RANK[one[0]] else one


def condition(entry: dict[str, Any]) -> Condition:
    """Read one entry of `args` as (index, operator, value, valueTwo); raises ValueError on what a runtime refuses."""
    index, op = entry.get("index"), entry.get("op")
    value, value_two = entry.get("value"), entry.get("valueTwo")
    value, value_two = 0 if value is None else value, 0 if value_two is None else value_two
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < MAX_ARGS:
        raise ValueError(f"argument index {index!r} is not 0 to 5")
    if op not in algebra.OPERATORS:
        raise ValueError(f"unknown operator {op!r}")
    for number in (value, value_two):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MASK_64:
            raise ValueError(f"argument value {number!r} is no unsigned 64-bit number")
    return index, op, value, value_two


def holds(cond: Condition, args: Sequence[int]) -> bool:
    """Whether the condition is true of a call's six arguments (missing ones count as 0), unsigned 64-bit."""
    index = cond[0]
    return algebra.holds(cond, args[index] & MASK_64 if index < len(args) else 0)


def vacuous(cond: Condition) -> bool:
    """Whether libseccomp leaves the condition out, since it is true of every argument (an empty mask)."""
    return cond[1] == "SCMP_CMP_MASKED_EQ" and cond[2] == 0


def plain(cond: Condition) -> bool:
    """Whether the condition is EQ or MASKED_EQ: the only ones libseccomp 2.5.4 compiles rightly beside others."""
    return cond[1] in (algebra.EQ, algebra.MASKED_EQ)


def _masked(cond: Condition) -> tuple[int, int]:
    return (MASK_64, cond[2]) if cond[1] == "SCMP_CMP_EQ" else (cond[2], cond[3])


def disjoint(one: Sequence[Condition], two: Sequence[Condition]) -> bool:
    """Whether no arguments satisfy both lists of conditions, as far as EQ and MASKED_EQ tell (False: not known)."""
    for first in one:
        for second in two:
            if first[0] != second[0] or not plain(first) or not plain(second):
                continue
            (mask_one, value_one), (mask_two, value_two) = _masked(first), _masked(second)
            if (value_one ^ value_two) & mask_one & mask_two:
                return True
    return False


class Rule:
    """One rule for one call after the runtime's rewriting: all `conditions` hold -> `answer`; none: always."""

    __slots__ = ("answer", "conditions")

    def __init__(self, conditions: tuple[Condition, ...], answer: Answer) -> None:
        self.conditions = conditions
        self.answer = answer

    def matches(self, args: Sequence[int]) -> bool:
        """Whether the rule applies to a call with these arguments."""
        return all(holds(cond, args) for cond in self.conditions)


def answer_of(rules: Sequence[Rule], default: Answer, args: Sequence[int]) -> Answer:
    """(action, errno) that one call's rules give: the strictest where they contradict, `default` where none applies."""
    found: Answer | None = None
    for rule in rules:
        if rule.matches(args):
            found = rule.answer if found is None else stricter(found, rule.answer)
    return default if found is None else found


class Meaning:
    """One section, read once: `default` answer, `architectures` beside the machine's own, `rules` by call name.

    Raises ValueError on a section that runc or crun would refuse.
    """

    __slots__ = ("architectures", "default", "rules")

    def __init__(self, section: dict[str, Any]) -> None:
        self.default = action(section.get("defaultAction"), section.get("defaultErrnoRet"))
        self.architectures = tuple(section.get("architectures") or ())
        self.rules: dict[str, list[Rule]] = {}
        for entry in section.get("syscalls") or ():
            answer = action(entry.get("action"), entry.get("errnoRet"))
            if answer == self.default:
                continue
            variants = _variants(entry.get("args") or ())
            for name in entry.get("names") or ():
                for conditions in variants:
                    self._add(name, Rule(conditions, answer))

    def _add(self, name: str, rule: Rule) -> None:
        there = self.rules.setdefault(name, [])
        if there and not there[0].conditions:
            return
        if not rule.conditions:
            there.clear()
        there.append(rule)

    def answer(self, name: str, args: Sequence[int]) -> Answer:
        """(action, errno) for one call of the machine's own ABI; the strictest one where rules contradict."""
        return answer_of(self.rules.get(name, ()), self.default, args)

    def ambiguous(self, name: str, args: Sequence[int]) -> bool:
        """Whether rules with different answers match this call, so that libseccomp's tree order decides."""
        return len({rule.answer for rule in self.rules.get(name, ()) if rule.matches(args)}) > 1

    def exact(self, name: str) -> bool:
        """Whether libseccomp 2.5.4 compiles the rules on this call to what they say.

        Beside each other, conditions other than EQ and MASKED_EQ give wrong answers, looser ones among them: the tree
        shares a node between rules whose branches mean different things. Rules with different answers must not overlap.
        """
        rules = self.rules.get(name, [])
        if len(rules) < 2:
            return True
        if not all(plain(cond) for rule in rules for cond in rule.conditions):
            return False
        for index, rule in enumerate(rules):
            for other in rules[:index]:
                if rule.answer != other.answer and not disjoint(rule.conditions, other.conditions):
                    return False
        return True

    def covers(self, arch: str, native: str) -> bool:
        """Whether calls of the ABI `arch` ("x86_64", "x86", "x32", "aarch64", "arm") are looked at on `native`."""
        return arch == native or ARCH_TOKENS[arch] in self.architectures


def _variants(args: Sequence[dict[str, Any]]) -> list[tuple[Condition, ...]]:
    conditions = tuple(condition(entry) for entry in args)
    if len({cond[0] for cond in conditions}) < len(conditions):
        groups: list[tuple[Condition, ...]] = [(cond,) for cond in conditions]
    else:
        groups = [conditions]
    return [tuple(cond for cond in group if not vacuous(cond)) for group in groups]


def complain(section: dict[str, Any], arch: str) -> dict[str, Any]:
    """The section that denies nothing: what `section` doesn't allow is allowed and logged by the kernel.

    Calls of the machine's other ABIs (i386 and x32 beside x86_64, 32-bit ARM beside aarch64) are let through too; they
    are looked at by name, so that libseccomp's own answer to a foreign ABI, which kills, is not reached.
    """
    others = ("x86", "x32") if arch == "x86_64" else ("arm",)
    allowed = [entry for entry in section.get("syscalls") or () if entry.get("action") == ALLOW]
    return {
        "defaultAction": LOG,
        "architectures": [ARCH_TOKENS[name] for name in (arch, *others)],
        "syscalls": allowed,
    }


def evaluate(section: dict[str, Any], arch: str, name: str, args: Sequence[int], native: str = "") -> Answer:
    """What `section` answers to one call: (action, errno), errno 0 where the action has none.

    arch: the ABI the call is made with ("x86_64", "aarch64", "x86", "x32", "arm"); native: the machine's own ABI, the
    same as arch if left out. name: the call's name in that ABI; args: up to six unsigned 64-bit numbers. Raises
    ValueError on a section that runc or crun would refuse, KeyError on an unknown ABI. For many calls of one section,
    build a `Meaning` once.
    """
    meaning = Meaning(section)
    if not meaning.covers(arch, native or arch):
        return KILL_THREAD, 0
    return meaning.answer(name, args)
