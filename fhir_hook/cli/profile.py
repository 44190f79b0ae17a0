"""fhir-hook profile: record, read, compare, try and install profiles."""

from __future__ import annotations

import click


@click.group("profile")
def command() -> None:
    """Record, explain, check, compare, try and install profiles."""
