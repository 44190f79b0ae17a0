"""The files that config.toml of containerd imports, in the order in which containerd reads them.

A later file overrides an earlier one, and a file's imports are read after all that were named before them
(containerd docs/man/containerd-config.toml.5.md, cmd/containerd/server/config: LoadConfig, resolveImports).
"""

from __future__ import annotations

import glob
import os
import tomllib
from pathlib import Path
from typing import Any

from fhir_hook.engines import change
from fhir_hook.engines.change import EngineError

_MOST = 1000


def files(config: Path, text: str | None) -> list[tuple[Path, dict[str, Any]]]:
    """(path, document) of each imported file that can be read. Raises EngineError for one that is no TOML."""
    found: dict[Path, dict[str, Any]] = {}
    pending = patterns(config, _parsed(config, text))
    while pending and len(found) < _MOST:
        for name in sorted(glob.glob(pending.pop(0))):
            path = Path(name)
            content = change.read(path) if path not in found and path != config else None
            if content is not None:
                found[path] = _parsed(path, content)
                pending += patterns(path, found[path])
    return list(found.items())


def patterns(config: Path, document: dict[str, Any]) -> list[str]:
    """What a file imports; a path that is not absolute is one from the file's own directory on."""
    imports = document.get("imports", [])
    found = [item for item in imports if isinstance(item, str)] if isinstance(imports, list) else []
    return [os.path.normpath(os.path.join(config.parent, item)) for item in found]


def _parsed(path: Path, text: str | None) -> dict[str, Any]:
    try:
        return tomllib.loads(text or "")
    except tomllib.TOMLDecodeError as error:
        raise EngineError(f"{path} is not TOML ({error}): containerd does not start with it either") from None
