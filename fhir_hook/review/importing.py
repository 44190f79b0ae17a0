"""Other tools' seccomp profiles as a profile proposal: the groups that they hold whole, and rules for the rest.

The proposal is never looser than the document, but for the runtimes' base sets, which every profile has. Where a
condition can't be written as EQ and MASKED_EQ (ranges), the values are covered with blocks; of arguments with few
sensible values (families, options) only those.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from fhir_hook.authoring import expand
from fhir_hook.authoring.complement import RANGE_BITS
from fhir_hook.authoring.source import RUNTIME_BASES, Sources
from fhir_hook.core import condition as algebra
from fhir_hook.core import oci_seccomp
from fhir_hook.core.oci_seccomp import ALLOW, ENOSYS, EPERM, ERRNO, Meaning
from fhir_hook.review import cases

Conjunction = tuple[cases.Condition, ...]
Block = tuple[int, int]  # mask, value

SCHEMA = "/usr/share/fhir-hook/profiles/schema/profile.schema.json"
ARGUMENT_BITS = 32
MOST_BLOCKS = 64


@dataclasses.dataclass(frozen=True)
class Imported:
    """The proposed `document`, and `notes` on what could not be kept, one line each."""

    document: dict[str, Any]
    notes: tuple[str, ...]


def propose(meanings: dict[str, Meaning], sources: Sources, name: str, origin: str) -> Imported:
    """A profile named `name` of what the document `origin` means on each architecture. Raises cases.TooMany."""
    notes: list[str] = []
    groups = _contained(meanings, sources)
    covered = _covered(sources, groups)
    rules: list[dict[str, Any]] = []
    for arch, meaning in meanings.items():
        rest = _rest(meaning, arch, covered, notes)
        rules += rest if len(meanings) == 1 else [{**rule, "arches": [arch]} for rule in rest]
    notes += [*_losses(meanings), *_added(meanings, covered)]
    document = {
        "$schema": SCHEMA,
        "name": name,
        "version": "0.1.0",
        "title": f"Imported from {origin}"[:200],
        "nameable": False,
        "mode": "complain",
        "seccomp": {"include": groups, "syscalls": _joined(rules)},
        "capabilities": {"keep": []},
        "noNewPrivileges": True,
        "provenance": {"notes": f"Imported from {origin}. Nothing was recorded: give each rule its reason."},
    }
    return Imported(document, tuple(dict.fromkeys(notes)))


def _contained(meanings: dict[str, Meaning], sources: Sources) -> list[str]:
    """Groups that the document allows whole on every architecture, those with most calls first, none without effect."""
    whole = []
    for name, group in sources.groups.items():
        rules = [rule for rule in group.document["syscalls"] if rule.get("action", ALLOW) == ALLOW]
        if not rules or name in RUNTIME_BASES:
            continue
        if all(_holds_all(m, arch, group.document["syscalls"]) for arch, m in meanings.items()):
            whole.append((name, {(n, str(rule.get("args"))) for rule in rules for n in rule["names"]}))
    chosen: list[str] = []
    explained: set[tuple[str, str]] = set()
    for name, said in sorted(whole, key=lambda pair: (-len(pair[1]), pair[0])):
        if said - explained:
            chosen.append(name)
            explained |= said
    return chosen


def _holds_all(meaning: Meaning, arch: str, rules: Sequence[dict[str, Any]]) -> bool:
    """Whether the document allows what the rules allow, and denies alike the arguments that they deny."""
    for rule in rules:
        answer = oci_seccomp.action(rule.get("action", ALLOW), rule.get("errnoRet"))
        if not expand.applies(rule, arch) or not (answer[0] == ALLOW or "args" in rule):
            continue
        conditions = tuple(oci_seccomp.condition(arg) for arg in rule.get("args", ()))
        known = [call for call in rule["names"] if call in expand.NUMBERS[arch]]
        if not all(_always(meaning, call, conditions, answer) for call in known):
            return False
    return True


def _always(meaning: Meaning, call: str, conditions: Conjunction, answer: cases.Answer) -> bool:
    """Whether the document gives the answer to a call wherever the conditions hold."""
    every = [*cases.conditions_of(meaning, call), *conditions]
    where = (args for args in cases.points(every) if cases.holds(conditions, args))
    return all(meaning.answer(call, args) == answer for args in where)


def _covered(sources: Sources, groups: Sequence[str]) -> dict[str, expand.Rules]:
    document = {"name": "x", "seccomp": {"include": list(groups)}}
    some = next(iter(sources.groups.values()))
    empty = dataclasses.replace(some, name="x", document=document)
    return {arch: expand.gather(sources, empty, arch) for arch in expand.ARCHITECTURES}


def _rest(meaning: Meaning, arch: str, covered: dict[str, expand.Rules], notes: list[str]) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = []
    there = covered[arch]
    plain: list[str] = []
    refused: dict[int, list[str]] = {}
    for call in expand.NUMBERS[arch]:
        conjunctions = _allowed(meaning, call)
        if conjunctions is None:
            errno = _errno(meaning, call)
            if errno not in (EPERM, there.denied.get(call, EPERM)) and call not in there.allowed:
                refused.setdefault(errno, []).append(call)
        elif () in conjunctions:
            if call not in there.always:
                plain.append(call)
        elif call not in there.always:
            rules += _conditional(call, conjunctions, there, notes)
            rules += _refusals(call, meaning, there)
    if plain:
        rules.insert(0, {"names": plain, "action": ALLOW})
    rules += [{"names": names, "action": ERRNO, "errnoRet": errno} for errno, names in sorted(refused.items())]
    return rules


def _allowed(meaning: Meaning, call: str) -> list[Conjunction] | None:
    """The conditions under which the document allows a call, () among them for all; None when it never does."""
    rules = meaning.rules.get(call, [])
    allowing = [rule.conditions for rule in rules if rule.answer[0] == ALLOW]
    by_default = meaning.default[0] == ALLOW
    if not rules:
        return [()] if by_default else None
    if by_default and not any(rule.answer[0] != ALLOW and not rule.conditions for rule in rules):
        return [] if any(rule.answer[0] != ALLOW for rule in rules) else [()]
    return allowing or None


def _errno(meaning: Meaning, call: str) -> int:
    rules = meaning.rules.get(call)
    action, errno = rules[0].answer if rules else meaning.default
    return errno if action == ERRNO and errno else EPERM


def _conditional(
    call: str, conjunctions: list[Conjunction], there: expand.Rules, notes: list[str]
) -> list[dict[str, Any]]:
    if not conjunctions:
        notes.append(f"{call} is denied under some arguments only, which a profile can't say: it is left out")
        return []
    exact = all(cond[1] in (algebra.EQ, algebra.MASKED_EQ) for found in conjunctions for cond in found)
    if not exact:
        blocks = _blocks(call, conjunctions)
        if blocks is None:
            notes.append(f"the conditions on {call} can't be written as EQ and MASKED_EQ: only what groups say is kept")
            return []
        notes.append(f"the conditions on {call} are written as blocks; values beyond those in use are left out")
        conjunctions = blocks
    known = there.under.get(call, [])
    entries = []
    for found in conjunctions:
        args = [{"index": i, "value": v, "valueTwo": v2, "op": op} for i, op, v, v2 in algebra.simplify(found)]
        if args not in known:
            entries.append({"names": [call], "action": ALLOW, "args": args})
    return entries


def _refusals(call: str, meaning: Meaning, there: expand.Rules) -> list[dict[str, Any]]:
    """Arguments that are denied with an errno of their own, which no profile would give by itself."""
    known = [args for args, _ in there.denied_under.get(call, [])]
    entries = []
    for rule in meaning.rules.get(call, []):
        action, errno = rule.answer
        if action != ERRNO or errno in (EPERM, ENOSYS) or not all(map(oci_seccomp.plain, rule.conditions)):
            continue
        simple = algebra.simplify(rule.conditions)
        args = [{"index": i, "value": v, "valueTwo": v2, "op": op} for i, op, v, v2 in simple]
        if args not in known:
            entries.append({"names": [call], "action": ERRNO, "errnoRet": errno, "args": args})
    return entries


def _blocks(call: str, conjunctions: list[Conjunction]) -> list[Conjunction] | None:
    """Conditions on one argument as disjoint MASKED_EQ blocks of its sensible values; None where there are none."""
    indices = {cond[0] for found in conjunctions for cond in found}
    if len(indices) != 1:
        return None
    index = indices.pop()
    conditions = [cond for found in conjunctions for cond in found]
    bits = RANGE_BITS.get((call, index), ARGUMENT_BITS)
    edges = sorted({value for value in cases.cells(tuple(conditions)) if value < 1 << bits} | {0})

    def passes(value: int) -> bool:
        return any(all(algebra.holds(cond, value) for cond in found) for found in conjunctions)

    if any(cond[1] == algebra.MASKED_EQ for cond in conditions):
        return None
    blocks: list[Block] = []
    _cover(0, bits, edges, passes, blocks)
    if len(blocks) > MOST_BLOCKS:
        return None
    outside = algebra.LOW_HALF & ~((1 << bits) - 1)
    return [((index, algebra.MASKED_EQ, mask | outside, value),) for mask, value in blocks]


def _cover(start: int, bits: int, edges: Sequence[int], passes: Any, blocks: list[Block]) -> None:
    """Blocks of the values from `start` on that differ in the low `bits` and pass; values between edges are alike."""
    end = start + (1 << bits)
    inside = [edge for edge in edges if start < edge < end]
    if not inside:
        if passes(start):
            blocks.append((algebra.LOW_HALF & ~((1 << bits) - 1), start))
        return
    _cover(start, bits - 1, edges, passes, blocks)
    _cover(start + (1 << bits - 1), bits - 1, edges, passes, blocks)


def _joined(rules: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rules that are the same on both architectures as one."""
    found: list[dict[str, Any]] = []
    for rule in rules:
        bare = {key: value for key, value in rule.items() if key != "arches"}
        twin = next((one for one in found if {k: v for k, v in one.items() if k != "arches"} == bare), None)
        if twin is None:
            found.append(rule)
        elif set(twin.get("arches", ())) | set(rule.get("arches", ())) == set(expand.ARCHITECTURES):
            twin.pop("arches", None)
    return found


