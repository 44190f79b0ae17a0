"""Podman's precreate stage: the native path.

A container that is not FHIR gets back the very bytes that came in. A FHIR one gets the plan written into its
config, and a createRuntime entry: the gate, or, since Podman hides what a precreate hook prints, the refusal.
"""

from __future__ import annotations

from fhir_hook.core import decide, spec
from fhir_hook.hook import identify
from fhir_hook.store import files, policy

_STDIN, _STDOUT = 0, 1


def run() -> int:
    """Read config.json from stdin, write it or the edited one to stdout; returns the exit code."""
    data = files.read_all(_STDIN, spec.MAX_CONFIG)
    try:
        answer = _answer(data)
    except Exception as error:  # noqa: BLE001 - whatever fails, containers that are not FHIR must start
        from fhir_hook.hook import fallback

        answer = fallback.precreate(data, error)
    try:
        files.write_all(_STDOUT, answer)
    except OSError:
        return 1
    return 0 if answer else 1


def _answer(data: bytes) -> bytes:
    index = policy.load_index()
    config = spec.parse(data)
    container = identify.container_of(config, index.document)
    container.builder = False  # Buildah has no precreate: this is Podman, running a working container's files itself
    decision = decide.decide(container, index.document)
    if decision.decision == decide.IGNORED and index.document["settings"]["log"] != "all":
        return data
    from fhir_hook.hook import native

    return native.answer(data, config, container, decision, index)
