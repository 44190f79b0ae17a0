"""fhir-hook log archive, remove, restore and tiles: the log's copies, and how long it is kept."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import NoReturn

import click

from fhir_hook.audit import archive, retention, signing
from fhir_hook.audit.places import Places
from fhir_hook.cli.failure import Failed
from fhir_hook.cli.log_checkpoint import failures, parse_age
from fhir_hook.cli.log_verify import EXISTING, json_option, key_option, read_checkpoint, verifiers
from fhir_hook.store import log


@click.command("archive")
@click.option("--to", "target", required=True, type=click.Path(file_okay=False, path_type=Path), help="The archive.")
@json_option
def save(target: Path, as_json: bool) -> None:
    """Sign the log, copy what the archive lacks, and verify the copy: on another machine it verifies by itself."""
    places = Places.default()
    try:
        with failures():
            report = archive.save(places, target)
            retention.archived(places, target, report.signed)
            log.append({"event": "log", "what": "archived", "records": report.signed, "files": len(report.files)})
    except (signing.Refused, archive.ArchiveError) as error:
        _no(str(error), as_json)
    if as_json:
        click.echo(json.dumps({"archived": report.signed, "files": report.files}))
    else:
        click.echo(f"{target} holds {report.signed:,} signed records in {len(report.files)} files, and verifies")


@click.command("remove")
@click.option("--archive", "source", required=True, type=EXISTING, help="Where they are kept.")
@click.option("--keep", help="Keep here what is younger; default: the setting log.keep, 6y.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
def remove(source: Path, keep: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove closed segments that are old enough, signed, and in the archive byte for byte; nothing else ever goes."""
    before = time.time() - parse_age(keep or retention.setting("keep", retention.KEEP))
    try:
        with failures():
            found = archive.removable(Places.default(), source, before)
            if not dry_run:
                archive.remove(found)
    except archive.ArchiveError as error:
        _no(str(error), as_json)
    names = [part.path.name for part in found.parts]
    if as_json:
        click.echo(json.dumps({"removed": [] if dry_run else names, "removable": names, "kept": found.kept}))
    else:
        for name in names:
            click.echo(f"{'would go' if dry_run else 'removed'}: {name}")
        click.echo(f"stays: {found.kept}" if found.kept else "nothing else is closed")


@click.command("restore")
@click.option("--from", "source", required=True, type=EXISTING, help="The archive.")
@key_option
@click.option("--checkpoint", "paths", multiple=True, type=EXISTING, help="The newest one that is held elsewhere.")
@json_option
def restore(source: Path, given: tuple[str, ...], paths: tuple[Path, ...], as_json: bool) -> None:
    """Put an archive in the place of a lost log, after verifying it with a key that did not come with it.

    With --checkpoint it is refused when records are missing that were signed since.
    """
    known = verifiers(given, copy=True)
    signed = [read_checkpoint(path, known) for path in (source / "tree" / "checkpoint", *paths)]
    try:
        with failures():
            report = archive.restore(Places.default(), source, signed)
            log.append({"event": "log", "what": "restored", "records": report.records, "signed": report.signed})
    except archive.ArchiveError as error:
        _no(str(error), as_json)
    if as_json:
        click.echo(json.dumps({"restored": report.records, "signed": report.signed}))
    else:
        click.echo(f"restored {report.records:,} records, {report.signed:,} of them signed")
        click.echo("the private key is not in an archive: put its backup back, or run 'fhir-hook log key new --lost'")


@click.command("tiles")
@click.option("--to", "target", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where to.")
@json_option
def publish(target: Path, as_json: bool) -> None:
    """Write the signed log as static files in the layout of C2SP tlog-tiles, for monitors of any make."""
    try:
        with failures():
            count = archive.publish_tiles(Places.default(), target)
    except archive.ArchiveError as error:
        raise Failed(str(error)) from None
    click.echo(json.dumps({"written": count}) if as_json else f"{count} files written to {target}")


def _no(problem: str, as_json: bool) -> NoReturn:
    click.echo(json.dumps({"problem": problem}) if as_json else f"fhir-hook: {problem}", err=not as_json)
    sys.exit(1)
