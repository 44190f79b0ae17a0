"""The prestart stage of any engine or runtime: the runtime has parsed config.json already.

A config that carries the plan (a native edit) is verified and recorded; otherwise the plan is put in force on the
container's first process itself (hook.live).
"""

from __future__ import annotations

from fhir_hook.core import decide, spec
from fhir_hook.core.image import Container
from fhir_hook.hook import identify, state
from fhir_hook.store import files, policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fhir_hook.core.decide import Decision


def run() -> int:
    """Read the state from stdin and act on it; returns the exit code."""
    current = state.State("", 0, "", {})
    try:
        current = state.read()
        return _run(current)
    except Exception as error:  # noqa: BLE001 - whatever fails, containers that are not FHIR must start
        from fhir_hook.hook import fallback

        return fallback.prestart(current, error)


def _run(current: state.State) -> int:
    index = policy.load_index()
    try:
        config = spec.parse(files.read(f"{current.bundle}/config.json", spec.MAX_CONFIG))
    except (files.FileError, OSError) as error:
        raise spec.SpecError(f"config.json: {error}") from None
    container, decision = _decide(current, config, index)
    if decision.decision == decide.IGNORED and index.document["settings"]["log"] != "all":
        return 0
    from fhir_hook.hook import live

    return live.run(current, config, container, decision, index)


def _decide(current: state.State, config: spec.Spec, index: policy.Index) -> tuple[Container, Decision]:
    """Decide from config.json; when its readers could disagree, from whatever any of them may make of it."""
    container = identify.container_of(config, index.document)
    container.id = container.id or current.id
    decision = decide.decide(container, index.document)
    if config.ambiguous and not decision.is_fhir:
        for annotations in (*config.other_annotations, current.annotations):
            container = Container(id=current.id, image=identify.labelled(annotations), source="annotations")
            decision = decide.decide(container, index.document)
            if decision.is_fhir:
                break
    return container, decision
