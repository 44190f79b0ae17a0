"""The attack surface: how much of the kernel profiles leave within reach, beside the engines' defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from fhir_hook.authoring.expand import NUMBERS
from fhir_hook.review import evidence, kernel_data, reach
from fhir_hook.review.evidence import Evidence
from fhir_hook.review.subject import WORDS, Finder, Subject, make

ENGINES = tuple(reversed(WORDS))


@dataclasses.dataclass(frozen=True)
class Line:
    """One filter. Calls: `allowed` of `known`, `by_arguments` of them under conditions only.

    closed: CVEs of cves.json closed, of `cves`; closed_of_docker: of the `docker_leaves` that Docker's default leaves
    open or conditional by cves.json's own account. serving, serving_closed: the same for the calls that recordings saw
    while serving, None where there is none; seen, not enforced. capabilities: what a container has beside the filter.
    """

    name: str
    kind: str
    allowed: int
    by_arguments: int
    known: int
    capabilities: tuple[str, ...]
    cves: int
    closed: int
    docker_leaves: int
    closed_of_docker: int
    serving: int | None = None
    serving_closed: int | None = None


def lines(finder: Finder, known: Evidence, names: Sequence[str] = ()) -> list[Line]:
    """The engines' defaults and the profiles (all, or those named). Raises subject.SubjectError, cases.TooMany."""
    cves = reach.load(finder.shipped)
    return [line(finder.find(name), known, cves) for name in names or (*ENGINES, *sorted(finder.sources.profiles))]


def line(subject: Subject, known: Evidence, cves: list[reach.Cve]) -> Line:
    """The numbers of one filter."""
    counts = reach.counts(reach.judge(subject, cves))
    allowed = subject.allowed()
    serving = serving_subject(subject, known)
    return Line(
        name=subject.label,
        kind=subject.kind,
        allowed=len(allowed),
        by_arguments=sum(not subject.unconditional(call) for call in allowed),
        known=len(subject.calls),
        capabilities=subject.capabilities,
        cves=counts["cves"],
        closed=counts["closed"],
        docker_leaves=counts["docker_leaves"],
        closed_of_docker=counts["closed_of_docker_leaves"],
        serving=None if serving is None else len(serving.allowed()),
        serving_closed=None if serving is None else reach.counts(reach.judge(serving, cves))["closed"],
    )


def serving_subject(subject: Subject, known: Evidence) -> Subject | None:
    """The filter cut down to the calls that its recordings saw while serving; None without such a recording."""
    seen = evidence.serving(known.of(subject.source)) if subject.source is not None else frozenset()
    if not seen:
        return None
    entries = []
    for entry in subject.section["syscalls"]:
        names = [name for name in entry["names"] if name in seen or entry["action"] != "SCMP_ACT_ALLOW"]
        if names:
            entries.append({**entry, "names": names})
    section = {**subject.section, "syscalls": entries}
    return make(
        subject.label, subject.kind, subject.arch, section,
        capabilities=subject.capabilities, new_privileges=subject.new_privileges,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Compared:
    """One profile beside an image of Confine's paper: calls of their universe denied here and there."""

    profile: str
    denied: int
    image: str
    theirs: int
    universe: int


def confine(finder: Finder) -> list[Compared]:
    """Deny counts on the footing of Confine's paper (profiles/kernel/confine.json says how). x86_64 only."""
    document = kernel_data.load(finder.shipped, "confine")
    universe = [name for name, number in NUMBERS["x86_64"].items() if number <= document["last_number"]]
    found = []
    for profile, images in document["compare"].items():
        if profile not in finder.sources.profiles:
            continue
        allowed = finder.find(profile).allowed()
        denied = sum(name not in allowed for name in universe)
        found += [Compared(profile, denied, image, document["images"][image], len(universe)) for image in images]
    return found


def as_object(entry: Line | Compared) -> dict[str, Any]:
    """A line as JSON."""
    return dataclasses.asdict(entry)


def markdown(listed: Sequence[Line]) -> str:
    """The table for a README. Serving numbers are what recordings saw; they are not enforced."""
    first = listed[0]
    rows = [
        f"| filter | calls allowed of {first.known} | by arguments | seen while serving | capabilities | "
        f"CVEs closed of {first.cves} | of the {first.docker_leaves} that Docker leaves |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in listed:
        serving = "" if entry.serving is None else str(entry.serving)
        rows.append(
            f"| {entry.name} | {entry.allowed} | {entry.by_arguments} | {serving} | {len(entry.capabilities)} | "
            f"{entry.closed} | {entry.closed_of_docker} |"
        )
    return "\n".join(rows) + "\n"


def confine_markdown(listed: Sequence[Compared]) -> str:
    """Beside Confine's numbers, as a table for a README."""
    rows = [f"| profile | denied of {listed[0].universe} | Confine's image | denied there |", "|---|---|---|---|"]
    rows += [f"| {entry.profile} | {entry.denied} | {entry.image} | {entry.theirs} |" for entry in listed]
    return "\n".join(rows) + "\n"
