"""fhir-hook profile: record, read, compare, try and install profiles."""

from __future__ import annotations

import click

from fhir_hook.cli import lazily

MEMBERS = {
    **{name: f"profile_{name}:command" for name in ("diff", "explain", "lint", "list", "record", "surface", "test")},
    **{"why-not": "profile_explain:why_not", "import": "profile_convert:import_", "export": "profile_convert:export"},
    **{"install": "profile_vendor:install", "remove": "profile_vendor:remove"},
}


@click.group("profile", cls=lazily.Group, members=MEMBERS)
def command() -> None:
    """Record, explain, check, compare, try and install profiles."""
