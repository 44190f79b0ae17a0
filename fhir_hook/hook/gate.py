"""The createRuntime entry that precreate gives a FHIR container: the look at the config on disk, or the refusal."""

from __future__ import annotations

import posix

from fhir_hook.core import jsonio, spec, tighten
from fhir_hook.core.digest import sha256_hex
from fhir_hook.core.image import Container
from fhir_hook.hook import main, state
from fhir_hook.store import files, log


def run(argv: list[str]) -> int:
    """`gate DIGEST SEQ NAME` checks and records; `refuse CODE LINE` prints the line. Returns the exit code."""
    if argv[1] == "refuse" and len(argv) == 4:
        _drain()
        main.say(argv[3])
        return 1
    if argv[1] != "gate" or len(argv) != 5:
        main.say("fhir-hook refused a container: the gate was called with other arguments than precreate wrote. FH107")
        return 1
    try:
        return _gate(argv[2], argv[3], argv[4])
    except Exception as error:  # noqa: BLE001 - a FHIR container whose gate fails must not start, whatever failed
        return _refuse("FH113", f"{type(error).__name__}: {error}", argv[4], "")


def _drain() -> None:
    """Take the state off stdin: crun reports a broken pipe, and not this hook's path, when a hook leaves it there."""
    try:
        while posix.read(0, 1 << 16):
            pass
    except OSError:
        return


def _gate(digest: str, seq: str, name: str) -> int:
    who = bundle = ""
    try:
        current = state.read()
        who, bundle = current.id, current.bundle
        config = spec.parse(files.read(f"{current.bundle}/config.json", spec.MAX_CONFIG))
        found = tighten.essence(config.document)
    except (state.StateError, spec.SpecError, files.FileError, OSError) as error:
        return _refuse("FH107", str(error).replace(f"{bundle}/", ""), name, who)
    if config.ambiguous or sha256_hex(jsonio.canonical(found)) != digest:
        return _refuse("FH107", "config.json was changed after precreate", name, who)
    fields = {
        "event": "outcome",
        "stage": "gate",
        "path": "native",
        "container": {"id": who, "name": name},
        "decided_by": int(seq),
        "seen": "config",
        "plan": digest,
    }
    try:
        log.append(fields)
    except log.LogError as error:
        return _refuse("FH105", str(error), name, who)
    return 0


def _refuse(code: str, text: str, name: str, who: str) -> int:
    from fhir_hook.core import record
    from fhir_hook.hook import planning

    container = Container(id=who, name=name)
    main.say(planning.refusal(code, text, container))
    try:
        log.append(record.refusal(container, "gate", code, text))
    except log.LogError as error:
        main.say(f"fhir-hook: the refusal is not in the log: {error}")
    return 1