def _added(meanings: dict[str, Meaning], covered: dict[str, expand.Rules]) -> Iterable[str]:
    for arch, meaning in meanings.items():
        added = sorted(call for call in covered[arch].allowed if _allowed(meaning, call) is None)
        if added:
            yield f"the runtimes' own calls, which every profile allows, are added: {', '.join(added)}"


def _losses(meanings: dict[str, Meaning]) -> Iterable[str]:
    for arch, meaning in meanings.items():
        if meaning.default[0] not in (ALLOW, ERRNO):
            yield f"calls that nothing names end in {meaning.default[0]} there; a profile denies them"
        elif meaning.default == (ERRNO, EPERM):
            yield "calls newer than this tool's tables answer ENOSYS in a profile, where the document says EPERM"
        elif meaning.default[0] == ALLOW:
            yield "the document allows what it does not name; a profile only what this tool's tables know"
        others = {rule.answer[0] for rules in meaning.rules.values() for rule in rules} - {ALLOW, ERRNO}
        if others:
            yield f"calls with {', '.join(sorted(others))} are denied: a profile allows or denies"
        for abi in ("x86", "x32") if arch == "x86_64" else ("arm",):
            if meaning.covers(abi, arch):
                yield f"programs of the ABI {abi} are killed by a profile; the document lets them run"
