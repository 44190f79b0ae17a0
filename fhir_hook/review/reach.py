"""Which known kernel flaws a filter leaves within reach: cves.json and cve-steps.json against what the filter means.

A CVE needs all its steps, a step any of its ways. A way is open when the kernel would carry out the call for some
arguments that meet the way's conditions: 32-bit arguments are taken as the kernel takes them, without the upper half of
the register, which a filter does see. Nothing but filter, capabilities and no_new_privs is looked at: not the kernel's
version or configuration, not LSMs, so that "closed" holds on every kernel, and "reachable" says no more than that
the filter does not stand in the way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fhir_hook.review import cases, kernel_data, wording
from fhir_hook.review.subject import Subject

Conjunction = kernel_data.Conjunction

# What i386's socketcall(2) does too: its arguments lie in memory, where a filter can't see them.
THROUGH_SOCKETCALL = frozenset(
    (
        "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom",
        "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socket", "socketpair",
    )
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Way:
    """One way into a step: a `call` under `conditions`, or a `capability`, or programs that gain privileges."""

    call: str = ""
    conditions: Conjunction = ()
    capability: str = ""
    new_privileges: bool = False


@dataclasses.dataclass(frozen=True)
class Cve:
    """One entry of cves.json with its `steps`, each the name of a step and its ways."""

    name: str
    year: int
    condition: str
    source: str
    docker_default: str
    jvm_needs: bool
    syscalls: tuple[str, ...]
    steps: tuple[tuple[str, tuple[Way, ...]], ...]
    note: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a filter does to a CVE: `closed` by the step `by`, or reachable through `open_ways`, one text a step."""

    cve: Cve
    closed: bool
    by: str
    open_ways: tuple[str, ...]


def load(shipped: Path) -> list[Cve]:
    """All CVEs with their steps. Raises kernel_data.DataError."""
    document = kernel_data.load(shipped, "cve-steps")
    ways = {name: tuple(_way(entry) for entry in entries) for name, entries in document["ways"].items()}
    by_calls = {tuple(entry["syscalls"]): entry for entry in document["steps"]}
    found = []
    for entry in kernel_data.load(shipped, "cves"):
        how = by_calls.get(tuple(entry["syscalls"]))
        if how is None:
            raise kernel_data.DataError(f"cve-steps.json lacks the steps of {entry['cve']}; install fhir-hook again")
        steps = tuple((name, ways.get(name, (Way(call=name),))) for name in how["needs"])
        members = {m: entry[m] for m in ("year", "condition", "source", "docker_default", "jvm_needs")}
        calls = tuple(entry["syscalls"])
        found.append(Cve(name=entry["cve"], syscalls=calls, steps=steps, note=how.get("note", ""), **members))
    return found


def _way(entry: dict[str, Any]) -> Way:
    return Way(
        entry.get("call", ""),
        kernel_data.conjunction(entry.get("args", {})),
        entry.get("capability", ""),
        entry.get("new_privileges", False),
    )


def judge(subject: Subject, cves: Iterable[Cve]) -> list[Verdict]:
    """The verdict on each CVE. Raises cases.TooMany on a filter with too many conditions."""
    seen: dict[tuple[Way, ...], str] = {}
    verdicts = []
    for cve in cves:
        open_ways: list[str] = []
        closed_by = ""
        for name, ways in cve.steps:
            if ways not in seen:
                seen[ways] = next((text for way in ways if (text := open_way(subject, way))), "")
            if not seen[ways]:
                closed_by = name
                break
            open_ways.append(seen[ways])
        verdicts.append(Verdict(cve, bool(closed_by), closed_by, () if closed_by else tuple(open_ways)))
    return verdicts


def open_way(subject: Subject, way: Way) -> str:
    """How the way is open, in words, or "" when it is closed."""
    if way.capability:
        return way.capability if way.capability in subject.capabilities else ""
    if way.new_privileges:
        return "set-user-ID programs gain privileges" if subject.new_privileges else ""
    if way.call in subject.calls:
        args = cases.witness(subject.meaning, way.call, way.conditions)
        if args is not None:
            return wording.call_text(way.call, args, {cond[0] for cond in way.conditions})
    i386 = subject.arch == "x86_64" and subject.meaning.covers("x86", "x86_64")
    if i386 and way.call in THROUGH_SOCKETCALL and subject.passes_somehow("socketcall"):
        return f"i386 socketcall for {way.call}"
    return ""


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many are closed: of all, and of those that Docker's default leaves open or conditional by cves.json."""
    listed = list(verdicts)
    left = [v for v in listed if v.cve.docker_default != "blocked"]
    return {
        "cves": len(listed),
        "closed": sum(v.closed for v in listed),
        "docker_leaves": len(left),
        "closed_of_docker_leaves": sum(v.closed for v in left),
    }


def as_object(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON."""
    cve = verdict.cve
    return {
        "cve": cve.name,
        "closed": verdict.closed,
        "closed_by": verdict.by,
        "open_ways": list(verdict.open_ways),
        "condition": cve.condition,
        "docker_default": cve.docker_default,
        "jvm_needs": cve.jvm_needs,
        "source": cve.source,
        "note": cve.note,
    }


def features(subject: Subject, shipped: Path) -> list[dict[str, Any]]:
    """The parts of the kernel that a filter opens, each with the allowed calls that do; those by argument have a *."""
    allowed = subject.allowed()
    found = []
    for entry in kernel_data.load(shipped, "features")["features"]:
        calls = [f"{c}{'' if subject.unconditional(c) else '*'}" for c in entry["calls"] if c in allowed]
        if calls:
            found.append({"feature": entry["feature"], "calls": calls, "sentence": entry["sentence"]})
    return found
