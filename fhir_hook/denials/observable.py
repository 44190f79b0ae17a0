"""Whether the kernel logs what a container is denied: seccomp(2), and what the runtime was told."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fhir_hook.core import decide
from fhir_hook.core.tighten import LOG_FLAG
from fhir_hook.denials.decisions import Decided
from fhir_hook.kernel import seccomp_log

_LARGEST = 4 << 20
_HOST = "/var/lib/containers/storage"
_ID = re.compile(r"[0-9a-f]{64}")


def problem(decided: Decided, logged: set[str]) -> str:
    """Why denials of a confined container leave no trace, or "" when they do; `logged`: actions_logged()."""
    action = "log" if decided.mode == decide.COMPLAIN else "errno"
    if action not in logged:
        return f"{seccomp_log.ACTIONS_LOGGED} lacks {action}"
    if decided.mode == decide.COMPLAIN or decided.logged:
        return ""
    if decided.path == "live":
        return "its filter was attached to the running process, and log.denials was off"
    flags = _flags(decided)
    if flags is None:
        return f"its config.json was not found, so it is not known whether its filter has {LOG_FLAG}"
    return "" if LOG_FLAG in flags else f"its filter was loaded without {LOG_FLAG}"


def _flags(decided: Decided) -> list[Any] | None:
    """The flags of the section that the runtime was given; None when its config.json is not to be found."""
    for path in _configs(decided):
        try:
            if path.stat().st_size > _LARGEST:
                continue
            section = json.loads(path.read_bytes())["linux"]["seccomp"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        flags = section.get("flags") if isinstance(section, dict) else None
        return flags if isinstance(flags, list) else []
    return None


def _configs(decided: Decided) -> Iterator[Path]:
    """Where Podman and CRI-O put the config.json of a container of root's. A user's own files tell nothing."""
    if decided.place.uid == 0 and _ID.fullmatch(decided.place.id) and os.path.isdir(_HOST):
        yield from Path(_HOST).glob(f"*-containers/{decided.place.id}/userdata/config.json")
