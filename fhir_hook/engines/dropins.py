"""Podman and CRI-O: a drop-in file of our own each, which is added and removed as a whole."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from fhir_hook.engines.names import CRUN_NAME, CRUN_PROGRAM, NAME, PROGRAM

PODMAN = Path("/etc/containers/containers.conf.d/60-fhir-runc.conf")
CRIO = Path("/etc/crio/crio.conf.d/60-fhir-runc.conf")
_SHIMS = {NAME, CRUN_NAME}
_MADE = "# Made by 'fhir-hook engine configure {engine}'; its --undo removes it.\n"


def podman(default: bool) -> str:
    """containers.conf(5): both shims as runtimes, with the abilities that Podman knows by a runtime's name."""
    chosen = CRUN_NAME if os.path.exists("/usr/bin/crun") else NAME
    return (
        _MADE.format(engine="podman")
        + "[engine]\n"
        + (f'runtime = "{chosen}"\n' if default else "")
        + f'runtime_supports_json = ["crun", "runc", "kata", "runsc", "youki", "krun", "{NAME}", "{CRUN_NAME}"]\n'
        + f'runtime_supports_nocgroups = ["crun", "krun", "{CRUN_NAME}"]\n'
        + f'[engine.runtimes]\n{NAME} = ["{PROGRAM}"]\n{CRUN_NAME} = ["{CRUN_PROGRAM}"]\n'
    )


def crio(default: bool) -> str:
    """crio.conf(5): a runtime handler for RuntimeClasses."""
    return (
        _MADE.format(engine="crio")
        + (f'[crio.runtime]\ndefault_runtime = "{NAME}"\n' if default else "")
        + f'[crio.runtime.runtimes.{NAME}]\nruntime_path = "{PROGRAM}"\n'
        + 'runtime_type = "oci"\nruntime_root = "/run/runc"\n'
    )


def ours(text: str) -> bool:
    """Whether a file is one that `podman` or `crio` wrote, and nobody edited since."""
    made = [*(podman(default) for default in (False, True)), *(crio(default) for default in (False, True))]
    return text in made


def use(text: str | None) -> str:
    """How a file of Podman or CRI-O uses the shim, whoever wrote it: "default", "extra" or ""."""
    try:
        document = tomllib.loads(text or "")
    except tomllib.TOMLDecodeError:
        return ""
    engine, crio = _table(document, "engine"), _table(document, "crio", "runtime")
    if any(name in _SHIMS for name in (engine.get("runtime"), crio.get("default_runtime")) if isinstance(name, str)):
        return "default"
    return "extra" if _SHIMS & {*_table(engine, "runtimes"), *_table(crio, "runtimes")} else ""


def by_hand(text: str) -> str:
    """What to take out of a file that is not `ours`, or was edited since, by the numbers of its lines."""
    lines = [str(number) for number, line in enumerate(text.splitlines(), 1) if any(name in line for name in _SHIMS)]
    return f"take out by hand what names {' and '.join(sorted(_SHIMS))} (lines {', '.join(lines)})"


def _table(document: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        document = document.get(name, {})
        if not isinstance(document, dict):
            return {}
    return document
