"""Which hooks directories containers.conf(5) gives to Podman, and which file said so.

Files are read in this order, and a later hooks_dir replaces an earlier one unless append=true was said with it
(containers/common pkg/config New(), and its attributedstring.Slice; Podman before 5 knows no append).
"""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from fhir_hook.core import paths

BUILT_IN = ("/usr/share/containers/oci/hooks.d",)
SYSTEM = Path("/usr/share/containers/containers.conf")
HOST = Path("/etc/containers/containers.conf")


class ConfError(Exception):
    """A containers.conf can't be read, which makes Podman itself fail; str() is one line."""


@dataclasses.dataclass(frozen=True)
class InForce:
    """`directories` in the order that Podman reads them; `path` is the file that said so, None for the built-in."""

    directories: tuple[str, ...]
    path: Path | None


def files(home: Path | None = None, system: Path = SYSTEM, host: Path = HOST) -> list[Path]:
    """The configuration files that exist, in the order of reading; `home` adds those of a rootless user."""
    found = [system, host, *_dropins(host)]
    if home is not None:
        own = home / ".config/containers/containers.conf"
        found += [own, *_dropins(own)]
    return [path for path in found if path.is_file()]


def _dropins(conf: Path) -> list[Path]:
    try:
        return sorted(path for path in Path(f"{conf}.d").iterdir() if path.suffix == ".conf")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def in_force(sources: list[Path], without: Path | None = None) -> InForce:
    """What `sources` together say, leaving out the file `without`. Raises ConfError."""
    found, appending = InForce(BUILT_IN, None), False
    for path in sources:
        said = None if path == without else hooks_dir(path)
        if said is None:
            continue
        directories, append = said
        appending = appending if append is None else append
        merged = (*found.directories, *directories) if appending else directories
        found = InForce(tuple(dict.fromkeys(merged)), path)
    return found


def hooks_dir(path: Path) -> tuple[tuple[str, ...], bool | None] | None:
    """The hooks_dir of one file, and its append attribute or None; None where it sets none. Raises ConfError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfError(f"{path}: {error}") from None
    engine = document.get("engine")
    said = engine.get("hooks_dir") if isinstance(engine, dict) else None
    if not isinstance(said, list):
        return None
    return tuple(item for item in said if isinstance(item, str)), _append(said)


def _append(said: list[Any]) -> bool | None:
    attributes = [item["append"] for item in said if isinstance(item, dict) and isinstance(item.get("append"), bool)]
    return attributes[-1] if attributes else None


def dropin(directories: tuple[str, ...]) -> str:
    """The text of our drop-in: the list that is in force without it, and Podman's own directory of hooks behind it."""
    quoted = ", ".join(f'"{_escaped(name)}"' for name in (*directories, paths.PODMAN_HOOKS))
    return (
        "# Made by 'fhir-hook host refresh' from the hooks_dir of other containers.conf files: edit those instead.\n"
        "# A file in a later directory replaces the file of the same name in an earlier one. So Podman runs the\n"
        "# precreate hook, and engines that know only the OCI stages the prestart hook in the shared directory.\n"
        "[engine]\n"
        f"hooks_dir = [{quoted}]\n"
    )


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')
