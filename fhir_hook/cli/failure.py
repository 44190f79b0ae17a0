"""How the command says that something could not be done."""

from __future__ import annotations

import click


class Failed(click.ClickException):
    """What was asked for could not be done: one line on stderr, and exit code 3."""

    exit_code = 3

    def show(self, file: object = None) -> None:
        """Print the line."""
        click.echo(f"fhir-hook: {self.format_message()}", err=True)
