"""fhir-hook inspect: what the kernel enforces on a container now."""

from __future__ import annotations

import json

import click
from rich.console import Console

from fhir_hook.authoring import containers, inspection
from fhir_hook.cli.failure import Failed
from fhir_hook.core import capabilities

MODES = {0: "none", 1: "strict", 2: "filter"}


@click.command("inspect")
@click.argument("target")
@click.option("--calls", is_flag=True, help="List the calls by what the filters answer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all calls.")
def command(target: str, calls: bool, as_json: bool) -> None:
    """Show what the kernel enforces on TARGET: a container's name or id, or a process number."""
    try:
        seen = inspection.Inspection(containers.find(target))
    except containers.NotFound as error:
        raise Failed(str(error)) from None
    except (OSError, KeyError) as error:
        raise Failed(f"{target}: it ended, or may not be looked at: {error}") from None
    if as_json:
        click.echo(json.dumps(seen.as_object()))
        return
    _show(seen, calls)


def _show(seen: inspection.Inspection, calls: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    running, status = seen.running, seen.status
    name = " ".join(filter(None, (running.name, running.id[:12])))
    console.print(
        f"[bold]{name or 'process'}[/bold]  init {running.init}, {len(running.pids)} processes, {seen.tasks} tasks"
    )
    console.print(f"  seccomp       {MODES.get(status.seccomp, status.seccomp)}, {status.filters} filter(s)")
    if seen.unread:
        console.print(f"                {seen.unread}")
    else:
        counts = seen.counts
        console.print(
            f"  calls         {counts['allowed']} allowed, {counts['filtered']} by their arguments, "
            f"{counts['logged']} logged, {counts['denied']} denied, of {sum(counts.values())}"
        )
        profile = inspection.profile_of(seen)
        said = {"exact": "its very bytes", "alike": "the same answers to every call", "tighter": "or tighter"}
        console.print(
            f"  profile       {profile['name']} ({said[profile['how']]})" if profile["name"] else "  profile       none"
        )
    console.print(f"  no_new_privs  {'yes' if status.no_new_privs else 'no'}")
    for kind in inspection.SETS:
        names = capabilities.names(getattr(status.capabilities, kind))
        console.print(f"  {kind:12}  {' '.join(names).lower() if names else 'none'}")
    if seen.different:
        console.print(f"  [red]different[/red]     {len(seen.different)} tasks are confined differently:")
        for task in seen.different[:20]:
            console.print(f"    {task.pid}/{task.tid} {task.name!r}: {task.state}", markup=False)
    if calls:
        for kind in ("allowed", "filtered", "logged", "denied"):
            names = sorted(n for n, verdict in seen.verdicts.items() if verdict == kind)
            console.print(f"[bold]{kind}[/bold] ({len(names)}): {' '.join(names)}")
