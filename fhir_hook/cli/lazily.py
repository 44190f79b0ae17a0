"""Groups of commands whose modules are imported when they are asked for: most of the command's start was these."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class Group(click.Group):
    """A click group with `members`: a command's name to "module:attribute" in this package."""

    def __init__(self, *arguments: Any, members: Mapping[str, str], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._members = members

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the alphabet as click has it."""
        return sorted([*self._members, *super().list_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command by this name, None when there is none."""
        if cmd_name not in self._members:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._members[cmd_name].partition(":")
        found: click.Command = getattr(importlib.import_module(f"{__package__}.{module}"), attribute)
        return found
