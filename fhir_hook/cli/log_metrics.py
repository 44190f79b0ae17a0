"""fhir-hook log metrics: the log in numbers, for Prometheus."""

from __future__ import annotations

import os
from pathlib import Path

import click

from fhir_hook.audit.cursor import CursorError
from fhir_hook.audit.places import Places
from fhir_hook.cli.failure import Failed
from fhir_hook.cli.log_checkpoint import failures
from fhir_hook.exports import counting
from fhir_hook.exports import metrics as exposition
from fhir_hook.exports.file import written_whole


@click.command("metrics")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to; default: stdout.")
@click.option("--no-scan", is_flag=True, help="Don't look at the containers that run now.")
def metrics(output: Path | None, no_scan: bool) -> None:
    """Write metrics for the textfile collector of Prometheus' node_exporter; for a timer.

    Only what is new in the log is read. No label holds the name of a container, an image or a user.
    """
    places = Places.default()
    with failures():
        try:
            found = counting.counted(places.log, places.tree.parent / "metrics")
        except CursorError as error:
            raise Failed(str(error)) from None
        samples = exposition.counts(found) + exposition.log_state(places, found)
        unconfined = None if no_scan else _unconfined()
        if unconfined is not None:
            samples.append(exposition.Sample("containers_unconfined", unconfined))
        text = exposition.text(samples)
        if output is not None:
            written_whole(output, [text.encode("ascii")], 0o644)
    if output is None:
        click.echo(text, nl=False)


def _unconfined() -> int | None:
    """How many; None when there is no policy to compare with, or others' containers can't be looked at."""
    from fhir_hook.health import running
    from fhir_hook.health.finding import BAD

    found = [finding.level for finding in running.bypassed()]
    return found.count(BAD) if found and os.geteuid() == 0 else None
