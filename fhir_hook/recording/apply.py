"""A precreate hook for trying profiles: config.json from stdin to stdout, tightened as the installed product does it.

    python3 -m fhir_hook.recording.apply PLAN

PLAN is a JSON file: {"profile": a compiled profile, "complain": bool, "log": whether denials are to be logged}.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

from fhir_hook.authoring.expand import NUMBERS
from fhir_hook.core import jsonio, oci_seccomp, spec, tighten
from fhir_hook.core.oci_seccomp import ERRNO, Meaning


def tightened(data: bytes, plan: dict[str, Any]) -> bytes:
    """The config.json under the profile. Raises SpecError, KeyError for another architecture."""
    config = spec.parse(data)
    machine = platform.machine()
    given = config.seccomp
    document = tighten.apply(config, tighten.tighten(config, [plan["profile"]], machine, complain=plan["complain"]))
    if plan["complain"]:
        document["linux"]["seccomp"] = complaining(plan["profile"]["seccomp"][machine], given, machine)
        # As when it is enforced: without it the runtime's own calls would be under the filter too.
        document["process"]["noNewPrivileges"] = True
    if plan["log"]:
        seccomp = document["linux"]["seccomp"]
        seccomp["flags"] = sorted({*(seccomp.get("flags") or ()), tighten.LOG_FLAG})
    return jsonio.text(document).encode("ascii")


def complaining(section: dict[str, Any], given: dict[str, Any] | None, arch: str) -> dict[str, Any]:
    """The section that logs what `section` denies; calls that the engine's own filter never allows stay denied.

    The meet of both, which the installed product uses, can only log every use of a call whose arguments the profile
    filters: it would report uses that the profile allows.
    """
    logging = oci_seccomp.complain(section, arch)
    if given is None:
        return logging
    engine, allowed = Meaning(given), {name for entry in logging["syscalls"] for name in entry["names"]}
    denied: dict[int, list[str]] = {}
    for name in NUMBERS[arch]:
        answers = [rule.answer for rule in engine.rules.get(name, ())] or [engine.default]
        if name not in allowed and all(action == ERRNO for action, _ in answers):
            denied.setdefault(answers[0][1], []).append(name)
    rules = [{"names": names, "action": ERRNO, "errnoRet": errno} for errno, names in sorted(denied.items())]
    return {**logging, "syscalls": [*logging["syscalls"], *rules]}


def main() -> None:
    """Edit the config on stdin."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    sys.stdout.buffer.write(tightened(sys.stdin.buffer.read(), plan))


if __name__ == "__main__":
    main()
