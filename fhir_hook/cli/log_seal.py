"""fhir-hook log seal, open and add-reader: exports that only their readers can open."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from fhir_hook.cli.failure import Failed
from fhir_hook.cli.log_checkpoint import failures
from fhir_hook.cli.log_verify import EXISTING, json_option
from fhir_hook.exports import sealing
from fhir_hook.exports.file import published, written_whole
from fhir_hook.store import log, segments

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_TARGET = click.Path(dir_okay=False, path_type=Path)


@contextmanager
def _sealing() -> Iterator[None]:
    with failures():
        try:
            yield
        except sealing.SealingError as error:
            raise Failed(str(error)) from None


def _readers(given: tuple[str, ...], recovery: str = "") -> list[sealing.Reader]:
    try:
        return sealing.readers(given, recovery)
    except sealing.SealingError as error:
        raise click.BadParameter(str(error)) from None


@click.command("seal")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--to", "given", multiple=True, required=True, help="A reader, NAME=age1...; several times for several.")
@click.option("--recovery", required=True, help="A key that lies in a safe, age1...; for when readers lose theirs.")
@click.option("-o", "--output", type=_TARGET, help="Where to; default: the file's name with .age.")
@json_option
def seal(source: str, given: tuple[str, ...], recovery: str, output: Path | None, as_json: bool) -> None:
    """Seal a file, or stdin (-), for several readers with age. The log records for whom, and the digest.

    The ciphertext may lie anywhere. Who was given it can't be taken off again.
    """
    to = _readers(given, recovery)
    if output is None and source == "-":
        raise click.UsageError("say where to write it: -o")
    target = output or Path(f"{source}.age")
    seen = sealing.Seen()
    with _sealing(), _opened(source) as fd, published(target, sealing.sealed(fd, to, seen), 0o640):
        log.append(sealing.record(to, seen))  # before anybody can have the file
    _say(target, seen, to, as_json)


@click.command("open")
@click.argument("file", type=_FILE)
@click.option("--identity", type=_FILE, required=True, help="The file with a reader's key, as age-keygen made it.")
@click.option("--log", "where", type=EXISTING, help="A copy of the log that has the record; default: this host's.")
@click.option("--unlogged", is_flag=True, help="Open it although the log has no record of it.")
@click.option("-o", "--output", type=_TARGET, help="Where to (mode 0600); default: stdout.")
def unseal(file: Path, identity: Path, where: Path | None, unlogged: bool, output: Path | None) -> None:
    """Open a sealed file, if the log says that it was sealed here.

    Exit code 1: the log has no record of this file: it was changed, cut off, or put in the place of another.
    """
    with _sealing(), _opened(str(file)) as source, sealing.held(source) as (fd, digest):
        _check(digest, where or Path(log.directory()), given=where is not None, unlogged=unlogged)
        pieces = sealing.opened(fd, identity)
        if output is not None:
            written_whole(output, pieces, 0o600)
        else:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


@click.command("add-reader")
@click.argument("file", type=_FILE)
@click.option("--identity", type=_FILE, required=True, help="The file with the key of one of its readers.")
@click.option("--to", "given", multiple=True, required=True, help="The new reader, NAME=age1...")
@click.option("-o", "--output", type=_TARGET, help="Where to; default: in the place of FILE.")
@json_option
def add_reader(file: Path, identity: Path, given: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Seal a file anew for its readers and new ones, with a new key; the log records it.

    Copies of the file as it was stay as they were.
    """
    new = _readers(given)
    seen = sealing.Seen()
    with _sealing(), _opened(str(file)) as source, sealing.held(source) as (fd, digest):
        found = _find(digest, Path(log.directory()))
        if not found:
            _refuse(digest)
        try:
            to = sealing.checked([*sealing.readers_of(found or {}), *new])
        except sealing.SealingError as error:
            raise click.BadParameter(str(error), param_hint="--to") from None
        target = output or file
        with published(target, sealing.resealed(fd, identity, to, seen), 0o640):
            log.append(sealing.record(to, seen, digest))
    _say(target, seen, to, as_json)


@contextmanager
def _opened(source: str) -> Iterator[int]:
    if source == "-":
        yield sys.stdin.fileno()
        return
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _check(digest: str, where: Path, given: bool, unlogged: bool) -> None:
    """Whether the log at `where` knows the file; without any log here that is only said. Exits when it does not."""
    found = _find(digest, where)
    if found is None and not given:
        click.echo("fhir-hook: not checked: there is no log here; --log COPY checks it against a copy", err=True)
    elif not found and not unlogged:
        _refuse(digest)


def _find(digest: str, where: Path) -> dict[str, Any] | None:
    """The newest record of a sealed file with this digest; {} when there is none, None when there is no log."""
    found: dict[str, Any] = {}
    with segments.snapshot(where) as parts:
        for part in parts:
            with part.opened() as fd:
                for line in segments.lines_from(fd, 0, part.size, 1 << 62):
                    if digest.encode() in line and (match := _sealed(line, digest)):
                        found = match
        return found if parts else None


def _sealed(line: bytes, digest: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    right = isinstance(record, dict) and (record.get("event"), record.get("sha256")) == ("sealed", digest)
    return record if right else {}


def _refuse(digest: str) -> None:
    click.echo(
        f"fhir-hook: the log has no record of a sealed file with the SHA-256 {digest}: it is not one of this host's, "
        "or it was changed; --log names another log",
        err=True,
    )
    sys.exit(1)


def _say(target: Path, seen: sealing.Seen, to: list[sealing.Reader], as_json: bool) -> None:
    names = [each.name for each in to]
    if as_json:
        click.echo(json.dumps({"file": str(target), "sha256": seen.digest, "bytes": seen.size, "readers": names}))
    else:
        click.echo(f"{target}: {seen.size:,} bytes, SHA-256 {seen.digest}, for {', '.join(names)}")
