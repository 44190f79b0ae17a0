"""fhir-hook profile list: the profiles with their origins, or the groups with their calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.text import Text

from fhir_hook.cli import profile_shared as shared
from fhir_hook.core import paths
from fhir_hook.review import catalogue, vendor


@click.command("list")
@click.option("--groups", is_flag=True, help="List the groups of calls instead.")
@click.option("--markdown", is_flag=True, help="Print the groups with all calls as Markdown (docs/calls.md).")
@shared.json_option
@shared.profiles_option
def command(groups: bool, markdown: bool, as_json: bool, folder: Path | None) -> None:
    """List the profiles: what they are for, where they come from, their digest; or the groups that they are made of."""
    profiles = shared.load(folder)
    if markdown:
        click.echo(catalogue.markdown(profiles.sources, profiles.shipped), nl=False)
        return
    entries = catalogue.groups(profiles.sources) if groups else _profiles(profiles)
    if as_json:
        shared.print_json(entries)
        return
    columns = ("name", "calls", "what", "included by"), ("name", "version", "mode", "from", "sha256", "what")
    table = shared.table(*columns[not groups], fixed=1 if groups else 3)
    for entry in entries:
        if groups:
            users = " ".join(entry["included_by"])
            table.add_row(entry["name"], str(len(entry["calls"])), shared.text(entry["title"]), shared.text(users))
        else:
            style = "yellow" if entry["state"] else ""
            origin = shared.text(entry["origin"]) + Text(f" {entry['state']}".rstrip(), style=style)
            name, digest, title = entry["name"], entry["sha256"][:12], shared.text(entry["title"])
            table.add_row(name, entry["version"], entry["mode"], origin, digest, title)
    shared.console().print(table)
    for finding in profiles.sources.findings:
        click.echo(shared.safe(str(finding), keep="\n"), err=True)


def _profiles(profiles: shared.Profiles) -> list[dict[str, Any]]:
    store = vendor.Store(profiles.local or Path(paths.LOCAL_PROFILES))
    entries = []
    for name, source in sorted(profiles.sources.profiles.items()):
        digest = store.digest(source.path)
        origin, state = "shipped", ""
        if source.local:
            kept = store.origin(name)
            where = " ".join(filter(None, (kept.get("kind", ""), kept.get("source", ""), kept.get("path", ""))))
            origin = where or "written here"
            state = "edited since" if kept and kept.get("digest") != digest else ""
            if (profiles.shipped / f"{name}.json").exists():
                state = " ".join(filter(None, (state, "in the place of the shipped one")))
        entries.append(
            {
                "name": name,
                "version": source.document["version"],
                "title": source.document["title"],
                "mode": source.document.get("mode", "enforce"),
                "kind": source.document.get("kind"),
                "origin": origin,
                "state": state,
                "sha256": digest,
                "path": str(source.path),
            }
        )
    return entries
