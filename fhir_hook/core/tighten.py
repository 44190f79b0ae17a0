"""Tightening a config.json: the plan of one or more profiles, met with what the engine and the user asked for. Pure.

The result is never looser than the config and never looser than any of the profiles (core.meet for the filter;
capability sets and no_new_privs are plain meets).
"""

from __future__ import annotations

from fhir_hook.core import meet, oci_seccomp
from fhir_hook.core.spec import CAPABILITY_SETS, Spec, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
# seccomp(2): what the filter answers with an errno is logged, as far as kernel.seccomp.actions_logged has it.
LOG_FLAG = "SECCOMP_FILTER_FLAG_LOG"
# Annotations by which crun replaces the filter, loads code, or hands the container to another handler (crun(1)).
BYPASSES = ("run.oci.seccomp", "run.oci.handler", "run.oci.hooks.", "krun.", "module.wasm.")
# run.oci.keep_original_groups is Podman's own.
FAMILY = "run.oci."
EXPECTED = ("run.oci.keep_original_groups",)


class Tightened:
    """What tightening did: the new members of config.json, and what to say about it.

    `seccomp` and `capabilities` are the new sections, `given` and `met` the engine's section (or None) and the new one
    taken apart; `removed` the annotations taken out, `noticed` those left;
    `logged` whether the kernel logs what is denied; `dropped` the capabilities that were asked for and are gone;
    `inexpressible` the calls denied for want of a form.
    """

    __slots__ = (
        "seccomp",
        "given",
        "met",
        "capabilities",
        "asked",
        "dropped",
        "removed",
        "noticed",
        "inexpressible",
        "complain",
        "logged",
    )

    def __init__(self, complain: bool) -> None:
        self.complain = complain
        self.logged = False
        self.seccomp: dict[str, Any] = {}
        self.given: meet.Section | None = None
        self.met = meet.Section((meet.ERRNO, meet.EPERM), {})
        self.capabilities: dict[str, list[str]] = {}
        self.asked: dict[str, list[str]] = {}
        self.dropped: list[str] = []
        self.removed: list[str] = []
        self.noticed: list[str] = []
        self.inexpressible: list[str] = []


def tighten(
    spec: Spec, profiles: list[dict[str, Any]], architecture: str, complain: bool, logged: bool = False
) -> Tightened:
    """Compute the plan for `spec` under compiled `profiles` for `architecture` (x86_64 or aarch64).

    In complain mode denials become SCMP_ACT_LOG and capabilities stay; the engine's own filter keeps denying.
    `logged`: the kernel is asked to log what is denied, which runc up to 1.1 refuses to do.
    Raises SpecError when the config's own sections are malformed, KeyError for an architecture without a profile.
    """
    result = Tightened(complain)
    try:
        result.seccomp = _seccomp(spec, profiles, architecture, result)
    except meet.SectionError as error:
        raise SpecError(f"config.json: {error}") from None
    _log(result, logged)
    result.asked = spec.capabilities
    keep = _kept(profiles)
    for name in CAPABILITY_SETS:
        asked = result.asked[name]
        result.capabilities[name] = asked if complain else [c for c in asked if c in keep]
    result.dropped = sorted({c for names in result.asked.values() for c in names} - keep)
    for key in spec.member("annotations", dict):
        if key.startswith(BYPASSES):
            result.removed.append(key)
        elif key.startswith(FAMILY) and key not in EXPECTED:
            result.noticed.append(key)
    return result


def _kept(profiles: list[dict[str, Any]]) -> set[str]:
    keep = set(profiles[0]["capabilities"])
    for profile in profiles[1:]:
        keep &= set(profile["capabilities"])
    return keep


def _seccomp(spec: Spec, profiles: list[dict[str, Any]], architecture: str, result: Tightened) -> dict[str, Any]:
    own = [_mode(profile["seccomp"][architecture], architecture, result.complain) for profile in profiles]
    sections = [meet.read(section) for section in own]
    denied: set[str] = set()
    whole = sections[0]
    for section in sections[1:]:
        whole = meet.meet(whole, section, denied)
    given = spec.seccomp
    if given is not None:
        result.given = meet.read(given)
        whole = meet.meet(result.given, whole, denied)
    result.met = whole
    result.inexpressible = sorted(denied)
    written = meet.write(whole, ARCHITECTURES[architecture], given or {})
    if result.complain:
        # Denying the machine's other ABIs would be a denial too.
        written["architectures"] = (given or own[0]).get("architectures") or written["architectures"]
    return written


def _log(result: Tightened, wanted: bool) -> None:
    flags = result.seccomp.get("flags")
    flags = flags if isinstance(flags, list) else []
    if wanted and not result.complain and LOG_FLAG not in flags:
        flags = result.seccomp["flags"] = [*flags, LOG_FLAG]
    result.logged = LOG_FLAG in flags and not result.complain


def _mode(section: dict[str, Any], architecture: str, complain: bool) -> dict[str, Any]:
    return oci_seccomp.complain(section, architecture) if complain else section


def apply(spec: Spec, plan: Tightened) -> dict[str, Any]:
    """Return the edited config.json; `spec` itself is not changed, and everything the plan is not about stays."""
    document = dict(spec.document)
    document["linux"] = {**spec.linux, "seccomp": plan.seccomp}
    process = {**spec.process, "capabilities": plan.capabilities}
    if not plan.complain:
        process["noNewPrivileges"] = True
    document["process"] = process
    if plan.removed:
        annotations = spec.member("annotations", dict)
        document["annotations"] = {k: v for k, v in annotations.items() if k not in plan.removed}
    return document


def carries(spec: Spec, plan: Tightened) -> bool:
    """Whether the config already has the plan in it: tightening it changed nothing (the meet is idempotent)."""
    given = spec.seccomp
    if given is None or plan.given is None or plan.removed or plan.complain:
        return False
    if spec.process.get("noNewPrivileges") is not True:
        return False
    if any(set(plan.capabilities[name]) != set(plan.asked[name]) for name in CAPABILITY_SETS):
        return False
    architectures = plan.seccomp["architectures"]
    if given.get("architectures") != architectures:
        return False
    return meet.write(plan.given, architectures[0], given) == plan.seccomp


def essence(document: dict[str, Any]) -> dict[str, Any]:
    """The members that a plan is about, in one form whichever program wrote the config: what the gate compares.

    Raises SpecError when they are malformed.
    """
    spec = Spec(document)
    given = spec.seccomp
    try:
        section = meet.write(meet.read(given), "", given) if given is not None else None
    except meet.SectionError as error:
        raise SpecError(f"config.json: {error}") from None
    return {
        "seccomp": section,
        "architectures": sorted(given.get("architectures") or []) if given else [],
        "capabilities": {name: sorted(names) for name, names in spec.capabilities.items()},
        "noNewPrivileges": spec.process.get("noNewPrivileges") is True,
        "bypasses": sorted(key for key in spec.member("annotations", dict) if key.startswith(BYPASSES)),
    }
