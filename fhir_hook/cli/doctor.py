"""fhir-hook doctor: the whole chain from the engines' configuration to the containers that run now."""

from __future__ import annotations

import dataclasses
import json
import os
import sys

import click
from rich.console import Console

from fhir_hook.health.checkup import checkup
from fhir_hook.health.finding import BAD, GOOD, NOTE, Finding

MARKS = {GOOD: "[green]good[/green]", NOTE: "[yellow]note[/yellow]", BAD: "[bold red]bad [/bold red]"}


@click.command("doctor")
@click.option("--probe", is_flag=True, help="Also start a FHIR container and another one, and look at them.")
@click.option("--all", "everything", is_flag=True, help="Print what is well, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with everything.")
def command(probe: bool, everything: bool, as_json: bool) -> None:
    """Look at all that FHIR containers' confinement depends on; say what is wrong, why it matters, what repairs it.

    The exit code is for monitoring: 0 healthy, 1 something is wrong.
    """
    findings = list(checkup(probe))
    wrong = [finding for finding in findings if finding.level == BAD]
    if as_json:
        found = [dataclasses.asdict(finding) for finding in findings]
        click.echo(json.dumps({"healthy": not wrong, "root": os.geteuid() == 0, "findings": found}))
    else:
        _show(findings, everything)
    sys.exit(1 if wrong else 0)


def _show(findings: list[Finding], everything: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        if finding.level == GOOD and not everything:
            continue
        console.print(f"{MARKS[finding.level]}  {finding.check}: ", end="")
        console.print(finding.seen, markup=False)
        if finding.why:
            console.print(f"      {finding.why}", markup=False)
        if finding.repair:
            console.print(f"      repair: {finding.repair}", markup=False)
    counts = {level: sum(finding.level == level for finding in findings) for level in MARKS}
    if os.geteuid() != 0:
        console.print("not run as root: the host's log, policy and other users' containers were not looked into")
    verdict = "not healthy" if counts[BAD] else "healthy"
    console.print(f"{verdict}: {counts[GOOD]} checks good, {counts[NOTE]} notes, {counts[BAD]} bad")
