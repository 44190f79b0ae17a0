"""fhir-hook bundle enroll: the hook in a bundle's own config.json, for runc and crun without an engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fhir_hook.cli.failure import Failed
from fhir_hook.core import paths, spec
from fhir_hook.store import files

ENTRY: dict[str, Any] = {
    "path": paths.HOOK,
    "args": ["hook", "prestart"],
    "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
}


@click.group("bundle")
def command() -> None:
    """Work with OCI bundles that no engine made."""


@command.command("enroll")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--undo", is_flag=True, help="Take the entry out again.")
def enroll(directory: Path, undo: bool) -> None:
    """Add the prestart hook to the config.json of the bundle in DIRECTORY (once, however often it is called)."""
    path = directory / "config.json"
    try:
        original = files.read(str(path), spec.MAX_CONFIG)
        document = spec.parse(original).document
    except (OSError, files.FileError, spec.SpecError) as error:
        raise Failed(f"{path}: {error}. 'runc spec' or 'umoci unpack' makes a bundle's config.json") from None
    hooks = document.setdefault("hooks", {})
    present = hooks.get("prestart") if isinstance(hooks, dict) else None
    if not isinstance(hooks, dict) or not isinstance(present, (list, type(None))):
        raise Failed(f"{path}: hooks is not as runtime-spec describes it; repair it first")
    others = [entry for entry in present or [] if not (isinstance(entry, dict) and entry.get("path") == paths.HOOK)]
    hooks["prestart"] = others if undo else [*others, ENTRY]
    if not hooks["prestart"]:
        del hooks["prestart"]
    data = json.dumps(document, indent="\t").encode() + b"\n"
    files.replace(str(path), data, path.stat().st_mode & 0o777)
    click.echo(f"{path}: the prestart hook was {'removed' if undo else 'added'}")
