"""The command's start: no module of a command that was not asked for."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from fhir_hook.cli import log, main, profile
from host.machine import ROOT

HEAVY = {"jsonschema", "psutil", "rich", "cryptography", "yaml", "jinja2", "fhir_hook.authoring.policy"}
LISTS = HEAVY - {"jinja2", "yaml"}  # the help of a group has a line of each of its commands


@pytest.mark.parametrize("words", [["--version"], ["codes"], ["explain", "FH101"], ["log", "--help"]])
def test_a_command_imports_nothing_of_the_others(words: list[str]) -> None:
    unused = HEAVY - (set(LISTS) if words == ["log", "--help"] else set())
    script = (
        "import sys; from fhir_hook.cli.main import command\n"
        "try: command(sys.argv[1:])\n"
        "except SystemExit: print('modules', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-B", "-c", script, *words],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not unused & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("group", [main.command, log.command, profile.command], ids=lambda group: group.name)
def test_every_name_leads_to_a_command_of_this_name(group: click.Group) -> None:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None and found.name == name
    assert group.get_command(context, "nothing") is None
