"""Reading other people's seccomp documents: OCI, Docker, containers/common (Podman), config.json, SPO.

Docker's and Podman's formats are OCI's linux.seccomp with rules that depend on architecture, capabilities and kernel
(github.com/moby/profiles/seccomp, github.com/containers/common/pkg/seccomp). Every document may be hostile: sizes,
depth and shapes are bounded here, before anything is made of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fhir_hook.authoring import schema
from fhir_hook.core import oci_seccomp

GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
MOST_RULES = 10_000
MOST_NAMES = 20_000
SPO_GROUP = "security-profiles-operator.x-k8s.io"


class FormatError(Exception):
    """The document can't be read or is none that is understood; str() is one line with the file and the reason."""


@dataclasses.dataclass(frozen=True)
class Document:
    """A document by its `kind`: profile, recording, oci, docker, config or spo; `value` as read."""

    path: Path
    kind: str
    value: dict[str, Any]


def read(path: Path) -> Document:
    """Read a JSON or YAML file of any kind that is understood. Raises FormatError."""
    if not path.is_file():
        raise FormatError(f"{path} is no regular file" if path.exists() else f"{path} does not exist")
    if path.suffix in (".yaml", ".yml"):
        from fhir_hook.review import yaml_format

        value = yaml_format.read(path)
    else:
        value, findings = schema.read_json(path)
        if findings:
            raise FormatError(f"{path}: {findings[0].message}")
    kind = kind_of(value)
    if not kind:
        raise FormatError(
            f"{path}: neither a profile, a recording, a seccomp profile of OCI, Docker or Podman, a config.json, nor a "
            "SeccompProfile of the Security Profiles Operator"
        )
    return Document(path, kind, value)


def kind_of(value: object) -> str:
    """What a document is, by its members; "" when it is nothing known."""
    if not isinstance(value, dict):
        return ""
    if value.get("kind") == "SeccompProfile" and "spec" in value:
        return "spo"
    if isinstance(value.get("seccomp"), dict) and "name" in value:
        return "profile"
    if isinstance(value.get("phases"), dict):
        return "recording"
    if "defaultAction" in value:
        conditional = any(isinstance(r, dict) and (r.get("includes") or r.get("excludes")) for r in _rules(value))
        return "docker" if conditional or "archMap" in value else "oci"
    linux = value.get("linux")
    return "config" if isinstance(linux, dict) and "seccomp" in linux else ""


def _rules(value: dict[str, Any]) -> list[Any]:
    rules = value.get("syscalls") or []
    return rules if isinstance(rules, list) else []


def section(document: Document, arch: str, capabilities: Sequence[str] = ()) -> dict[str, Any]:
    """The OCI linux.seccomp section of a document for one architecture and a container's capabilities.

    Rules that depend on the kernel's version count (the oldest that is asked for is 4.8). Raises FormatError.
    """
    value = document.value
    if document.kind == "spo":
        value = value["spec"]
        if not isinstance(value, dict):
            raise FormatError(f"{document.path}: spec is no object")
        if value.get("baseProfileName"):
            base = value["baseProfileName"]
            raise FormatError(f"{document.path}: it adds to the base profile {base!r}, which is not in this file")
    elif document.kind == "config":
        value = value["linux"]["seccomp"]
        if not isinstance(value, dict):
            raise FormatError(f"{document.path}: linux.seccomp is no object")
    try:
        found = _section(value, arch, frozenset(capabilities))
        oci_seccomp.Meaning(found)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise FormatError(f"{document.path}: {error}") from None
    return found


def _section(value: dict[str, Any], arch: str, capabilities: frozenset[str]) -> dict[str, Any]:
    rules = value.get("syscalls") or []
    if not isinstance(rules, list) or len(rules) > MOST_RULES:
        raise ValueError(f"syscalls is no list of at most {MOST_RULES} rules")
    entries = [_entry(rule) for rule in rules if _counts(rule, arch, capabilities)]
    if sum(len(entry["names"]) for entry in entries) > MOST_NAMES:
        raise ValueError(f"more than {MOST_NAMES} names of calls")
    found = {"defaultAction": value.get("defaultAction"), "architectures": _architectures(value, arch)}
    errno = _errno(value.get("defaultErrnoRet"), value.get("defaultErrno"))
    if errno is not None:
        found["defaultErrnoRet"] = errno
    return {**found, "syscalls": entries}


def _architectures(value: dict[str, Any], arch: str) -> list[str]:
    token = oci_seccomp.ARCH_TOKENS[arch]
    listed = [name for name in value.get("architectures") or () if isinstance(name, str)]
    for entry in value.get("archMap") or ():
        if entry.get("architecture") == token:
            listed += [token, *(entry.get("subArchitectures") or ())]
    others = {"x86_64": ("x86", "x32"), "aarch64": ("arm",)}[arch]
    known = [token, *(oci_seccomp.ARCH_TOKENS[name] for name in others)]
    return [name for name in known if name in listed] or [token]


def _counts(rule: Any, arch: str, capabilities: frozenset[str]) -> bool:
    if not isinstance(rule, dict):
        raise ValueError("syscalls holds something that is no rule")
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    go_arch = GO_ARCH[arch]
    if includes.get("arches") and go_arch not in includes["arches"]:
        return False
    if not capabilities.issuperset(includes.get("caps") or ()):
        return False
    return go_arch not in (excludes.get("arches") or ()) and not capabilities & set(excludes.get("caps") or ())


def _entry(rule: dict[str, Any]) -> dict[str, Any]:
    names = rule.get("names") or ([rule["name"]] if rule.get("name") else [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("a rule's names are no list of names")
    entry: dict[str, Any] = {"names": names, "action": rule.get("action")}
    errno = _errno(rule.get("errnoRet"), rule.get("errno"))
    if errno is not None:
        entry["errnoRet"] = errno
    args = rule.get("args") or []
    if not isinstance(args, list) or not all(isinstance(arg, dict) for arg in args):
        raise ValueError(f"the args of the rule on {names[:1]} are no list of conditions")
    if args:
        members = ("index", "value", "valueTwo", "op")
        entry["args"] = [{name: arg[name] for name in members if arg.get(name) is not None} for arg in args]
    return entry


def _errno(number: Any, name: Any) -> int | None:
    """An errno given as a number, as text of one, or by its name (containers/common prefers the name)."""
    import errno as names

    for value in (name, number):
        if isinstance(value, str) and value:
            if value.isascii() and value.isdigit():
                return int(value[:6])
            found = {text: number for number, text in names.errorcode.items()}.get(value)
            if found is None:
                raise ValueError(f"no errno is named {value[:40]!r}")
            return found
    if number is None or (isinstance(number, int) and not isinstance(number, bool)):
        return number
    raise ValueError(f"errnoRet is {number!r}, not a number")
