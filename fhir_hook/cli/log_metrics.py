"""fhir-hook log metrics: the log in numbers, for Prometheus."""

from __future__ import annotations

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
        if not no_scan:
            samples.append(exposition.Sample("containers_unconfined", _unconfined()))
        text = exposition.text(samples)
        if output is not None:
            written_whole(output, [text.encode("ascii")], 0o644)
    if output is None:
        click.echo(text, nl=False)


def _unconfined() -> int:
    from fhir_hook.health import running
    from fhir_hook.health.finding import BAD

    return sum(finding.level == BAD for finding in running.bypassed())
