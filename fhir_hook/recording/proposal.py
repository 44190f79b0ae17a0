"""From a recording to a proposed profile: named groups that fit, and rules with reasons for the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fhir_hook.authoring import checks, expand
from fhir_hook.authoring.compile import compile_profile
from fhir_hook.authoring.finding import Finding, errors
from fhir_hook.authoring.source import RUNTIME_BASES, Source, Sources
from fhir_hook.core import oci_seccomp
from fhir_hook.core.oci_seccomp import ALLOW
from fhir_hook.recording.arguments import NEW_NAMESPACES, SHAPES, U32, Values
from fhir_hook.recording.recording import PHASES, Recording, Seen

# What a call costs that a group allows and nobody made: so much of a call that it explains.
EXTRA = 0.2
# Calls that people watch: a group that brings one needs more than ordinary evidence.
GRAVE = frozenset(
    (
        *("setuid", "setgid", "setresuid", "setresgid", "setgroups", "chown", "fchown", "lchown", "fchownat"),
        *("execve", "vfork", "fork", "clone", "kill", "memfd_create", "ptrace", "membarrier"),
        *("symlink", "link", "linkat", "symlinkat"),
    )
)
GRAVE_EXTRA = 0.8
# Groups that deny with an errno on which callers fall back, and allow nothing: they never cost anything.
HARMLESS = ("fall-backs",)
# The first word of a group's name, when it is about one program -> how the name of that program begins.
PROGRAMS = {"jvm": "java", "python": "python", "node": "node", "nginx": "nginx", "postgresql": "postgres"}
LABELS = ("org.opencontainers.image.source", "org.opencontainers.image.title", "org.opencontainers.image.vendor")


@dataclasses.dataclass(frozen=True)
class Need:
    """One thing the server did: a call, with the values of the arguments that count, in some phases."""

    call: str
    values: Values = ()
    text: str = ""
    phases: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Why a group is in the proposal: how much of the recording it explains, what it allows beyond."""

    name: str
    explains: tuple[str, ...]
    beyond: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A profile `document`; the groups in it and why; calls that are answered so that callers fall back."""

    document: dict[str, Any]
    groups: tuple[Chosen, ...]
    fall_back: tuple[str, ...]
    unnamed: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


class _Group:
    """What the ALLOW rules of a group cover on one architecture."""

    def __init__(self, source: Source, arch: str) -> None:
        self.name = source.name
        self.rules: dict[str, list[tuple[oci_seccomp.Condition, ...]]] = {}
        self.refused: dict[str, int] = {}
        self.refused_under: dict[str, list[tuple[oci_seccomp.Condition, ...]]] = {}
        for rule in source.document["syscalls"]:
            if not expand.applies(rule, arch):
                continue
            for call in rule["names"]:
                if call not in expand.NUMBERS[arch]:
                    continue
                conditions = tuple(oci_seccomp.condition(entry) for entry in rule.get("args", ()))
                if rule.get("action", ALLOW) == ALLOW:
                    self.rules.setdefault(call, []).append(conditions)
                elif conditions:
                    self.refused_under.setdefault(call, []).append(conditions)
                else:
                    self.refused[call] = rule.get("errnoRet", oci_seccomp.EPERM)

    def covers(self, need: Need) -> bool:
        """Whether a rule allows it; where no arguments were recorded, the group's own conditions are taken."""
        return not need.values and need.call in self.rules or self._holds(self.rules, need)

    def refuses(self, need: Need) -> bool:
        """Whether a rule denies it with an errno on which callers fall back."""
        return self._holds(self.refused_under, need)

    @staticmethod
    def _holds(rules: Mapping[str, Sequence[tuple[oci_seccomp.Condition, ...]]], need: Need) -> bool:
        values = dict(need.values)
        return any(
            all(cond[0] in values and oci_seccomp.holds(cond, _six(values)) for cond in conditions)
            for conditions in rules.get(need.call, ())
        )


def _six(values: Mapping[int, int]) -> list[int]:
    return [values.get(index, 0) for index in range(6)]


