"""The prestart stage of any engine or runtime: the runtime has parsed config.json already.

A config that carries the plan (a native edit) is verified and recorded; otherwise the plan is put in force on the
container's first process itself (hook.live).
"""

from __future__ import annotations

from fhir_hook.core import decide, spec
from fhir_hook.hook import identify, state
from fhir_hook.store import files, policy


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
        raise spec.SpecError(f"config.json: {error}".replace(f"{current.bundle}/", "")) from None
    container, decision = identify.decided(config, index.document, current.id, current.annotations)
    if decision.decision == decide.IGNORED and index.document["settings"]["log"] != "all":
        return 0
    from fhir_hook.hook import live

    return live.run(current, config, container, decision, index)
