"""What a careful reviewer would say about a profile: beyond what `policy check` refuses, with stable codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fhir_hook.authoring import expand
from fhir_hook.authoring.finding import ERROR, WARNING, Finding, pointer
from fhir_hook.authoring.source import RUNTIME_BASES, Source, Sources
from fhir_hook.core.oci_seccomp import ALLOW, ENOSYS, ERRNO
from fhir_hook.review import ceiling, difference, evidence, kernel_data, wording
from fhir_hook.review.cases import TooMany
from fhir_hook.review.codes import NOTE
from fhir_hook.review.evidence import Evidence
from fhir_hook.review.subject import Subject, of_profile

MOST_NAMED = 12


@dataclasses.dataclass(frozen=True)
class Linter:
    """What linting needs: the sources, the folder with the kernel's tables, and the recordings."""

    sources: Sources
    shipped: Path
    evidence: Evidence

    def profile(self, profile: Source) -> list[Finding]:
        """All findings on a profile, errors first; findings of both architectures once."""
        found: dict[Finding, None] = {}
        for arch in expand.ARCHITECTURES:
            found.update(dict.fromkeys(self.subject(of_profile(self.sources, profile, arch))))
        checks: tuple[Callable[[Source], Iterator[Finding]], ...] = (
            self._useless_rules,
            self._useless_groups,
            self._better_groups,
            self._reasons,
            self._provenance,
        )
        for check in checks:
            found.update(dict.fromkeys(check(profile)))
        return sorted(found, key=lambda one: (one.severity != ERROR, one.severity == NOTE))

    def subject(self, of: Subject) -> list[Finding]:
        """The findings on a filter as such: ceiling, fall-backs, what runtimes need, other ABIs."""
        file = str(of.source.path) if of.source else of.label
        found = ceiling.check_subject(of, self.shipped, file)
        found += self._fall_backs(of, file)
        found += self._bases(of, file)
        for abi in difference.ABIS[of.arch]:
            if of.kind != "unconfined" and of.meaning.covers(abi, of.arch):
                message = f"{abi} programs run too; i386's socketcall gets past a filter of socket's arguments"
                found.append(Finding("P712", WARNING, file, "/architectures", message, f"leave {abi} out"))
        return found

    def _fall_backs(self, of: Subject, file: str) -> Iterator[Finding]:
        where = "/seccomp" if of.source else "/syscalls"
        twins = kernel_data.load(self.shipped, "twins")
        for entry in twins["newer"]:
            call = entry["call"]
            if call not in of.calls or of.passes_somehow(call):
                continue
            older = [name for name in entry["older"] if name in of.calls and of.passes_somehow(name)]
            answer = of.meaning.answer(call, (0,) * 6)
            name = wording.errno_name(answer[1]) if answer[0] == "SCMP_ACT_ERRNO" else wording.answer(answer)
            if older and call == "clone3" and answer != ("SCMP_ACT_ERRNO", ENOSYS):
                message = f"clone3 is answered with {name}: programs on glibc 2.34 and later then start no thread"
                yield Finding("P709", ERROR, file, where, message, "deny it with ENOSYS (errnoRet 38)")
            elif older and call != "clone3" and name not in twins["fine"]:
                message = f"{call} is answered with {name}, and {entry['who']} then fail instead of using {older[0]}"
                yield Finding("P710", WARNING, file, where, message, "include the group fall-backs, or answer ENOSYS")

    def _bases(self, of: Subject, file: str) -> Iterator[Finding]:
        for base in RUNTIME_BASES:
            group = self.sources.groups.get(base)
            if group is None:
                continue  # policy check says so
            missing = []
            for rule in group.document["syscalls"]:
                if rule.get("action", ALLOW) == ALLOW and expand.applies(rule, of.arch):
                    missing += [n for n in rule["names"] if n in of.calls and not of.passes_somehow(n)]
            if missing:
                message = f"{group.document['title']} calls {_named(missing)} under the filter: starts or exec may fail"
                severity = WARNING if of.source is None or _meant(of.source, missing) else ERROR
                yield Finding("P711", severity, file, "/seccomp" if of.source else "", message, "allow them")

    def _useless_rules(self, profile: Source) -> Iterator[Finding]:
        own = profile.document["seccomp"].get("syscalls", [])
        for index, rule in enumerate(own):
            without = _changed(profile, syscalls=own[:index] + own[index + 1 :])
            answers = rule.get("action", ALLOW) != ALLOW
            if not self._explained_by_check(profile, rule) and self._same(profile, without, rule["names"], answers):
                message = f"without this rule on {_named(rule['names'])} the profile means the same"
                yield Finding("P701", WARNING, str(profile.path), f"/seccomp/syscalls/{index}", message, "remove it")

    def _explained_by_check(self, profile: Source, rule: dict[str, Any]) -> bool:
        """Whether `policy check` says it already: a group allows all of the calls with any arguments (P303, P309)."""
        whole = {
            name
            for group in self.sources.included(profile)
            for other in group.document["syscalls"]
            if other.get("action", ALLOW) == ALLOW and "args" not in other and "arches" not in other
            for name in other["names"]
        }
        return rule.get("action", ALLOW) == ALLOW and whole.issuperset(rule["names"])

    def _same(self, one: Source, two: Source, calls: list[str] | None = None, answers: bool = True) -> bool:
        """Whether two profiles mean the same (about `calls`; but for denials' `answers`), as far as can be told."""
        for arch in expand.ARCHITECTURES:
            rules = [expand.gather(self.sources, source, arch) for source in (one, two)]
            if rules[0].allowed != rules[1].allowed:
                return False
            if rules[0] == rules[1]:
                continue
            a, b = (of_profile(self.sources, source, arch) for source in (one, two))
            try:
                if any(calls is None or found.call in calls for found in difference.differences(a, b, answers)):
                    return False
            except TooMany:
                return False
        return True

    def _useless_groups(self, profile: Source) -> Iterator[Finding]:
        include = profile.document["seccomp"].get("include", [])
        seen = frozenset().union(*(one.calls for one in self.evidence.of(profile)))
        for index, name in enumerate(include):
            if name not in self.sources.groups or name in RUNTIME_BASES:
                continue
            where = pointer(("seccomp", "include", index))
            without = _changed(profile, include=include[:index] + include[index + 1 :])
            if self._same(profile, without):
                message = f"the group {name} adds nothing to what the others and the rules say"
                yield Finding("P702", NOTE, str(profile.path), where, message, "leave it out")
                continue
            alone = self._allowed(profile) - self._allowed(without)
            if seen and alone and not alone & seen:
                message = f"of what only the group {name} allows no recording of this profile saw any: {_named(alone)}"
                hint = "leave it out, or record what needs it"
                yield Finding("P703", NOTE, str(profile.path), where, message, hint)

    def _allowed(self, profile: Source) -> set[str]:
        return set().union(*(expand.gather(self.sources, profile, arch).allowed for arch in expand.ARCHITECTURES))

    def _better_groups(self, profile: Source) -> Iterator[Finding]:
        own = _plainly_allowed(profile.document["seccomp"].get("syscalls", ()))
        include = profile.document["seccomp"].get("include", ())
        for name, group in self.sources.groups.items():
            calls = _plainly_allowed(group.document["syscalls"])
            if name not in include and name not in RUNTIME_BASES and len(calls) > 1 and calls <= own:
                message = f"the rules allow {_named(calls)}: that is the group {name} ({group.document['title']})"
                where = "/seccomp/syscalls"
                yield Finding("P704", NOTE, str(profile.path), where, message, f"include {name} instead")

    def _reasons(self, profile: Source) -> Iterator[Finding]:
        own = profile.document["seccomp"].get("syscalls", ())
        of_profile = self.evidence.of(profile)
        seen = frozenset().union(*(one.calls for one in of_profile))
        for index, rule in enumerate(own):
            if not rule.get("reason"):
                message = f"nothing says why {_named(rule['names'])} is in the profile"
                where = pointer(("seccomp", "syscalls", index))
                yield Finding("P705", WARNING, str(profile.path), where, message, 'write a "reason"')
        if not of_profile:
            return
        for group in self.sources.included(profile):
            for index, rule in enumerate(group.document["syscalls"]):
                unseen = [n for n in rule["names"] if n not in seen and rule.get("action", ALLOW) == ALLOW]
                if unseen and not rule.get("reason") and group.name not in RUNTIME_BASES:
                    message = f"no recording of {profile.name} saw {_named(unseen)}, and the rule has no reason"
                    where = pointer(("syscalls", index))
                    yield Finding("P706", NOTE, str(group.path), where, message, 'write a "reason" for the rule')

    def _provenance(self, profile: Source) -> Iterator[Finding]:
        path = str(profile.path)
        entries = profile.document.get("provenance", {}).get("recordings", ())
        if not entries:
            message = "nothing says what the profile was recorded on and proven with"
            yield Finding("P707", WARNING, path, "/provenance", message, "add provenance.recordings")
        elif not evidence.named(profile):
            message = "no entry of the provenance names a recording, so that no call can be traced to what was seen"
            hint = '"recording": the name of a file of profiles/recordings'
            yield Finding("P707", NOTE, path, "/provenance/recordings", message, hint)
        for index, entry in enumerate(entries):
            name = entry.get("recording")
            if name and name not in self.evidence.recordings:
                problem = next((text for text in self.evidence.problems if f"/{name}.json" in text), "there is none")
                where = pointer(("provenance", "recordings", index, "recording"))
                yield Finding("P708", WARNING, path, where, f"the recording {name!r} can't be used: {problem}")


def _meant(profile: Source, calls: list[str]) -> bool:
    """Whether rules of the profile's own take the calls away and say why."""
    own = profile.document["seccomp"].get("syscalls", ())
    return all(
        any(call in rule["names"] and rule.get("action") == ERRNO and rule.get("reason") for rule in own)
        for call in calls
    )


def _changed(profile: Source, **members: Any) -> Source:
    """The profile with other members of its seccomp."""
    document = {**profile.document, "seccomp": {**profile.document["seccomp"], **members}}
    return dataclasses.replace(profile, document=document)


def _plainly_allowed(rules: Any) -> set[str]:
    return {n for rule in rules if rule.get("action", ALLOW) == ALLOW and "args" not in rule for n in rule["names"]}


def _named(calls: Any) -> str:
    listed = sorted(calls)
    more = f" and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else ""
    return ", ".join(listed[:MOST_NAMED]) + more