def propose(recording: Recording, sources: Sources, name: str, labels: Mapping[str, str]) -> Proposal:
    """The profile `name` for what was recorded. `sources` are the installed groups, `labels` those of the image."""
    arch = recording.about["architecture"]
    groups = {source.name: _Group(source, arch) for source in sources.groups.values()}
    base = [groups[name] for name in RUNTIME_BASES if name in groups]
    fitting = [group for name, group in sorted(groups.items()) if name not in RUNTIME_BASES]
    candidates = [group for group in fitting if _plausible(group, recording, sources)]
    numbers = expand.NUMBERS[arch]
    unnamed = tuple(sorted(call for call in recording.calls if call not in numbers))
    refused = {call for group in fitting for call in group.refused}
    fall_back = tuple(sorted(call for call in recording.calls if call in refused and not _covered(base, Need(call))))
    # clone3 hides its flags: it is always answered with ENOSYS, and clone takes its place.
    fall_back = tuple(sorted({*fall_back, *({"clone3"} & recording.calls)}))
    needs = [need for need in _needs(recording) if need.call in numbers and need.call not in fall_back]
    if "clone3" in recording.calls:
        needs.append(Need("clone", ((0, 0),), "in the place of clone3", recording.phases_of("clone3")))
    chosen = _choose(candidates, needs, base, recording.calls)
    included = [*base, *(groups[group.name] for group in chosen)]
    rest = [n for n in needs if not _covered(included, n) and not any(group.refuses(n) for group in included)]
    document = _document(recording, name, chosen, rest, labels)
    findings = _check(document, sources, name)
    return Proposal(document, tuple(chosen), fall_back, unnamed, tuple(findings))


def _plausible(group: _Group, recording: Recording, sources: Sources) -> bool:
    """Whether a group may be about this server: one for a certain program needs that program, or most of its calls.

    What many shipped profiles include is for everybody; for the rest, half of its calls must have been seen.
    """
    if group.name in HARMLESS:
        return True
    program = PROGRAMS.get(group.name.partition("-")[0])
    if program and recording.programs:
        return _ran(recording, program)
    users = [p for p in sources.profiles.values() if group.name in p.document["seccomp"].get("include", ())]
    if not program and len(users) * 2 >= len(sources.profiles):
        return True
    seen = sum(call in recording.calls for call in group.rules)
    return seen * 2 >= len(group.rules)


def _needs(recording: Recording) -> list[Need]:
    needs = []
    for call in sorted(recording.calls):
        entries: Sequence[Seen] = recording.arguments.get(call, ())
        with_values = [seen for seen in entries if seen.values] if call in SHAPES and SHAPES[call].filtered else []
        if with_values:
            needs += [Need(call, seen.values, seen.text, seen.phases) for seen in with_values]
        else:
            needs.append(Need(call, phases=recording.phases_of(call)))
    return needs


def _covered(groups: Iterable[_Group], need: Need) -> bool:
    return any(group.covers(need) for group in groups)


def _choose(candidates: list[_Group], needs: list[Need], base: list[_Group], seen: frozenset[str]) -> list[Chosen]:
    """Greedily: the group next that explains most of what is open, less what it allows beyond the recording."""
    open_needs = [need for need in needs if not _covered(base, need)]
    holders = {need: sum(group.covers(need) for group in candidates) for need in needs}
    left = list(candidates)
    chosen: list[Chosen] = []
    allowed = {call for group in base for call in group.rules}
    while left:
        scored = [(_score(group, open_needs, holders, seen | allowed), group) for group in left]
        best, group = max(scored, key=lambda pair: pair[0])
        if best <= 0:
            break
        explains = sorted({need.call for need in open_needs if group.covers(need)})
        beyond = sorted(call for call in group.rules if call not in seen | allowed)
        chosen.append(Chosen(group.name, tuple(explains), tuple(beyond)))
        open_needs = [need for need in open_needs if not group.covers(need)]
        allowed |= set(group.rules)
        left.remove(group)
    chosen += [Chosen(group.name, (), ()) for group in left if group.name in HARMLESS]
    return chosen


