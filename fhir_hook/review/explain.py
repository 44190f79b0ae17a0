"""Why a profile allows or denies a call: by which rule, under which arguments, on whose evidence, at what price."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fhir_hook.authoring import expand
from fhir_hook.authoring.source import RUNTIME_BASES, Source, Sources
from fhir_hook.core import oci_seccomp
from fhir_hook.core.oci_seccomp import ALLOW, ENOSYS
from fhir_hook.review import difference, kernel_data, reach, subject, wording
from fhir_hook.review.evidence import Evidence, Sighting

OWN = "the profile itself"


class UnknownCall(Exception):
    """No architecture has such a call; str() is one line with the nearest names."""


@dataclasses.dataclass(frozen=True)
class Because:
    """One rule that speaks about a call: of which `group` (OWN: of none), what it says, under which arguments, why."""

    group: str
    title: str
    allows: bool
    errno: str
    arguments: str
    reason: str
    architectures: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Everything there is to say about one call in one profile.

    answers: by architecture, what the kernel does ("not on aarch64" where the call does not exist). `cves` are those
    that stay within reach by this call.
    """

    profile: str
    call: str
    allowed: bool
    answers: dict[str, str]
    why: str
    rules: tuple[Because, ...]
    instead: str
    feature: str
    sightings: tuple[Sighting, ...]
    elsewhere: tuple[Sighting, ...]
    cves: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Reviewer:
    """What explaining needs: the sources, their folder of tables, and the recordings."""

    sources: Sources
    shipped: Path
    evidence: Evidence

    def explain(self, profile: Source, call: str) -> Explanation:
        """Explain one call; raises UnknownCall."""
        subjects = {arch: subject.of_profile(self.sources, profile, arch) for arch in expand.ARCHITECTURES}
        if not any(call in s.calls for s in subjects.values()):
            raise UnknownCall(_unknown(call))
        answers = {
            arch: difference.said(s, call) if call in s.calls else f"not on {arch}" for arch, s in subjects.items()
        }
        rules = tuple(self.rules(profile, call))
        allowed = any(call in s.calls and s.passes_somehow(call) for s in subjects.values())
        own = self.evidence.of(profile)
        others = [r for r in self.evidence.recordings.values() if r not in own]
        return Explanation(
            profile=profile.name,
            call=call,
            allowed=allowed,
            answers=answers,
            why=_why(rules, allowed, answers, call),
            rules=rules,
            instead=kernel_data.load(self.shipped, "twins")["aarch64"].get(call, ""),
            feature=feature(self.shipped, call),
            sightings=tuple(self.evidence.sightings(call, own)),
            elsewhere=tuple(self.evidence.sightings(call, others)),
            cves=tuple(self._cves(subjects["x86_64"], call)) if allowed else (),
        )

    def rules(self, profile: Source, call: str) -> Iterator[Because]:
        """Every rule on the call: the profile's own first, then its groups' in their order."""
        own: list[dict[str, Any]] = profile.document["seccomp"].get("syscalls", [])
        yield from _because(OWN, profile.document["title"], "", own, call)
        for group in self.sources.included(profile):
            document = group.document
            yield from _because(group.name, document["title"], document["reason"], document["syscalls"], call)

    def _cves(self, of: subject.Subject, call: str) -> Iterator[str]:
        for verdict in reach.judge(of, reach.load(self.shipped)):
            if not verdict.closed and any(way.split("(")[0] == call for way in verdict.open_ways):
                yield verdict.cve.name


def _because(group: str, title: str, group_reason: str, rules: list[dict[str, Any]], call: str) -> Iterator[Because]:
    about = [{**rule, "names": [call]} for rule in rules if call in rule["names"]]
    for row in rows(about):
        reason = row.reason or group_reason
        yield Because(group, title, not row.errno, row.errno, row.arguments, reason, row.architectures)


def _why(rules: tuple[Because, ...], allowed: bool, answers: dict[str, str], call: str) -> str:
    """One sentence that decides."""
    allowing = list(dict.fromkeys(rule.group for rule in rules if rule.allows))
    denying = [rule for rule in rules if not rule.allows]
    if allowed:
        return f"allowed by {_listed(allowing)}"
    if call == "clone3" and any(wording.errno_name(ENOSYS) in answer for answer in answers.values()):
        return "denied with ENOSYS, so that libraries use clone, whose flags a filter can read"
    if denying:
        return f"denied by {_listed(list(dict.fromkeys(rule.group for rule in denying)))}"
    return "no group of the profile and no rule of its own names it"


def _listed(groups: list[str]) -> str:
    return ", ".join(name if name == OWN else f"the group {name}" for name in groups)


def _unknown(call: str) -> str:
    known = sorted(set().union(*expand.NUMBERS.values()))
    close = difflib.get_close_matches(call, known, 3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"no system call is named {call[:60]!r}{hint}"


def feature(shipped: Path, call: str) -> str:
    """The part of the kernel that a call opens, in a sentence; "" for a call that the table lacks."""
    for entry in kernel_data.load(shipped, "features")["features"]:
        if call in entry["calls"]:
            return f"{entry['feature']}: {entry['sentence']}"
    return ""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a profile's table: calls that one rule of one group allows (or answers with `errno`)."""

    calls: tuple[str, ...]
    errno: str
    arguments: str
    reason: str
    architectures: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Section:
    """One group in a profile's table; `base` marks the runtimes' own sets, which are part of every profile."""

    group: str
    title: str
    reason: str
    base: bool
    rows: tuple[Row, ...]


def table(sources: Sources, profile: Source) -> list[Section]:
    """A profile as people read it: its own rules, then group by group; rules that differ in arguments are one row."""
    own = profile.document["seccomp"].get("syscalls", [])
    sections = [Section(OWN, profile.document["title"], "", False, tuple(rows(own)))] if own else []
    for group in sources.included(profile):
        document = group.document
        base = group.name in RUNTIME_BASES
        sections.append(
            Section(group.name, document["title"], document["reason"], base, tuple(rows(document["syscalls"])))
        )
    return sections


def rows(rules: list[dict[str, Any]]) -> Iterator[Row]:
    """One row for each unconditional rule; the conditional ones of a call are put together."""
    seen: set[str] = set()
    for rule in rules:
        errno = "" if rule.get("action", ALLOW) == ALLOW else wording.errno_name(rule.get("errnoRet", 1))
        arches = tuple(rule.get("arches", ()))
        if "args" not in rule:
            yield Row(tuple(rule["names"]), errno, "", rule.get("reason", ""), arches)
            continue
        for call in rule["names"]:
            if call not in seen:
                seen.add(call)
                yield from _conditional(rules, call)


def _conditional(rules: list[dict[str, Any]], call: str) -> Iterator[Row]:
    by_answer: dict[tuple[str, tuple[str, ...]], list[dict[str, Any]]] = {}
    for rule in rules:
        if call in rule["names"] and "args" in rule:
            errno = "" if rule.get("action", ALLOW) == ALLOW else wording.errno_name(rule.get("errnoRet", 1))
            by_answer.setdefault((errno, tuple(rule.get("arches", ()))), []).append(rule)
    for (errno, arches), same in by_answer.items():
        conjunctions = [tuple(oci_seccomp.condition(arg) for arg in rule["args"]) for rule in same]
        arguments = "\n".join(wording.alternatives(call, conjunctions))
        reasons = list(dict.fromkeys(rule["reason"] for rule in same if rule.get("reason")))
        yield Row((call,), errno, arguments, "; ".join(reasons), arches)
