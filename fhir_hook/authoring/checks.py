"""Semantic checks of profiles and groups: what the schema can't say, each with a stable code, pointer and hint."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from fhir_hook.authoring import expand
from fhir_hook.authoring.finding import ERROR, WARNING, Finding, pointer
from fhir_hook.authoring.rule_checks import check_rules
from fhir_hook.authoring.source import RUNTIME_BASES, Source, Sources
from fhir_hook.core.oci_seccomp import ALLOW

CAPABILITIES = (  # noqa: SIM905 - a list would be 41 lines
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
CAPABILITY_NAMES = tuple(f"CAP_{name}" for name in CAPABILITIES)


def check_sources(sources: Sources) -> list[Finding]:
    """All findings on what was read, with those of reading first; profiles with an error can't be compiled."""
    found = list(sources.findings)
    for group in sources.groups.values():
        found += check_rules(group, group.document["syscalls"], ("syscalls",))
    found += _missing_bases(sources)
    for profile in sources.profiles.values():
        found += check_profile(sources, profile)
    found += _generic_twice(sources)
    found += _unused_groups(sources)
    return found


def check_profile(sources: Sources, profile: Source) -> list[Finding]:
    """The findings on one profile by itself and together with its groups."""
    rules: list[dict[str, Any]] = profile.document["seccomp"].get("syscalls", [])
    found = check_rules(profile, rules, ("seccomp", "syscalls"))
    found += _includes(sources, profile)
    found += _capabilities(profile)
    found += _selectors(profile)
    found += _overlaps(sources, profile)
    if profile.document.get("generic") and "kind" not in profile.document:
        message = "a generic profile is the fall-back of one kind of server, but no kind is given"
        found.append(Finding("P402", ERROR, str(profile.path), "/kind", message, "add kind: jvm, native or python"))
    return found


def _missing_bases(sources: Sources) -> Iterator[Finding]:
    for name in RUNTIME_BASES:
        if name not in sources.groups:
            message = f"the group {name} is missing: without it containers can't start or exec can't work"
            yield Finding("P202", ERROR, f"groups/{name}.json", "", message, "install fhir-hook again")


def _includes(sources: Sources, profile: Source) -> Iterator[Finding]:
    for index, name in enumerate(profile.document["seccomp"].get("include", ())):
        where = pointer(("seccomp", "include", index))
        if name in RUNTIME_BASES:
            message = f"{name} is part of every profile already"
            yield Finding("P405", WARNING, str(profile.path), where, message, "remove it")
        elif name not in sources.groups:
            close = difflib.get_close_matches(name, sources.groups, 1)
            hint = f"did you mean {close[0]}?" if close else f"groups: {', '.join(sorted(sources.groups))}"
            yield Finding("P202", ERROR, str(profile.path), where, f"no group is named {name!r}", hint)


def _capabilities(profile: Source) -> Iterator[Finding]:
    for index, name in enumerate(profile.document.get("capabilities", {}).get("keep", ())):
        if name not in CAPABILITY_NAMES:
            close = difflib.get_close_matches(name.upper(), CAPABILITY_NAMES, 1)
            hint = f"did you mean {close[0]}?" if close else "capabilities(7) has the names"
            where = pointer(("capabilities", "keep", index))
            yield Finding("P203", ERROR, str(profile.path), where, f"no capability is named {name!r}", hint)


def _selectors(profile: Source) -> Iterator[Finding]:
    for index, selector in enumerate(profile.document.get("match", ())):
        for label, value in selector["labels"].items():
            if isinstance(value, dict) and not value["pattern"].strip("*?"):
                message = f"the pattern {value['pattern']!r} matches images of every kind"
                where = pointer(("match", index, "labels", label, "pattern"))
                yield Finding("P403", WARNING, str(profile.path), where, message, "write the part that identifies")


def _overlaps(sources: Sources, profile: Source) -> Iterator[Finding]:
    """What a profile's own rules and its groups say about the same calls."""
    path = str(profile.path)
    by_group: dict[str, str] = {}
    for group in sources.included(profile):
        for rule in group.document["syscalls"]:
            if rule.get("action", ALLOW) == ALLOW and "args" not in rule and "arches" not in rule:
                by_group.update({name: group.name for name in rule["names"] if name not in by_group})
    for index, rule in enumerate(profile.document["seccomp"].get("syscalls", ())):
        for place, name in enumerate(rule["names"]):
            if rule.get("action", ALLOW) != ALLOW or name not in by_group:
                continue
            where = pointer(("seccomp", "syscalls", index, "names", place))
            if "args" in rule:
                message = f"the condition has no effect: the group {by_group[name]} allows {name} with any arguments"
                yield Finding("P303", WARNING, path, where, message, "leave the group out or drop the condition")
            else:
                message = f"the group {by_group[name]} allows {name} already"
                yield Finding("P309", WARNING, path, where, message, "remove it here")
    for arch in expand.ARCHITECTURES:
        rules = expand.gather(sources, profile, arch)
        if not rules.allowed:
            message = f"no rule allows any call on {arch}: nothing could run"
            yield Finding("P406", ERROR, path, "/seccomp", message, "include the groups the server needs")
            return
        if "clone3" in rules.allowed and "clone" in rules.under:
            message = "clone's flags are filtered, but clone3 is allowed and its flags can't be read by a filter"
            yield Finding("P307", ERROR, path, "/seccomp", message, "leave clone3 out: it then answers ENOSYS")
            return


def _generic_twice(sources: Sources) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for profile in sources.profiles.values():
        kind = profile.document.get("kind")
        if not profile.document.get("generic") or kind is None:
            continue
        if kind in first:
            message = f"{first[kind]} is the generic profile of {kind} already"
            yield Finding("P401", ERROR, str(profile.path), "/generic", message, "make one of them not generic")
        first.setdefault(kind, profile.name)


def _unused_groups(sources: Sources) -> Iterator[Finding]:
    used = {name for profile in sources.profiles.values() for name in profile.document["seccomp"].get("include", ())}
    for group in sources.groups.values():
        if group.local and group.name not in used and group.name not in RUNTIME_BASES:
            message = f"no profile includes the group {group.name}"
            yield Finding("P404", WARNING, str(group.path), "", message, "include it or remove the file")
