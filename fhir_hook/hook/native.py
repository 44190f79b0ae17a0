"""The native path: the plan, or the refusal, written into a config.json before the runtime parses it."""

from __future__ import annotations

import time

from fhir_hook.core import decide, jsonio, paths, record, tighten
from fhir_hook.core.digest import sha256_hex
from fhir_hook.hook import identify, planning
from fhir_hook.kernel import hardening
from fhir_hook.store import log, policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fhir_hook.core.decide import Decision
    from fhir_hook.core.image import Container
    from fhir_hook.core.spec import Spec

# A hook without `env` inherits the runtime's environment, that is, its caller's (facts that tests/system shows).
ENVIRONMENT = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
GATE_SECONDS = 60


def answer(
    data: bytes, config: Spec, container: Container, decision: Decision, index: policy.Index, stage: str = "precreate"
) -> bytes:
    """Return the config.json that the engine is to use: `data` itself, the confined one, or one that refuses.

    `stage` is what the record names; `decision` says afterwards whether it is a refusal.
    """
    identify.hide(container, index.document["settings"])
    try:
        return _answer(data, config, container, decision, index, stage)
    except Exception as error:  # noqa: BLE001 - known to be FHIR: a defect must not let it start unconfined
        if not decision.is_fhir:
            raise
        decision.refuse("FH113", f"{type(error).__name__}: {error}")
        return refused(config, container, decision)


def _answer(
    data: bytes, config: Spec, container: Container, decision: Decision, index: policy.Index, stage: str
) -> bytes:
    started = time.monotonic_ns()
    if stage == "precreate":  # the shim becomes the runtime, and no_new_privs would stay with it
        hardening.hook()
    identify.describe(config, container)
    plan = planning.plan(config, decision, index, native=True) if decision.decision == decide.CONFINED else None
    fields = record.decision(decision, container, stage, "native" if plan else "", index.digest)
    if plan is not None:
        fields.update(plan.fields)
    fields["duration_us"] = (time.monotonic_ns() - started) // 1000
    try:
        written = log.append(fields)
    except log.LogError as error:
        if not decision.is_fhir and decision.decision != decide.REFUSED:
            return data
        decision.refuse("FH105", str(error))
        plan, written = None, fields
    if decision.decision == decide.REFUSED:
        return refused(config, container, decision)
    if plan is None:
        return data
    document = tighten.apply(config, plan.tightened)
    digest = sha256_hex(jsonio.canonical(tighten.essence(document)))
    entry = _entry(paths.HOOK, ["gate", digest, str(written["seq"]), container.name])
    return jsonio.text(_with_hook(document, entry)).encode("ascii")


def refused(config: Spec, container: Container, decision: Decision) -> bytes:
    """Return the config with an entry that refuses: its path says why, for runtimes that hide what it prints."""
    from fhir_hook.core.codes import CODES

    code, text = decision.reasons[0]
    path = f"{paths.REFUSED}/{code}-{CODES[code].slug}"
    entry = _entry(path, ["refuse", code, planning.refusal(code, text, container)])
    return jsonio.text(_with_hook(config.document, entry)).encode("ascii")


def _entry(path: str, arguments: list[str]) -> dict[str, Any]:
    return {"path": path, "args": [path, *arguments], "env": ENVIRONMENT, "timeout": GATE_SECONDS}


def _with_hook(document: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Put our entry last, so that it sees what any hook before it did to config.json.

    A gate from an earlier edit of the same config goes: its digest is that of the plan of then.
    """
    hooks = document.get("hooks")
    hooks = dict(hooks) if isinstance(hooks, dict) else {}
    present = hooks.get("createRuntime")
    others = [other for other in present if not is_gate(other)] if isinstance(present, list) else []
    hooks["createRuntime"] = [*others, entry]
    return {**document, "hooks": hooks}


def is_gate(entry: Any) -> bool:
    """Whether this entry of a config's hooks is the gate of a confined container."""
    arguments = entry.get("args") if isinstance(entry, dict) else None
    return isinstance(arguments, list) and entry.get("path") == paths.HOOK and arguments[1:2] == ["gate"]
