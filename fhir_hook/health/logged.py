"""Where the kernel can't be asked to log what is denied: runtimes that refuse SECCOMP_FILTER_FLAG_LOG.

runc 1.1 ends with "seccomp flags are not yet supported by runc", and no container starts.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

from fhir_hook.health.finding import Finding, bad, good, note
from fhir_hook.recording.trial import logs_errno
from fhir_hook.runtime import real
from fhir_hook.store import policy

COMPILE = "fhir-hook policy compile"
_PATIENCE = 20.0


def unlogged(settings: dict[str, str]) -> list[str]:
    """The runtimes on this host that refuse the flag, "PATH (runc version 1.1.5)"; [] where nobody asks them to."""
    if settings.get("denials") != "all":
        return []
    found: dict[str, str] = {}
    for path in _programs(settings):
        said = _version(path)
        if not logs_errno(said):
            found.setdefault(os.path.realpath(path), f"{path} ({said or 'which does not say its version'})")
    return sorted(found.values())


def consequence(runtimes: list[str]) -> str:
    """What it means, in one line, that these refuse the flag."""
    return (
        f'log.denials = "all" holds for filters that fhir-hook attaches only: {", ".join(runtimes)} would start no '
        "container with SECCOMP_FILTER_FLAG_LOG; runc knows it from 1.2 on"
    )


def denials() -> Iterator[Finding]:
    """Whether the setting log.denials does what it says, on the runtimes that are here now."""
    check = "denials.logged"
    try:
        document: dict[str, Any] = policy.load_index().document
    except policy.PolicyError:
        return  # policy.readable says it
    wanted = document["settings"].get("denials", "off")
    if wanted == "off":
        yield good(check, "log.denials is off: the kernel logs no errno that a profile answers")
        return
    before, now = document.get("unlogged", []), unlogged(document["settings"])
    if now and not before:
        seen = f"came after the policy was compiled: {', '.join(now)}"
        yield bad(check, seen, "FHIR containers do not start on it: it refuses SECCOMP_FILTER_FLAG_LOG", COMPILE)
    elif before and not now:
        why = "what natively confined containers are denied leaves no trace, though every runtime could log it now"
        yield bad(check, f"the policy was compiled for {', '.join(before)}", why, COMPILE)
    elif now:
        why = "what natively confined containers are denied leaves no trace"
        yield note(check, consequence(now), why, f"use crun alone, or install runc 1.2, then: {COMPILE}")
    else:
        yield good(check, f'log.denials = "{wanted}" is in force')


def _programs(settings: dict[str, str]) -> Iterator[str]:
    """Every runtime that an engine or the shim could start here, the shim itself left out."""
    shim = {os.path.realpath(place) for place in (real.FRONT, real.FRONT.replace("fhir-hook/", "fhir-hook/shim/"))}
    for kind in real.KINDS:
        for path in (settings.get(f"runtime.{kind}", ""), *real.usual(kind)):
            if path and os.access(path, os.X_OK) and os.path.realpath(path) not in shim:
                yield path


def _version(path: str) -> str:
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    line = done.stdout.partition("\n")[0][:80]
    return "".join(char if char.isprintable() else "?" for char in line)
