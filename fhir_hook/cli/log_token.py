"""fhir-hook log token: which token stands for a name, where names are hashed."""

from __future__ import annotations

import json

import click

from fhir_hook.cli.failure import Failed
from fhir_hook.cli.log_checkpoint import failures
from fhir_hook.cli.log_verify import json_option
from fhir_hook.store import names


@click.command("token")
@click.argument("given", nargs=-1, required=True, metavar="NAME...")
@json_option
def token(given: tuple[str, ...], as_json: bool) -> None:
    """Say which token stands for the name of a container, for whoever may read the key: 'log --container TOKEN'."""
    with failures():
        try:
            if not names.exists():
                raise Failed(f"{names.key_path()} is not there: no name was hashed yet")
            found = {name: names.token(name) for name in given}
        except names.NamesError as error:
            raise Failed(str(error)) from None
    for name, shown in found.items():
        click.echo(shown if not as_json else json.dumps({"name": name, "token": shown}))
