"""From sources to compiled profiles: the objects that the policy's body holds (docs describe their fields)."""

from __future__ import annotations

import base64
from typing import Any

from fhir_hook.authoring import checks, expand, libseccomp
from fhir_hook.authoring.finding import ERROR, Finding, errors
from fhir_hook.authoring.proofs import Proofs
from fhir_hook.authoring.source import Source, Sources
from fhir_hook.core import bpf, jsonio, oci_seccomp
from fhir_hook.core.digest import sha256_hex


def compile_all(sources: Sources, proofs: Proofs | None = None) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Compile every profile that has no error: the compiled objects by name, and all findings (reading's included).

    A caller that wants all or nothing looks at `errors(findings)` first. Groups with an error leave out every profile.
    """
    proofs = proofs or Proofs()
    findings = checks.check_sources(sources)
    faulty = {finding.file for finding in errors(findings)}
    if faulty - {str(profile.path) for profile in sources.profiles.values()}:
        return [], findings
    compiled: list[dict[str, Any]] = []
    for name in sorted(sources.profiles):
        profile = sources.profiles[name]
        if str(profile.path) in faulty:
            continue
        result, found = compile_profile(sources, profile, proofs)
        findings += found
        if result is not None:
            compiled.append(result)
    return compiled, findings


def digest(sources: Sources, profile: Source) -> str:
    """SHA-256 of the canonical profile together with every group in it, the runtimes' base sets included."""
    groups = {group.name: group.document for group in sources.included(profile)}
    return sha256_hex(jsonio.canonical({"profile": profile.document, "groups": groups}))


def compile_profile(
    sources: Sources, profile: Source, proofs: Proofs | None = None
) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Compile one checked profile for both architectures and prove the programs; None with findings when that fails."""
    proofs = proofs or Proofs()
    document = profile.document
    sections: dict[str, Any] = {}
    programs: dict[str, dict[str, str]] = {}
    allowed: dict[str, int] = {}
    findings: list[Finding] = []
    for arch in expand.ARCHITECTURES:
        rules = expand.gather(sources, profile, arch)
        section = expand.section(rules, arch)
        sections[arch] = section
        allowed[arch] = len(rules.allowed)
        programs[arch] = {}
        for mode, variant in (("enforce", section), ("complain", oci_seccomp.complain(section, arch))):
            program, found = _program(variant, arch, str(profile.path), proofs)
            findings += found
            programs[arch][mode] = base64.b64encode(program).decode("ascii")
    if errors(findings):
        return None, findings
    compiled = {
        "name": document["name"],
        "version": document["version"],
        "title": document["title"],
        "kind": document.get("kind"),
        "generic": document.get("generic", False),
        "nameable": document.get("nameable", False),
        "mode": document.get("mode", "enforce"),
        "match": document.get("match", []),
        "digest": digest(sources, profile),
        "capabilities": list(document.get("capabilities", {}).get("keep", [])),
        "noNewPrivileges": document.get("noNewPrivileges", True),
        "seccomp": sections,
        "bpf": programs,
        "allowed": allowed,
    }
    return compiled, findings


def _program(section: dict[str, Any], arch: str, file: str, proofs: Proofs) -> tuple[bytes, list[Finding]]:
    try:
        program = libseccomp.compile_section(section, arch)
        wrong = proofs.differences(section, arch, program)
    except libseccomp.CompileError as error:
        return b"", [Finding("P501", ERROR, file, "/seccomp", f"{arch}: {error}")]
    except bpf.BpfError as error:
        message = f"{arch}: the kernel would refuse the program: {error}"
        return b"", [Finding("P502", ERROR, file, "/seccomp", message, "fewer or simpler conditions")]
    hint = "make the conditions on this call EQ or MASKED_EQ, and disjoint"
    return program, [Finding("P502", ERROR, file, "/seccomp", f"{arch}: {line}", hint) for line in wrong]
