"""Podman and CRI-O: a drop-in file of our own each, which is added and removed as a whole."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from fhir_hook.engines.names import CRUN_NAME, CRUN_PROGRAM, NAME, PROGRAM

PODMAN = Path("/etc/containers/containers.conf.d/60-fhir-runc.conf")
CRIO = Path("/etc/crio/crio.conf.d/60-fhir-runc.conf")
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


def use(text: str | None) -> str:
    """How one of these files uses the shim: "default", "extra" or ""."""
    try:
        document = tomllib.loads(text or "")
    except tomllib.TOMLDecodeError:
        return ""
    podman = document.get("engine", {}).get("runtime")
    crio = document.get("crio", {}).get("runtime", {}).get("default_runtime")
    return "" if not document else "default" if {podman, crio} & {NAME, CRUN_NAME} else "extra"
