"""fhir-hook engine: the shim fhir-runc in the configuration of Docker, containerd, Podman and CRI-O."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fhir_hook.cli import host
from fhir_hook.cli.failure import Failed
from fhir_hook.engines import change, engine
from fhir_hook.engines.change import Change, EngineError


@click.group("engine")
def command() -> None:
    """Make fhir-runc a runtime of engines that know no hooks."""


@command.command("configure")
@click.argument("name", metavar="docker|containerd|podman|crio", type=click.Choice(list(engine.ENGINES)))
@click.option("--default", is_flag=True, help="Also make it the default runtime, for all containers.")
@click.option("--undo", is_flag=True, help="Take it out again: the file is as it was before.")
@click.option("--dry-run", is_flag=True, help="Show the difference and change nothing.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="The engine's file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def configure(name: str, default: bool, undo: bool, dry_run: bool, config: Path | None, as_json: bool) -> None:
    """Add fhir-runc to an engine's runtimes. The engine is not restarted: this says what has to be."""
    if undo and default:
        raise click.UsageError("--default says how to add it: leave it out with --undo")
    chosen = engine.ENGINES[name]
    path = config or chosen.config
    try:
        changes = engine.removing(chosen, path) if undo else [engine.adding(chosen, path, default)]
        changes = [one for one in changes if one.before != one.after]
        if not dry_run:
            for one in changes:
                _make(one, name, undo)
    except EngineError as error:
        raise Failed(f"{name}: {error}") from None
    if as_json:
        found = [{"path": str(one.path), "diff": one.diff} for one in changes]
        click.echo(json.dumps({"engine": name, "changed": found, "dry_run": dry_run, "restart": chosen.restart}))
        return
    for one in changes:
        click.echo(one.diff, nl=False)
    if not changes:
        click.echo(f"{name}: nothing to change")
    elif not dry_run:
        click.echo(f"now: {chosen.restart}" if chosen.restart else f"{name} reads it at its next start of a container")
        if not undo:
            click.echo(f"then: {chosen.then}")


def _make(one: Change, name: str, undo: bool) -> None:
    if not undo:
        change.keep(one)
    one.make()
    if undo:
        change.forget(one.path)
    host.record("unconfigured" if undo else "configured", f"{name}: {one.path}")
