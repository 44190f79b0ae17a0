"""fhir-hook explain CODE, and the list of codes."""

from __future__ import annotations

import json

import click

from fhir_hook.core.codes import CODES

KINDS = {"1": "refuses the start", "2": "is a finding; the container started", "3": "says why the image is unknown"}


@click.command("explain")
@click.argument("code")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(code: str, as_json: bool) -> None:
    """Explain a CODE of a refusal or finding (FH101), or the name a runtime shows (FH101-profile-not-installed)."""
    key = code.rpartition("/")[2].partition("-")[0].upper()
    entry = CODES.get(key)
    if entry is None:
        raise click.UsageError(f"there is no code {code!r}; 'fhir-hook codes' lists them")
    if as_json:
        click.echo(json.dumps({"code": key, "slug": entry.slug, "title": entry.title, "hint": entry.hint}))
        return
    click.echo(f"{key} {entry.slug}: {KINDS.get(key[2], 'exempts the container')}.\n  {entry.title}.")
    if entry.hint:
        click.echo(f"What to do: {entry.hint}.")


@click.command("codes")
@click.option("--links", is_flag=True, help="Print the names of the links in /usr/libexec/fhir-hook/refused.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def listing(links: bool, as_json: bool) -> None:
    """List all stable codes."""
    if as_json:
        click.echo(json.dumps({k: {"slug": c.slug, "title": c.title, "hint": c.hint} for k, c in CODES.items()}))
        return
    for key, entry in CODES.items():
        if links:
            if key.startswith("FH1"):
                click.echo(f"{key}-{entry.slug}")
        else:
            click.echo(f"{key}  {entry.slug:28} {entry.title}")
