"""The administrator's settings: /etc/fhir-hook/config.toml, then the files of config.d by name.

A later file's value replaces an earlier one's; [[bind]] entries add up, those of earlier files first.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema

from fhir_hook.authoring import schema as reading
from fhir_hook.authoring.signature import Signers
from fhir_hook.core import decide, paths

SCHEMA = "settings.schema.json"
# The settings below [log], by the names that the hook's index has for them.
LOG_SETTINGS = {"decisions": "log"} | {
    name: name for name in ("names", "denials", "segment_size", "segment_age", "keep")
}


class SettingsError(Exception):
    """The settings can't be used; str() is one line with file, place, problem and what is allowed."""


class Settings:
    """`values` as the hook's index wants them, `bindings`, and the `sources` they came from."""

    def __init__(self, values: dict[str, str], bindings: list[dict[str, str]], sources: list[Path]) -> None:
        self.values = values
        self.bindings = bindings
        self.sources = sources


def load(
    config: str = paths.CONFIG,
    dropins: str = paths.CONFIG_DROPINS,
    schemas: Path | None = None,
    signers: Signers | None = None,
) -> Settings:
    """Read and check all settings files; ones that don't exist leave the defaults. Raises SettingsError.

    With `signers` every file must be signed by one of them.
    """
    files = [path for path in [Path(config), *sorted(Path(dropins).glob("*.toml"))] if path.exists()]
    schema = json.loads(((schemas or Path(paths.SHIPPED_PROFILES) / "schema") / SCHEMA).read_text())
    values = dict(decide.DEFAULTS)
    bindings: list[dict[str, str]] = []
    for path in files:
        document = _read(path, schema, signers)
        bindings += document.pop("bind", [])
        log = document.pop("log", {})
        for setting, name in LOG_SETTINGS.items():
            if setting in log:
                values[name] = log[setting]
        values.update({f"runtime.{kind}": program for kind, program in document.pop("runtime", {}).items()})
        values.update(document)
    return Settings(values, bindings, files)


def _read(path: Path, schema: dict[str, Any], signers: Signers | None) -> dict[str, Any]:
    try:
        data = reading.read_bytes(path)
        problem = signers.problem(path, data) if signers is not None else ""
        if problem:
            raise SettingsError(f"{path}: {problem}")
        document = tomllib.loads(data.decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    found = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(document))
    if found is not None:
        place = ".".join(str(part) for part in found.absolute_path) or "(top level)"
        described = found.schema.get("description", "") if isinstance(found.schema, dict) else ""
        raise SettingsError(f"{path}: {place}: {found.message}" + (f" ({described})" if described else ""))
    return document
