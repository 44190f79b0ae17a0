"""Putting the hook in force on this host and taking it out again: two files, each written or removed in one step.

The package's own files change nothing by being there. In force is the hook by the drop-in that names Podman's directory
of hooks, and by the prestart hook in the directory that every engine reads.
"""

from __future__ import annotations

import os
from pathlib import Path

from fhir_hook.core import paths
from fhir_hook.health import containers_conf
from fhir_hook.store import files

OCI_HOOK = Path(paths.OCI_HOOK)
DROPIN = Path(paths.PODMAN_DROPIN)
MARKER = Path(paths.DISABLED)


class ActivationError(Exception):
    """The hook could not be put in force; str() is one line."""


def disabled() -> str:
    """Why the administrator switched the hook off, or "" while it is on."""
    try:
        return MARKER.read_text(encoding="utf-8", errors="replace").strip() or "no reason given"
    except FileNotFoundError:
        return ""


def wanted() -> dict[Path, str]:
    """The two files as they should be now. Raises ActivationError when what they are made of can't be read."""
    try:
        hook = Path(paths.OCI_HOOK_SOURCE).read_text(encoding="utf-8")
        others = containers_conf.in_force(_host_files(), without=DROPIN)
    except (OSError, containers_conf.ConfError) as error:
        raise ActivationError(str(error)) from None
    directories = tuple(name for name in others.directories if name != paths.PODMAN_HOOKS)
    return {OCI_HOOK: hook, DROPIN: containers_conf.dropin(directories)}


def _host_files() -> list[Path]:
    """The host's files that are read before our drop-in: one after it would hide ours whatever ours says."""
    found = containers_conf.files()
    return [path for path in found if path.parent != DROPIN.parent or path.name <= DROPIN.name]


def activate() -> list[Path]:
    """Write what is not there as it should be; returns the files that were written. Raises ActivationError."""
    written = []
    for path, text in wanted().items():
        try:
            if _content(path) == text:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            files.replace(str(path), text.encode("utf-8"))
        except OSError as error:
            raise ActivationError(f"{path}: {error.strerror or error}") from None
        written.append(path)
    return written


def deactivate() -> None:
    """Take the hook out of force; raises ActivationError."""
    for path in (DROPIN, OCI_HOOK):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ActivationError(f"{path}: {error.strerror or error}") from None


def switch_off(reason: str) -> None:
    """Deactivate, and keep it so through upgrades until switch_on(); raises ActivationError."""
    try:
        files.replace(str(MARKER), f"{reason}\n".encode())
    except OSError as error:
        raise ActivationError(f"{MARKER}: {error.strerror or error}") from None
    deactivate()


def switch_on() -> None:
    """Activate again; raises ActivationError."""
    activate()
    MARKER.unlink(missing_ok=True)


def _content(path: Path) -> str | None:
    try:
        return None if path.is_symlink() or os.stat(path).st_mode & 0o022 else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
