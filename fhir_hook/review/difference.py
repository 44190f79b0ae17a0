"""What one filter allows and another does not: by meaning, so that another form of a condition is no difference."""

from __future__ import annotations

import dataclasses

from fhir_hook.review import cases, kernel_data, wording
from fhir_hook.review.cases import Answer, passes
from fhir_hook.review.subject import Subject

ONLY_A, ONLY_B, ARGUMENTS, ANSWER = "only in A", "only in B", "arguments", "answer"
KINDS = (ONLY_A, ONLY_B, ARGUMENTS, ANSWER)
NEWER = "(calls newer than the tables)"
ABIS = {"x86_64": ("x86", "x32"), "aarch64": ("arm",)}
MOST_WITNESSES = 3


@dataclasses.dataclass(frozen=True)
class Difference:
    """How the subjects differ about one call. `kind` is one of KINDS.

    `a` and `b` say what each answers; `only_a` and `only_b` are example calls that one of them alone lets through.
    """

    call: str
    kind: str
    a: str
    b: str
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()


def differences(a: Subject, b: Subject, answers: bool = True) -> list[Difference]:
    """All differences, calls in the order of their names; empty when the filters mean the same. Raises cases.TooMany.

    What a denied call is answered with counts too (`answers`), unless one of the two is a recording: it denies nothing.
    """
    strict = answers and "recording" not in (a.kind, b.kind)
    named = a.meaning.rules.keys() | b.meaning.rules.keys()
    names = sorted(a.calls.keys() | (named & set(kernel_data.NEWER)))
    found = [difference for name in names if (difference := _compare(a, b, name, strict)) is not None]
    if strict:
        if a.meaning.default != b.meaning.default:
            one, two = wording.answer(a.meaning.default), wording.answer(b.meaning.default)
            found.append(Difference(NEWER, _kind(passes(a.meaning.default), passes(b.meaning.default)), one, two))
        found += _abis(a, b, sorted(named - set(names)))
    return found


def _kind(a: bool, b: bool) -> str:
    return ANSWER if a == b else ONLY_A if a else ONLY_B


def _abis(a: Subject, b: Subject, foreign: list[str]) -> list[Difference]:
    """Other ABIs of the machine, of which `foreign` are calls: those of one that a filter does not cover kill."""
    found = []
    for abi in ABIS[a.arch]:
        covered = [True if s.kind == "unconfined" else s.meaning.covers(abi, s.arch) for s in (a, b)]
        if covered[0] != covered[1]:
            one, two = ("by the same rules" if c else wording.answer(("SCMP_ACT_KILL_THREAD", 0)) for c in covered)
            found.append(Difference(f"(calls of {abi} programs)", _kind(*covered), one, two))
        elif covered[0] and abi != "x32":
            found += [entry for name in foreign if (entry := _compare(a, b, name, True)) is not None]
    return found


def _compare(a: Subject, b: Subject, name: str, strict: bool) -> Difference | None:
    conditions = {*cases.conditions_of(a.meaning, name), *cases.conditions_of(b.meaning, name)}
    only: tuple[list[tuple[int, ...]], list[tuple[int, ...]]] = ([], [])
    other: tuple[Answer, Answer] | None = None
    both = False
    for args in cases.points(conditions):
        one, two = a.meaning.answer(name, args), b.meaning.answer(name, args)
        both = both or (passes(one) and passes(two))
        if passes(one) != passes(two):
            only[0 if passes(one) else 1].append(args)
        elif strict and one != two:
            other = other or (one, two)
    if not (only[0] or only[1] or other):
        return None
    words = said(a, name), said(b, name)
    if not (only[0] or only[1]):
        assert other is not None
        return Difference(name, ANSWER, wording.answer(other[0]), wording.answer(other[1]))
    if not (both or (only[0] and only[1])):
        return Difference(name, ONLY_A if only[0] else ONLY_B, *words)
    if any(s.recording and not cases.conditions_of(s.meaning, name) for s in (a, b)):
        return None  # the recorder did not see the arguments
    shown = {cond[0] for cond in conditions}
    return Difference(name, ARGUMENTS, *words, _examples(name, only[0], shown), _examples(name, only[1], shown))


def _examples(name: str, points: list[tuple[int, ...]], shown: set[int]) -> tuple[str, ...]:
    """A few of the calls, those first whose arguments all have names."""
    texts = [wording.call_text(name, args, shown) for args in sorted(points, key=sum)]
    return tuple(sorted(texts, key=lambda text: any(c.isdigit() for c in text.replace("INET6", "")))[:MOST_WITNESSES])


def said(subject: Subject, name: str) -> str:
    """What a subject answers to a call, in words: `allowed`, `denied with EPERM`, or under which arguments."""
    rules = subject.meaning.rules.get(name, [])
    if not rules:
        return wording.answer(subject.meaning.default)
    if not any(rule.conditions for rule in rules):
        return wording.answer(subject.meaning.answer(name, (0,) * 6))
    allowing = [rule for rule in rules if passes(rule.answer)]
    denying = [rule for rule in rules if not passes(rule.answer)]
    if passes(subject.meaning.default):
        return f"allowed but for: {'; '.join(wording.alternatives(name, [rule.conditions for rule in denying]))}"
    if not allowing:
        return wording.answer(strictest(subject, name))
    return "; ".join(wording.alternatives(name, [rule.conditions for rule in allowing]))


def strictest(subject: Subject, name: str) -> Answer:
    """The answer of a call's first rule, or of the default where there is none."""
    rules = subject.meaning.rules.get(name)
    return rules[0].answer if rules else subject.meaning.default
