"""fhir-hook profile: record, read, compare, try and install profiles."""

from __future__ import annotations

import click

from fhir_hook.cli import (
    profile_convert,
    profile_diff,
    profile_explain,
    profile_lint,
    profile_list,
    profile_record,
    profile_surface,
    profile_test,
    profile_vendor,
)


@click.group("profile")
def command() -> None:
    """Record, explain, check, compare, try and install profiles."""


command.add_command(profile_record.command)
command.add_command(profile_test.command)
command.add_command(profile_lint.command)
command.add_command(profile_explain.command)
command.add_command(profile_explain.why_not)
command.add_command(profile_diff.command)
command.add_command(profile_convert.import_)
command.add_command(profile_convert.export)
command.add_command(profile_surface.command)
command.add_command(profile_vendor.install)
command.add_command(profile_list.command)
command.add_command(profile_vendor.remove)
