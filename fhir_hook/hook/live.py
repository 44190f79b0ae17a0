"""The live path: the plan put in force by ptrace, between the runtime's set-up and the image's first instruction."""

from __future__ import annotations

import time
from binascii import a2b_base64

from fhir_hook.core import capabilities, decide, record
from fhir_hook.core.digest import sha256_hex
from fhir_hook.hook import identify, main, planning
from fhir_hook.store import log, policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fhir_hook.core.decide import Decision
    from fhir_hook.core.image import Container
    from fhir_hook.core.plan import Capabilities, LivePlan
    from fhir_hook.core.spec import Spec
    from fhir_hook.hook.planning import Plan
    from fhir_hook.hook.state import State
    from fhir_hook.kernel.failure import AttachError
    from fhir_hook.kernel.late import Outcome


def run(current: State, config: Spec, container: Container, decision: Decision, index: policy.Index) -> int:
    """Record the decision and carry it out on the container of `current`; returns the exit code."""
    identify.hide(container, index.document["settings"])
    try:
        return _run(current, config, container, decision, index)
    except Exception as error:  # noqa: BLE001 - known to be FHIR: a defect must not let it start unconfined
        if not decision.is_fhir:
            raise
        main.say(planning.refusal("FH113", f"{type(error).__name__}: {error}", container))
        return 1


def _run(current: State, config: Spec, container: Container, decision: Decision, index: policy.Index) -> int:
    from fhir_hook.core import tighten

    started = time.monotonic_ns()
    identify.describe(config, container)
    plan = planning.plan(config, decision, index) if decision.decision == decide.CONFINED else None
    native = plan is not None and tighten.carries(config, plan.tightened)
    if plan is not None and not native:
        if plan.tightened.removed:
            decision.refuse("FH108", ", ".join(plan.tightened.removed))
            plan = None
        else:
            # The runtime loads the engine's filter and this one comes on top: the kernel itself finds the meet.
            decision.findings[:] = [finding for finding in decision.findings if finding[0] != "FH207"]
            plan.fields["seccomp"]["inexpressible"] = []
            decision.findings.append(("FH209", "processes that exec starts in it keep only the engine's own filter"))
    programs: tuple[bytes, ...] = ()
    if plan is not None and not native:
        try:
            programs = _programs(plan, index)
        except policy.PolicyError as error:
            decision.refuse(error.code, str(error))
            plan = None
    path = "" if plan is None else ("native" if native else "live")
    fields = record.decision(decision, container, "prestart", path, index.digest)
    if plan is not None:
        fields.update(plan.fields)
        if not native:
            fields["seccomp"] = _attached(plan, programs, index)
    fields["duration_us"] = (time.monotonic_ns() - started) // 1000
    try:
        written = log.append(fields)
    except log.LogError as error:
        if not decision.is_fhir and decision.decision != decide.REFUSED:
            return 0
        decision.refuse("FH105", str(error))
    if decision.decision == decide.REFUSED:
        main.say(planning.refusal(*decision.reasons[0], container))
        return 1
    if plan is None or native:
        return 0
    return _attach(current, _live_plan(plan, programs), container, written["seq"])


def _attached(plan: Plan, programs: tuple[bytes, ...], index: policy.Index) -> dict[str, Any]:
    """What a record says of filters that are attached here: of their flags, not those of the engine's filter."""
    plan.tightened.logged = not plan.tightened.complain and index.document["settings"].get("denials") in ("live", "all")
    said = {name: value for name, value in plan.fields["seccomp"].items() if name != "logged"}
    logged = {"logged": True} if plan.tightened.logged else {}
    return {**said, **logged, "filters": [sha256_hex(program) for program in programs]}


def _programs(plan: Plan, index: policy.Index) -> tuple[bytes, ...]:
    """The compiled filters of the plan's profiles, each as a packed array of struct sock_filter."""
    mode = decide.COMPLAIN if plan.tightened.complain else decide.ENFORCE
    body = policy.Body(index)
    try:
        return tuple(a2b_base64(body.programs(p["name"], plan.architecture)[mode]) for p in plan.profiles)
    finally:
        body.close()


def _attach(current: State, plan: LivePlan, container: Container, decided_by: int) -> int:
    from fhir_hook.kernel import attacher, hardening, procfs
    from fhir_hook.kernel.failure import AttachError

    def seen(outcome: Outcome) -> None:
        try:
            log.append({**about, **_outcome(outcome)})
        except log.LogError as error:
            raise AttachError("log-unwritable", str(error)) from None

    def failed(error: AttachError) -> None:
        if error.reason != "never-started":
            _record_failure(about, "FH105" if error.reason == "log-unwritable" else "FH106", error)

    about: dict[str, Any] = {
        "event": "outcome",
        "stage": "prestart",
        "path": "live",
        "container": {"id": record.bounded(container.id), "name": record.bounded(container.name)},
        "decided_by": decided_by,
    }
    try:
        hardening.hook()
        identity = procfs.Identity(current.pid)
        attacher.start(identity, plan, seen, failed)
    except (AttachError, OSError, ValueError) as error:
        main.say(planning.refusal("FH106", str(error), container))
        _record_failure(about, "FH106", error)
        return 1
    return 0


def _live_plan(plan: Plan, programs: tuple[bytes, ...]) -> LivePlan:
    from fhir_hook.core.plan import LivePlan

    return LivePlan(
        programs,
        _masks(plan.tightened.asked),
        _masks(plan.tightened.capabilities),
        no_new_privs=not plan.tightened.complain,
        complain=plan.tightened.complain,
        logged=plan.tightened.logged,
    )


def _masks(sets: dict[str, list[str]]) -> Capabilities:
    from fhir_hook.core.plan import Capabilities

    return Capabilities(**{name: capabilities.mask(names) for name, names in sets.items()})


def _outcome(outcome: Outcome) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "seen": "kernel" if outcome.read_back else "count",
        "seccomp": {
            "mode": outcome.seccomp,
            "filters_before": outcome.filters_before,
            "filters_after": outcome.filters_after,
        },
        "no_new_privs": outcome.no_new_privs,
        "capabilities": {
            name: f"{getattr(outcome.capabilities, name):016x}"
            for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
        },
    }
    if not outcome.read_back:
        fields["findings"] = record.coded([("FH210", reason) for reason in outcome.reasons])
    return fields


def _record_failure(about: dict[str, Any], code: str, error: Exception) -> None:
    try:
        log.append({**about, "decision": "refused", "reasons": record.coded([(code, str(error))])})
    except log.LogError as failure:
        main.say(f"fhir-hook: the refusal is not in the log: {failure}")
