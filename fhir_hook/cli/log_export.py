"""fhir-hook log export: the log in the formats of others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from fhir_hook.audit import keys
from fhir_hook.audit.places import Places
from fhir_hook.audit.selection import Record, Selection
from fhir_hook.cli.failure import Failed
from fhir_hook.cli.selecting import selection_options
from fhir_hook.exports import writing
from fhir_hook.exports.file import written_whole
from fhir_hook.exports.hiding import hidden
from fhir_hook.store import log, log_reader, names

_SHOWN = 20


@click.command("export")
@click.option("--format", "format", type=click.Choice(list(writing.FORMATS)), required=True, help="What to write.")
@selection_options
@click.option("--file", "path", type=click.Path(path_type=Path), help="Another log: its directory, or one file.")
@click.option("--origin", default=None, help="What the log is called; default: as its key says.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to; default: stdout.")
def export(format: str, selection: Selection, path: Path | None, origin: str | None, output: Path | None) -> None:
    """Write records as FHIR R4 AuditEvent resources or as Elastic Common Schema documents.

    Exit code 1: the chain does not hold, or a record could not be exported; everything else was.
    """
    reading = Reading(path or Path(log.directory()), selection, names.by_policy())
    left = writing.Left()
    name = origin if origin is not None else ("" if path else origin_here())
    try:
        pieces = writing.written(format, reading.records(), name, left)
        if output is None:
            for piece in pieces:
                click.echo(piece, nl=False)
        else:
            written_whole(output, (piece.encode("ascii") for piece in pieces))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failed(f"{error.filename or output or reading.source}: {error.strerror or error}") from None
    for digest, why in left.out[:_SHOWN]:
        click.echo(f"fhir-hook: the record with the SHA-256 {digest} is left out: {why}", err=True)
    if left.out[_SHOWN:]:
        click.echo(f"fhir-hook: and {len(left.out) - _SHOWN} more", err=True)
    sys.exit(1 if left.out or reading.problems else 0)


class Reading:
    """The selected records of a log, one by one; what is wrong with the log is said on stderr and counted."""

    def __init__(self, source: Path, selection: Selection, hide: bool) -> None:
        self.source = source
        self.problems = 0
        self._selection = selection
        self._hide = hide

    def records(self) -> Iterator[tuple[Record, str]]:
        """Each record with the SHA-256 of its line; raises OSError."""
        try:
            yield from self._records()
        except FileNotFoundError as error:
            if error.filename != str(self.source):
                raise
            click.echo(f"{self.source} holds no log: nothing was decided yet", err=True)

    def _records(self) -> Iterator[tuple[Record, str]]:
        for entry in log_reader.entries(self.source):
            if entry.problem:
                self.problems += 1
                click.echo(f"{entry.path}:{entry.number}: {entry.problem}", err=True)
            if entry.record and self._selection.matches(entry.record):
                yield (hidden(entry.record) if self._hide else entry.record), entry.digest


def origin_here() -> str:
    """What this host's log is called; "" when it has no key yet."""
    kept = keys.Keys(Places.default().keys)
    try:
        return str(kept.about()["origin"]) if kept.exist else ""
    except keys.KeyProblem:
        return ""
