"""The ceiling (profiles/kernel/ceiling.json): what no profile may allow, whoever wrote it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from fhir_hook.authoring.finding import ERROR, Finding, errors
from fhir_hook.authoring.source import Sources
from fhir_hook.review import cases, kernel_data, wording
from fhir_hook.review.cases import passes
from fhir_hook.review.subject import Subject, of_profile

ARCHITECTURES = ("x86_64", "aarch64")
MOST_EXAMPLES = 4


@dataclasses.dataclass(frozen=True)
class Limit:
    """One entry: `calls` are never allowed where `never` holds (for one of the list), or where none of `only` does."""

    calls: tuple[str, ...]
    severity: str
    reason: str
    never: tuple[kernel_data.Conjunction, ...]
    only: tuple[kernel_data.Conjunction, ...]
    examples: tuple[kernel_data.Conjunction, ...]

    def forbids(self, args: tuple[int, ...]) -> bool:
        """Whether a call with these arguments is above the ceiling."""
        if self.only:
            return not any(cases.holds(allowed, args) for allowed in self.only)
        return not self.never or any(cases.holds(bad, args) for bad in self.never)


@dataclasses.dataclass(frozen=True)
class Breach:
    """A call above the ceiling that a filter lets through: with which arguments, in words."""

    call: str
    text: str
    limit: Limit


def limits(shipped: Path) -> list[Limit]:
    """The entries about calls. Raises kernel_data.DataError."""
    return [
        Limit(
            tuple(entry["calls"]),
            entry["severity"],
            entry["reason"],
            tuple(kernel_data.conjunction(short) for short in entry.get("never", ())),
            tuple(kernel_data.conjunction(short) for short in entry.get("only", ())),
            tuple(kernel_data.conjunction(short) for short in entry.get("examples", entry.get("never", ()))),
        )
        for entry in kernel_data.load(shipped, "ceiling")["calls"]
    ]


def breaches(subject: Subject, shipped: Path) -> Iterator[Breach]:
    """Every call above the ceiling that the subject lets through. Raises cases.TooMany."""
    for limit in limits(shipped):
        for call in limit.calls:
            if call in subject.calls and subject.passes_somehow(call):
                text = _breach(subject, call, limit)
                if text:
                    yield Breach(call, text, limit)


def _breach(subject: Subject, call: str, limit: Limit) -> str:
    if subject.unconditional(call) or not (limit.never or limit.only):
        return f"{call} with any arguments" if limit.never or limit.only else call
    conditions = cases.conditions_of(subject.meaning, call)
    bounds = [cond for conj in (*limit.never, *limit.only) for cond in conj]
    points = cases.points([*conditions, *bounds])
    over = next((args for args in points if limit.forbids(args) and passes(subject.meaning.answer(call, args))), None)
    if over is None:
        return ""
    examples = [text for example in limit.examples if (text := _example(subject, call, example))]
    if not examples:
        return wording.call_text(call, over, {cond[0] for cond in bounds})
    return ", ".join(examples[:MOST_EXAMPLES]) + " and more" * (len(examples) > MOST_EXAMPLES)


def _example(subject: Subject, call: str, example: kernel_data.Conjunction) -> str:
    args = cases.witness(subject.meaning, call, example)
    return wording.call_text(call, args, {cond[0] for cond in example}) if args is not None else ""


def check_subject(subject: Subject, shipped: Path, file: str = "") -> list[Finding]:
    """P601 (error) and P602 (warning) for calls, P603 and P604 for capabilities, P605 for new privileges."""
    file = file or (str(subject.source.path) if subject.source else subject.label)
    found: list[Finding] = []
    try:
        for breach in breaches(subject, shipped):
            code = "P601" if breach.limit.severity == ERROR else "P602"
            message = f"{breach.text} is allowed: {breach.limit.reason}"
            where = _place(subject, breach.call)
            found.append(Finding(code, breach.limit.severity, file, where, message, _hint(subject, breach.call)))
    except cases.TooMany as error:
        found.append(Finding("P606", ERROR, file, "/seccomp", str(error), "fewer conditions on one call"))
    if subject.source is not None:
        found += _capabilities(subject, shipped, file)
        if subject.new_privileges:
            message = "noNewPrivileges is false: set-user-ID programs would gain privileges"
            found.append(Finding("P605", ERROR, file, "/noNewPrivileges", message, "leave it out, or set it to true"))
    return found


def _capabilities(subject: Subject, shipped: Path, file: str) -> Iterator[Finding]:
    for place, name in enumerate(subject.capabilities):
        for entry in kernel_data.load(shipped, "ceiling")["capabilities"]:
            if name in entry["names"] or ("*" in entry["names"] and name not in entry.get("except", ())):
                code = "P603" if entry["severity"] == ERROR else "P604"
                where = f"/capabilities/keep/{place}"
                yield Finding(code, entry["severity"], file, where, f"{name} is kept: {entry['reason']}", "remove it")
                break


def _place(subject: Subject, call: str) -> str:
    """The JSON pointer of the profile's own rule on the call, else of its rules as a whole."""
    if subject.source is None:
        return "/syscalls"
    for index, rule in enumerate(subject.source.document["seccomp"].get("syscalls", ())):
        if call in rule["names"]:
            return f"/seccomp/syscalls/{index}"
    return "/seccomp/include"


def _hint(subject: Subject, call: str) -> str:
    if subject.source is None or _place(subject, call) != "/seccomp/include":
        return "remove the rule, or allow it with the arguments that are needed only"
    return f"'fhir-hook profile explain {subject.source.name} {call}' says which group allows it"


def refusals(sources: Sources, shipped: Path) -> list[Finding]:
    """The ceiling's errors on every profile, each once: they refuse a policy. Raises kernel_data.DataError."""
    found: dict[Finding, None] = {}
    for profile in sources.profiles.values():
        for arch in ARCHITECTURES:
            subject = of_profile(sources, profile, arch)
            found.update(dict.fromkeys(errors(check_subject(subject, shipped))))
    return list(found)


