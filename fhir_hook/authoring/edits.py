"""Edits of what a policy is compiled from, told by times and sizes: what is seen now, and what was refused last."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from fhir_hook.core import paths
from fhir_hook.core.digest import sha256_hex
from fhir_hook.store import files

_LIMIT = 1 << 20


def seen() -> dict[str, tuple[int, int]]:
    """Modification time (ns) and size of everything that is compiled, by path; files may go meanwhile."""
    found = {}
    for folder in (paths.SHIPPED_PROFILES, Path(paths.CONFIG).parent):
        for path in (Path(folder), *Path(folder).rglob("*")):
            with contextlib.suppress(OSError):
                found[str(path)] = (path.stat().st_mtime_ns, path.stat().st_size)
    return found


def keep_refused(edit: dict[str, tuple[int, int]], problems: list[str]) -> None:
    """Note that this edit is refused, and why: who looks for edits by the clock need not say it again and again."""
    said = {"edit": _digest(edit), "problems": problems}
    with contextlib.suppress(OSError):
        files.replace(paths.REFUSED_EDIT, json.dumps(said).encode(), durable=False)


def refused() -> list[str]:
    """The problems for which what is seen now was refused; [] when something changed since, or nothing was refused."""
    try:
        said = json.loads(files.read_trusted(paths.REFUSED_EDIT, _LIMIT))
        return [str(problem) for problem in said["problems"]] if said["edit"] == _digest(seen()) else []
    except (OSError, files.FileError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _digest(edit: dict[str, tuple[int, int]]) -> str:
    return sha256_hex(json.dumps(edit, sort_keys=True).encode())
