"""From a decision to a plan: loading the profiles, tightening, and what the record says of it. Both paths."""

from __future__ import annotations

import posix

from fhir_hook.core import decide, record, tighten
from fhir_hook.core.spec import Spec, SpecError
from fhir_hook.store import policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fhir_hook.core.decide import Decision
    from fhir_hook.core.image import Container
    from fhir_hook.core.tighten import Tightened

ASKED_FOR = ("io.podman.annotations.privileged", "TRUE")


class Plan:
    """A plan for one container: the compiled `profiles`, the `tightened` config members, `fields` for the record."""

    __slots__ = ("profiles", "tightened", "fields", "architecture")

    def __init__(self, profiles: list[dict[str, Any]], tightened: Tightened, fields: dict[str, Any], arch: str) -> None:
        self.profiles = profiles
        self.tightened = tightened
        self.fields = fields
        self.architecture = arch


def plan(config: Spec, decision: Decision, index: policy.Index, native: bool = False) -> Plan | None:
    """Plan what a confined container gets. On any obstacle the decision becomes a refusal and None is returned.

    `native`: the runtime loads the filter, so it has to know the flag by which denials are logged.
    """
    if config.ambiguous:
        decision.refuse("FH114", "config.json is ambiguous at " + ", ".join(config.ambiguous))
        return None
    architecture = posix.uname().machine
    if architecture not in tighten.ARCHITECTURES:
        decision.refuse("FH109", f"the machine is {architecture}")
        return None
    try:
        profiles, changed = _load(decision, index, architecture)
        mode = decision.mode or _strictest_mode(profiles)
        tightened = tighten.tighten(config, profiles, architecture, mode == decide.COMPLAIN, native and _logged(index))
    except policy.PolicyError as error:
        decision.refuse(error.code, str(error))
        return None
    except SpecError as error:
        decision.refuse("FH114", str(error))
        return None
    decision.mode = mode
    _find(config, decision, index, tightened, changed)
    fields = record.plan(tightened, profiles, _known(architecture))
    return Plan(profiles, tightened, fields, architecture)


def _logged(index: policy.Index) -> bool:
    """Whether runtimes are asked to have denials logged: the setting says so, and none was found that refuses it."""
    return index.document["settings"].get("denials") == "all" and index.document.get("unlogged") == []


def _load(decision: Decision, index: policy.Index, architecture: str) -> tuple[list[dict[str, Any]], list[str]]:
    body = policy.Body(index)
    try:
        return [body.profile(name, architecture) for name in decision.profiles], body.changed_sources()
    finally:
        body.close()


def _strictest_mode(profiles: list[dict[str, Any]]) -> str:
    return decide.ENFORCE if any(p["mode"] == decide.ENFORCE for p in profiles) else decide.COMPLAIN


def _find(config: Spec, decision: Decision, index: policy.Index, tightened: Tightened, changed: list[str]) -> None:
    findings = decision.findings
    if tightened.dropped and not tightened.complain:
        findings.append(("FH201", ", ".join(tightened.dropped)))
    if config.seccomp is None:
        findings.append(("FH202", "config.json came without linux.seccomp"))
    if config.annotations.get(ASKED_FOR[0]) == ASKED_FOR[1]:
        findings.append(("FH203", "it was started with --privileged"))
    if tightened.removed:
        findings.append(("FH204", ", ".join(tightened.removed)))
    if tightened.noticed:
        findings.append(("FH205", ", ".join(tightened.noticed)))
    if tightened.inexpressible:
        findings.append(("FH207", ", ".join(tightened.inexpressible)))
    if changed:
        findings.append(("FH208", ", ".join(changed[:4]) + (f" and {len(changed) - 4} more" if changed[4:] else "")))
    if decision.mode == decide.COMPLAIN:
        findings.append(("FH211", "would drop: " + (", ".join(tightened.dropped) or "no capability")))
    if index.fallback:
        findings.append(("FH212", index.fallback))


def _known(architecture: str) -> dict[str, int]:
    if architecture == "aarch64":
        from fhir_hook.core.syscalls_aarch64 import NUMBERS
    else:
        from fhir_hook.core.syscalls_x86_64 import NUMBERS
    return NUMBERS


def refusal(code: str, text: str, container: Container) -> str:
    """The one line that a person sees: what happened, to which container, and what to do next."""
    from fhir_hook.core.codes import CODES

    entry = CODES[code]
    who = container.name or container.id[:12] or "a container"
    image = container.image.names[0] if container.image is not None and container.image.names else ""
    of = f" of {image}" if image else ""
    # Podman reads a runtime's error and takes these words for a missing command (exit code 127, and another story).
    text = text.replace("No such file or directory", "it does not exist")
    line = f"fhir-hook refused {record.bounded(who)}{record.bounded(of)}: {entry.title} ({record.bounded(text)}). "
    return record.printable(f"{line}{code}: {entry.hint}.")
