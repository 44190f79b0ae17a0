"""fhir-hook log deliver: records go to an audit record repository as AuditEvents."""

from __future__ import annotations

import json
import shlex
from hashlib import sha256
from pathlib import Path

import click

from fhir_hook.audit import cursor, deliver
from fhir_hook.audit.places import Places
from fhir_hook.cli.failure import Failed
from fhir_hook.cli.log_checkpoint import failures
from fhir_hook.cli.log_export import origin_here
from fhir_hook.cli.log_forward import Forwarder, command_line
from fhir_hook.cli.log_verify import EXISTING, json_option
from fhir_hook.store import names


@click.command("deliver")
@click.option("--to", "base", required=True, help="The repository's service base URL, https://HOST[:PORT]/PATH.")
@click.option("--ca", type=EXISTING, help="The authority that the server's certificate is from; default: the system's.")
@click.option("--certificate", type=EXISTING, help="This host's own certificate with its key, if the server wants one.")
@click.option("--create", is_flag=True, help="Conditional creates (ITI-20 to the letter) in the place of updates.")
@click.option("--follow", is_flag=True, help="Go on with what comes; for a service.")
@json_option
def send(base: str, ca: Path | None, certificate: Path | None, create: bool, follow: bool, as_json: bool) -> None:
    """Deliver what was not delivered yet to a FHIR server, in batches of AuditEvents (IHE ITI-20, FHIR Feed).

    It goes on where it stood, whenever it was stopped or the repository was away. What is sent again after a kill is
    kept once: an AuditEvent's id is the digest of its record.
    """
    from fhir_hook.exports import repository

    places = Places.default()
    authority, own = (str(path) if path else None for path in (ca, certificate))
    with failures():
        try:
            hide, signed = names.by_policy(), places.checkpoint
            to = repository.Repository(base, authority, own, origin_here(), create, hide, signed)
            again = f"fhir-hook log deliver --to {shlex.quote(base)}" + (" --create" if create else "")
            name = f"fhir-{sha256(base.encode()).hexdigest()[:12]}"
            forwarder = Forwarder(places, name, to, f"the repository {base}", command_line(again, ca, certificate))
            count = forwarder.run() if not follow else forwarder.follow()
        except repository.AddressError as error:
            raise click.BadParameter(str(error), param_hint="--to") from None
        except (cursor.CursorError, deliver.DeliveryError) as error:
            raise Failed(f"{error}; what was not delivered stays for the next time") from None
    for digest in to.left:
        click.echo(f"fhir-hook: the line with the SHA-256 {digest} is no record, and was left out", err=True)
    delivered = count - to.left_out
    document = {"delivered": delivered, "left_out": to.left_out}
    click.echo(json.dumps(document) if as_json else f"delivered {delivered} records")
