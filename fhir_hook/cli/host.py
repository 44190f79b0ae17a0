"""fhir-hook host: the hook of this host on and off, and events about it, in the same log as its decisions."""

from __future__ import annotations

import click

from fhir_hook.cli.failure import Failed
from fhir_hook.health import activation
from fhir_hook.store import log


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
    """Take the hook out of force for containers that start from now on; upgrades leave it so."""
    record("disabled", reason)
    try:
        activation.switch_off(reason)
    except activation.ActivationError as error:
        raise Failed(str(error)) from None
    click.echo("disabled: FHIR containers start unconfined and leave no record until 'fhir-hook host enable'")


@command.command("enable")
@click.option("--reason", default="", help="Why; it goes into the log.")
def enable(reason: str) -> None:
    """Put the hook back in force."""
    try:
        activation.switch_on()
    except activation.ActivationError as error:
        raise Failed(str(error)) from None
    record("enabled", reason)
    click.echo("enabled: every container that starts from now on passes through the hook")


@command.command("refresh")
def refresh() -> None:
    """Put the hook in force as the engines are configured now: after edits of containers.conf, and by packages."""
    reason = activation.disabled()
    if reason:
        click.echo(f"the hook stays disabled ({reason}); 'fhir-hook host enable' puts it in force")
        return
    try:
        for path in activation.activate():
            click.echo(f"{path}: written")
    except activation.ActivationError as error:
        raise Failed(f"{error}; the hook is in force as it was before, or not at all: see 'fhir-hook doctor'") from None


@command.command("event")
@click.argument("what", type=click.Choice(["installed", "upgraded", "removed"]))
@click.option("--reason", default="", help="Which package or version.")
def event(what: str, reason: str) -> None:
    """Record that the hook was installed, upgraded or removed (called by the installation itself)."""
    record(what, reason)
