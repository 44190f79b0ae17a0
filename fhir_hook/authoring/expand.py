"""From a profile and its groups to one OCI linux.seccomp section per architecture.

Who decides about a call: the profile's own denial, then any ALLOW (of the profile or a group; unconditional before
conditional), then a group's denial. A call that nobody names is denied with EPERM, and so are unwanted arguments of a
call that is allowed under conditions, as far as they can be enumerated. Everything else, calls newer than the tables
among it, answers ENOSYS, so that libraries fall back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from fhir_hook.authoring.complement import complement
from fhir_hook.authoring.source import Source, Sources
from fhir_hook.core import oci_seccomp, syscalls_aarch64, syscalls_x86_64
from fhir_hook.core.oci_seccomp import ALLOW, ENOSYS, EPERM, ERRNO

NUMBERS: dict[str, dict[str, int]] = {"x86_64": syscalls_x86_64.NUMBERS, "aarch64": syscalls_aarch64.NUMBERS}
ARCHITECTURES = tuple(NUMBERS)

Args = list[dict[str, Any]]


@dataclasses.dataclass
class Rules:
    """One architecture: calls `always` allowed, allowed `under` conditions, `denied` with an errno of their own."""

    always: set[str] = dataclasses.field(default_factory=set)
    under: dict[str, list[Args]] = dataclasses.field(default_factory=dict)
    denied: dict[str, int] = dataclasses.field(default_factory=dict)
    denied_under: dict[str, list[tuple[Args, int]]] = dataclasses.field(default_factory=dict)

    @property
    def allowed(self) -> set[str]:
        """Names of the calls that are allowed at least under some arguments."""
        return self.always | set(self.under)


def applies(rule: dict[str, Any], arch: str) -> bool:
    """Whether a rule object counts on `arch`: it names no architectures, or this one."""
    return arch in rule.get("arches", ARCHITECTURES)


def _errno(rule: dict[str, Any]) -> int:
    errno: int = rule.get("errnoRet", EPERM)
    return errno


def gather(sources: Sources, profile: Source, arch: str) -> Rules:
    """The rules of a profile with its groups and the runtimes' base sets; unknown names are left out."""
    rules = Rules()
    own: list[dict[str, Any]] = profile.document["seccomp"].get("syscalls", [])
    of_groups = [rule for group in sources.included(profile) for rule in group.document["syscalls"]]
    for rule in [*own, *of_groups]:
        if rule.get("action", ALLOW) == ALLOW:
            for name in _known(rule, arch):
                if "args" in rule:
                    _append(rules.under.setdefault(name, []), rule["args"])
                else:
                    rules.always.add(name)
    for origin, denials in (("group", of_groups), ("profile", own)):
        for rule in denials:
            if rule.get("action", ALLOW) == ERRNO:
                _deny(rules, rule, arch, origin == "profile")
    for name in rules.always:
        rules.under.pop(name, None)
    return rules


def _known(rule: dict[str, Any], arch: str) -> Iterable[str]:
    return [name for name in rule["names"] if name in NUMBERS[arch]] if applies(rule, arch) else []


def _append(there: list[Args], args: Args) -> None:
    ordered = sorted(args, key=lambda entry: int(entry["index"]))
    if ordered not in there:
        there.append(ordered)


def _deny(rules: Rules, rule: dict[str, Any], arch: str, stronger: bool) -> None:
    for name in _known(rule, arch):
        if "args" in rule:
            args = sorted(rule["args"], key=lambda entry: int(entry["index"]))
            if args in rules.under.get(name, []) and not stronger:
                continue
            rules.denied_under.setdefault(name, []).append((args, _errno(rule)))
            continue
        if name in rules.allowed and not stronger:
            continue
        rules.always.discard(name)
        rules.under.pop(name, None)
        rules.denied[name] = _errno(rule)


def section(rules: Rules, arch: str) -> dict[str, Any]:
    """The OCI linux.seccomp section of the rules for one architecture, in a stable order."""
    numbers = NUMBERS[arch]
    entries: list[dict[str, Any]] = []
    if rules.always:
        entries.append({"names": sorted(rules.always, key=numbers.__getitem__), "action": ALLOW})
    for name in sorted(rules.under, key=numbers.__getitem__):
        entries += [{"names": [name], "action": ALLOW, "args": args} for args in rules.under[name]]
        refused = rules.denied_under.get(name, [])
        entries += [{"names": [name], "action": ERRNO, "errnoRet": no, "args": args} for args, no in refused]
        entries += [
            {"names": [name], "action": ERRNO, "errnoRet": EPERM, "args": args}
            for args in complement(name, rules.under[name] + [args for args, _ in refused])
        ]
    denied = {name: EPERM for name in numbers if name not in rules.allowed} | rules.denied
    if "clone" in rules.under:
        denied["clone3"] = ENOSYS
    for errno in sorted(set(denied.values()) - {ENOSYS}):
        names = sorted((name for name, number in denied.items() if number == errno), key=numbers.__getitem__)
        entries.append({"names": names, "action": ERRNO, "errnoRet": errno})
    return {
        "defaultAction": ERRNO,
        "defaultErrnoRet": ENOSYS,
        "architectures": [oci_seccomp.ARCH_TOKENS[arch]],
        "syscalls": entries,
    }
