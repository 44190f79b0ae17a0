"""Profiles as other tools take them: OCI (podman --security-opt seccomp=), Docker, the Security Profiles Operator."""

from __future__ import annotations

from typing import Any

from fhir_hook.authoring import expand
from fhir_hook.authoring.source import Source, Sources
from fhir_hook.core.oci_seccomp import ARCH_TOKENS, ENOSYS, EPERM, ERRNO
from fhir_hook.review.engine_format import GO_ARCH, SPO_GROUP
from fhir_hook.review.kernel_data import NEWER

FORMATS = ("oci", "docker", "spo")
LARGEST = (1 << 63) - 1  # Kubernetes stores int64

class ExportError(Exception):
    """The format can't hold what the profile says; str() is one line."""


def oci(sources: Sources, profile: Source, arch: str) -> dict[str, Any]:
    """The OCI linux.seccomp section for one architecture: what Podman, CRI-O, runc and crun take."""
    return expand.section(expand.gather(sources, profile, arch), arch)


def docker(sources: Sources, profile: Source) -> dict[str, Any]:
    """One document in Docker's format for all architectures: rules of one carry includes.arches."""
    sections = {arch: oci(sources, profile, arch) for arch in expand.ARCHITECTURES}
    first = next(iter(sections.values()))
    return {
        "defaultAction": first["defaultAction"],
        "defaultErrnoRet": first["defaultErrnoRet"],
        "archMap": [{"architecture": ARCH_TOKENS[arch], "subArchitectures": []} for arch in sections],
        "syscalls": [
            {**entry, "includes": {"arches": [GO_ARCH[arch]]}}
            for arch, section in sections.items()
            for entry in section["syscalls"]
        ],
    }


def spo(sources: Sources, profile: Source, arch: str, version: str = "v1beta1") -> dict[str, Any]:
    """A SeccompProfile of the Security Profiles Operator for one architecture. Raises ExportError.

    Its default action has no errno of its own (SeccompProfileSpec, api/seccompprofile), so that it is EPERM: every call
    that is to answer ENOSYS is named, the ones known today that are newer than the tables among them.
    """
    section = oci(sources, profile, arch)
    entries: list[dict[str, Any]] = []
    named: set[str] = set()
    for entry in section["syscalls"]:
        named.update(entry["names"])
        if entry["action"] == ERRNO and entry.get("errnoRet", EPERM) == EPERM and "args" not in entry:
            continue  # the default
        entries.append(_entry(profile.name, entry))
    absent = sorted(expand.NUMBERS[arch].keys() - named)
    entries.append({"action": ERRNO, "errnoRet": ENOSYS, "names": [*absent, *NEWER]})
    return {
        "apiVersion": f"{SPO_GROUP}/{version}",
        "kind": "SeccompProfile",
        "metadata": {
            "name": profile.name,
            "annotations": {"fhir-hook/profile": f"{profile.document['name']} {profile.document['version']}"},
        },
        "spec": {
            "defaultAction": ERRNO,
            "architectures": section["architectures"],
            "syscalls": entries,
        },
    }


def _entry(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    for arg in entry.get("args", ()):
        if max(arg["value"], arg.get("valueTwo", 0)) > LARGEST:
            raise ExportError(f"{name}: a condition on {entry['names'][0]} has a value above what Kubernetes can store")
    found = {"action": entry["action"], "names": list(entry["names"])}
    if entry["action"] == ERRNO:
        found["errnoRet"] = entry.get("errnoRet", EPERM)
    if "args" in entry:
        found["args"] = entry["args"]
    return found
