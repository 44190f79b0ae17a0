"""fhir-hook host: events about the hook itself, which belong in the same log as its decisions."""

from __future__ import annotations

from pathlib import Path

import click

from fhir_hook.cli.failure import Failed
from fhir_hook.store import log

HOOK_FILES = (
    Path("/usr/share/containers/oci/hooks.d/50-fhir-hook.json"),
    Path("/usr/share/fhir-hook/podman-hooks.d/50-fhir-hook.json"),
)
SUFFIX = ".disabled"


@click.group("host")
def command() -> None:
    """Switch the hook of this host off and on, on record."""


def record(what: str, reason: str) -> None:
    """Put one event about the hook into the log; raises Failed."""
    try:
        log.append({"event": "hook", "what": what, "reason": reason[:512]})
    except log.LogError as error:
        raise Failed(f"the event is not in the log: {error}") from None


@command.command("disable")
@click.option("--reason", required=True, help="Why; it goes into the log.")
def disable(reason: str) -> None:
    """Take the hook out of force for containers that start from now on."""
    record("disabled", reason)
    for path in HOOK_FILES:
        if path.exists():
            path.rename(path.with_name(path.name + SUFFIX))
    click.echo("disabled: FHIR containers start unconfined and leave no record until 'fhir-hook host enable'")


@command.command("enable")
@click.option("--reason", default="", help="Why; it goes into the log.")
def enable(reason: str) -> None:
    """Put the hook back in force."""
    for path in HOOK_FILES:
        disabled = path.with_name(path.name + SUFFIX)
        if disabled.exists():
            disabled.rename(path)
    record("enabled", reason)
    click.echo("enabled: every container that starts from now on passes through the hook")


@command.command("event")
@click.argument("what", type=click.Choice(["installed", "removed"]))
@click.option("--reason", default="", help="Which package or version.")
def event(what: str, reason: str) -> None:
    """Record that the hook was installed or removed (called by the installation itself)."""
    record(what, reason)
