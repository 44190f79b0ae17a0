"""Engines that read no hooks.d: whether fhir-runc is among their runtimes, and whether it works."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from fhir_hook.engines import engine
from fhir_hook.engines.names import NAME, PROGRAM
from fhir_hook.health.finding import Finding, bad, good, note
from fhir_hook.health.installed import ENVIRONMENT, REINSTALL
from fhir_hook.runtime import real

PROGRAMS = {"dockerd": "docker", "containerd": "containerd"}
DIRECTORIES = ("/usr/bin", "/usr/local/bin", "/usr/sbin")


def without_hooks() -> Iterator[Finding]:
    """Docker and containerd: which of their containers pass through fhir-runc."""
    uses = engine.uses()
    for program, name in PROGRAMS.items():
        if not any(Path(directory, program).exists() for directory in DIRECTORIES):
            continue
        check, (path, how) = f"engine.{program}", uses.get(name, (None, ""))
        if how == "default":
            yield good(check, f"{NAME} is the default runtime in {path}")
        elif how == "extra":
            why = "only what is started with it passes through; FHIR containers on another runtime are not confined"
            yield note(check, f"{NAME} is a runtime in {path}", why, f"fhir-hook engine configure {name} --default")
        else:
            why = "it reads no hooks.d: what it starts is not confined"
            repair = f"fhir-hook engine configure {name}, or run FHIR servers under Podman or CRI-O"
            yield note(check, f"{program} is installed", why, repair)


def shim() -> Iterator[Finding]:
    """The shim itself, where an engine names it: it has to start, and to find the runtime behind it."""
    check, uses = "engine.shim", engine.uses()
    if not uses:
        return
    named = ", ".join(str(path) for path, _ in uses.values())
    why = f"containers on {NAME} can't be started, stopped or removed; named in {named}"
    try:
        behind = real.find("runc", PROGRAM)
        done = subprocess.run(
            [PROGRAM, "--version"], capture_output=True, text=True, timeout=20, check=False, env=ENVIRONMENT
        )
    except real.RealError as error:
        yield bad(check, str(error), why, "apt-get install runc; fhir-hook policy compile after an edit of [runtime]")
        return
    except (OSError, subprocess.TimeoutExpired) as error:
        yield bad(check, f"{PROGRAM} can't be run: {error}", why, REINSTALL)
        return
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        yield bad(check, f"{PROGRAM} fails: {said[0][:300]}", why, REINSTALL)
    else:
        yield good(check, f"{PROGRAM} stands in front of {behind}")
        yield from _several(behind)


def _several(behind: str) -> Iterator[Finding]:
    """Other files of the name runc in the usual places, where nothing says which one is meant."""
    if real.named("runc"):
        return
    known = {_same(path) for path in (behind, PROGRAM)}
    others = {_same(path): path for path in real.usual("runc") if _same(path) not in {*known, None}}
    if others:
        why = f"{NAME} becomes {behind}; which of them an engine took before depends on its $PATH"
        repair = "name the one that is meant as runc below [runtime]"
        yield note("engine.runtimes", f"there is also {', '.join(others.values())}", why, repair)


def _same(path: str) -> tuple[int, int] | None:
    """What is equal for two paths of one file; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