def _score(group: _Group, needs: list[Need], holders: Mapping[Need, int], known: Iterable[str]) -> float:
    """A need that only this group has says most about it."""
    known = set(known)
    gain = sum(1.0 if holders[need] == 1 else 0.7 for need in needs if group.covers(need))
    cost = sum(GRAVE_EXTRA if call in GRAVE else EXTRA for call in group.rules if call not in known)
    return gain - cost


def _document(
    recording: Recording,
    name: str,
    chosen: list[Chosen],
    rest: list[Need],
    labels: Mapping[str, str],
) -> dict[str, Any]:
    about = recording.about
    document: dict[str, Any] = {
        "$schema": "/usr/share/fhir-hook/profiles/schema/profile.schema.json",
        "name": name,
        "version": "0.1.0",
        "title": f"Proposed from the recording {recording.name}: {about['server']}"[:200],
        "kind": _kind(recording, chosen),
        "nameable": True,
        "mode": "enforce",
    }
    selector = {label: labels[label] for label in LABELS if labels.get(label)}
    if LABELS[0] in selector:
        document["match"] = [{"labels": selector}]
    document["seccomp"] = {"include": [group.name for group in chosen], "syscalls": list(_rules(recording, rest))}
    document["capabilities"] = {"keep": []}
    document["noNewPrivileges"] = True
    members = ("server", "version", "libc", "runtime", "kernel", "workload", "date")
    evidence = {"recording": recording.name} | {key: about[key] for key in members if about.get(key)}
    document["provenance"] = {"recordings": [evidence], "notes": _notes(recording, selector)}
    return document


def _notes(recording: Recording, selector: Mapping[str, str]) -> str:
    notes = ["A proposal made by 'fhir-hook profile record': read it, and try it with 'fhir-hook profile test'."]
    if not selector:
        notes.append("The image has no label that identifies it: give it the profile by [[bind]] or by a label.")
    if not recording.complete:
        notes.append("The recording is not complete: the kernel dropped events.")
    return " ".join(notes)


def _kind(recording: Recording, chosen: list[Chosen]) -> str:
    names = {group.name for group in chosen}
    if _ran(recording, "java") or "jvm" in names:
        return "jvm"
    return "python" if _ran(recording, "python") or "python-runtime" in names else "native"


def _ran(recording: Recording, program: str) -> bool:
    return any(path.rpartition("/")[2].startswith(program) for path in recording.programs)


def _rules(recording: Recording, rest: list[Need]) -> Iterable[dict[str, Any]]:
    """One rule for all calls of the same phases, and one for each combination of arguments."""
    plain: dict[tuple[str, ...], list[str]] = {}
    for need in rest:
        if not need.values:
            plain.setdefault(need.phases, []).append(need.call)
    for phases, calls in sorted(plain.items(), key=lambda item: [PHASES.index(phase) for phase in item[0]]):
        yield {"names": sorted(set(calls)), "reason": _reason(recording, phases), "action": ALLOW}
    done = []
    for need in rest:
        args = list(_conditions(need)) if need.values else []
        if args and (need.call, args) not in done:
            done.append((need.call, args))
            reason = f"{need.text}: {_reason(recording, need.phases)}"
            yield {"names": [need.call], "reason": reason, "action": ALLOW, "args": args}


def _reason(recording: Recording, phases: Sequence[str]) -> str:
    return f"seen in recording {recording.name}, phase {', '.join(phases)}"


def _conditions(need: Need) -> Iterable[dict[str, Any]]:
    if need.call == "clone" and not need.values[0][1] & NEW_NAMESPACES:
        yield {"index": 0, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
        return
    masks = dict(SHAPES[need.call].looked_at)
    for index, value in need.values:
        yield {"index": index, "value": masks.get(index, U32), "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def _check(document: dict[str, Any], sources: Sources, name: str) -> list[Finding]:
    """What checking and compiling the proposal finds."""
    source = Source(name, Path(f"{name}.json"), document, True)
    findings = checks.check_profile(sources, source)
    if not errors(findings):
        findings += compile_profile(sources, source)[1]
    return findings
