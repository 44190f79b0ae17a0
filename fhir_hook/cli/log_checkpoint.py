"""fhir-hook log checkpoint, rotate and key: what keeps the log's evidence up to date."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from fhir_hook.audit import keys, retention, signing, tiles, tree
from fhir_hook.audit.note import Signer
from fhir_hook.audit.places import Places
from fhir_hook.cli.failure import Failed
from fhir_hook.store import log, rotation


@contextmanager
def failures() -> Iterator[None]:
    """Turn what can go wrong with the log, the tree and the keys into one line and exit code 3."""
    try:
        yield
    except (keys.KeyProblem, tree.TreeError, tiles.TilesError, log.LogError) as error:
        raise Failed(str(error)) from None
    except OSError as error:
        raise Failed(f"{error.filename or 'the log'}: {error.strerror or error}") from None


def parse_size(text: str) -> int:
    """Bytes from 500K, 64M, 1G."""
    try:
        return retention.size_of(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def parse_age(text: str) -> float:
    """Seconds from 12h, 30d, 6y."""
    try:
        return retention.age_of(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command("checkpoint")
@click.option("--make-key", is_flag=True, help="Make the key first, when this log never had one and was never signed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def checkpoint(make_key: bool, as_json: bool) -> None:
    """Sign the log as it is now, unless that is done already.

    Exit code 1: records that were signed before are missing or changed, or the chain of the new ones does not hold.
    """
    try:
        with failures():
            places = Places.default()
            kept = keys.Keys(places.keys)
            # A log that was signed and has no key any more has lost it: that takes a person.
            if make_key and not kept.exist and not places.history.exists() and not places.checkpoint.exists():
                _record("new", "", kept.create(keys.new_origin()))
            made = signing.make(places)
    except signing.Refused as error:
        click.echo(json.dumps({"signed": False, "problem": str(error)}) if as_json else f"fhir-hook: {error}", err=True)
        sys.exit(1)
    update = made.update
    if as_json:
        at = made.signed.checkpoint
        document = {"signed": True, "new": made.new, "origin": at.origin, "size": at.size, "root": at.root.hex()}
        problems = [{"seq": p.index, "file": p.path, "text": p.text} for p in update.problems]
        click.echo(json.dumps({**document, "added": update.records, "rebuilt": update.rebuilt, "problems": problems}))
    else:
        for problem in update.problems:
            click.echo(f"fhir-hook: {problem.path}: record {problem.index}: {problem.text}", err=True)
        click.echo(made.signed.data.decode(), nl=False)
    sys.exit(1 if update.problems else 0)


@click.command("rotate")
@click.option("--size", help="Close the segment when it is this large; default: the setting log.segment_size, 64M,")
@click.option("--age", help="or its first record this old; default: the setting log.segment_age, 30d,")
@click.option("--now", is_flag=True, help="or in any case.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rotate(size: str | None, age: str | None, now: bool, as_json: bool) -> None:
    """Close the file that the log is written to, if it is due, and begin a new one; no record is lost on the way."""
    largest = parse_size(size or retention.setting("segment_size", retention.SEGMENT_SIZE))
    oldest = parse_age(age or retention.setting("segment_age", retention.SEGMENT_AGE))
    with failures():
        closed = rotation.rotate(log.directory(), 0 if now else largest, time.time() - oldest)
    if as_json:
        click.echo(json.dumps({"closed": str(closed) if closed else None}))
    else:
        click.echo(f"closed: {closed}" if closed else "not due")


@click.group("key")
def key() -> None:
    """The key that signs the log's checkpoints."""


@key.command("new")
@click.option("--origin", default="", help="What the log is called from now on; default: HOST/fhir-hook/8 digits.")
@click.option("--lost", is_flag=True, help="The private key is lost: make another; the log keeps its name.")
@click.option("--copied", is_flag=True, help="This machine is a copy of another: the log here becomes one of its own.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def new(origin: str, lost: bool, copied: bool, as_json: bool) -> None:
    """Make the key, once; the log has a name from then on. Every change of keys is in the log."""
    places = Places.default()
    kept = keys.Keys(places.keys)
    with failures():
        if not kept.exist:
            made, old, result = kept.create(origin or keys.new_origin()), "", "new"
        elif lost:
            old = str(kept.verifiers()[-1])
            made, result = _found_lost(kept), "lost"
            kept.replace(made)
        elif copied:
            old = str(kept.verifiers()[-1])
            made, result = kept.create(origin or keys.new_origin()), "copied"
        else:
            raise Failed("the log has a key: 'fhir-hook log key rotate' replaces it; see also --lost and --copied")
        _record(result, old, made)
    _sign(places)
    _show([str(made.verifier)], as_json)


def _found_lost(kept: keys.Keys) -> Signer:
    try:
        kept.signer()
    except keys.KeyProblem:
        return kept.successor()
    raise Failed("the key is there and works: 'fhir-hook log key rotate' replaces it")


@key.command("rotate")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rotate_key(as_json: bool) -> None:
    """Replace the key. The old one signs the record that names the new one; the next checkpoint carries both."""
    places = Places.default()
    kept = keys.Keys(places.keys)
    with failures():
        old, made = kept.signer(), kept.successor()
        _record("rotated", str(old.verifier), made)
    _sign(places)
    with failures():
        kept.replace(made)
    _sign(places, [old, made])
    _show([str(made.verifier)], as_json)


@key.command("show")
@click.option("--all", "every", is_flag=True, help="Earlier keys too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(every: bool, as_json: bool) -> None:
    """Print the verifier key, which is public: keep a copy where root of this host can't change it."""
    with failures():
        found = [str(verifier) for verifier in keys.Keys(Places.default().keys).verifiers()]
    _show(found if every else found[-1:], as_json)


def _record(result: str, old: str, made: Signer) -> None:
    log.append({"event": "log", "what": "key", "result": result, "old": old, "new": str(made.verifier)})


def _sign(places: Places, signers: list[Signer] | None = None) -> None:
    try:
        with failures():
            signing.make(places, signers)
    except signing.Refused as error:
        click.echo(f"fhir-hook: {error}", err=True)
        sys.exit(1)


def _show(found: list[str], as_json: bool) -> None:
    click.echo(json.dumps({"keys": found}) if as_json else "\n".join(found))
