"""What the tests about reviewing share: sections, the shipped tables, the command on a folder of profiles."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from authoring.sandbox import SHIPPED
from fhir_hook.authoring.source import load_sources
from fhir_hook.review.subject import Finder, Subject, make

ROOT = SHIPPED.parent
ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
WORD = 0xFFFF_FFFF


def args(*conditions: tuple[Any, ...]) -> list[dict[str, Any]]:
    """(index, operator without its prefix, value[, valueTwo]) as entries of `args`."""
    return [
        {"index": c[0], "op": f"SCMP_CMP_{c[1]}", "value": c[2], "valueTwo": c[3] if len(c) > 3 else 0}
        for c in conditions
    ]


def allow(*names: str, **members: Any) -> dict[str, Any]:
    """A rule that allows."""
    return {"names": list(names), "action": ALLOW, **members}


def section(*rules: dict[str, Any], default: str = ERRNO, **members: Any) -> dict[str, Any]:
    """An OCI seccomp section."""
    return {"defaultAction": default, "syscalls": list(rules), **members}


def subject(*rules: dict[str, Any], **members: Any) -> Subject:
    """A filter of these rules."""
    return make("a test's filter", "oci", "x86_64", section(*rules, **members))


def finder(arch: str = "x86_64") -> Finder:
    """The shipped profiles, tables and recordings."""
    return Finder(load_sources(SHIPPED), SHIPPED, arch)


def run(*arguments: str | Path, folder: Path = SHIPPED, **more: Any) -> subprocess.CompletedProcess[str]:
    """fhir-hook profile, on a folder of profiles, not installed."""
    argv = [sys.executable, "-B", "-m", "fhir_hook.cli.main", "profile", *map(str, arguments)]
    if folder != Path():
        argv += ["--profiles", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, env=environment, check=False, **more)
