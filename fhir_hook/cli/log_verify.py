"""fhir-hook log verify, prove and verify-proof: what an auditor does, here or on another machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from fhir_hook.audit import checkpoint, keys, merkle, note, proof, signing, verification
from fhir_hook.audit.checkpoint import Checkpoint, Signed
from fhir_hook.audit.places import Places
from fhir_hook.cli.failure import Failed
from fhir_hook.cli.log_checkpoint import failures
from fhir_hook.core.record import printable

_LIMIT = 1 << 20
OWN_KEY = (
    "this host's own; whoever is root here could have signed anew: "
    "compare with a checkpoint that is held elsewhere (--checkpoint)"
)
EXISTING = click.Path(exists=True, path_type=Path)
log_option = click.option("--log", "where", type=EXISTING, help="A copy of a log: its directory, or one file.")
key_option = click.option(
    "--key", "given", multiple=True, help="Verifier key NAME+ID+BASE64, or a file of them; needed for a copy."
)
tree_option = click.option("--tree", "tree_directory", type=EXISTING, help="The tree's hashes; default: of the log.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def verifiers(given: tuple[str, ...], copy: bool) -> list[note.Verifier]:
    """The keys that were given, or this host's own for its own log."""
    found = []
    try:
        for each in given:
            texts = [each] if "+" in each else Path(each).read_text("utf-8").split()
            found += [note.Verifier.parse(text) for text in texts]
    except note.NoteError as error:
        raise click.BadParameter(str(error)) from None
    except (OSError, UnicodeDecodeError):
        raise click.BadParameter(f"{given[-1]!r} is neither a verifier key nor a file of them") from None
    if found:
        return found
    if copy:
        raise click.UsageError("a log from elsewhere is verified with the key of where it comes from: --key")
    with failures():
        return keys.Keys(Places.default().keys).verifiers()


def beside(where: Path | None, tree_directory: Path | None) -> tuple[Path, Path]:
    """The log, and the directory of its tree, which a copy has below it."""
    places = Places.default()
    if where is None:
        return places.log, tree_directory or places.tree
    return where, tree_directory or (where if where.is_dir() else where.parent) / "tree"


def read_checkpoint(path: Path, known: list[note.Verifier]) -> Signed:
    """A checkpoint from a file; Failed when it is none, or signed by nobody known."""
    try:
        with path.open("rb") as file:
            return checkpoint.opened(file.read(_LIMIT), known)
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from None
    except checkpoint.CheckpointError as error:
        raise Failed(f"{path}: {error}") from None


def newest(where: Path | None, tree_directory: Path, known: list[note.Verifier]) -> list[Signed]:
    """The checkpoints that lie with a log, and for this host's own the one that its key remembers; oldest first."""
    found = []
    for path in (tree_directory / "checkpoint", *([Places.default().keys / "signed"] if where is None else [])):
        if path.exists():
            found.append(read_checkpoint(path, known))
    return sorted({signed.data: signed for signed in found}.values(), key=lambda signed: signed.checkpoint.size)


@click.command("verify")
@log_option
@key_option
@click.option("--checkpoint", "paths", multiple=True, type=EXISTING, help="A checkpoint from elsewhere, or several.")
@tree_option
@click.option("--workers", type=click.IntRange(0, 64), default=0, help="Processes; default: by the log's size.")
@json_option
def verify(
    where: Path | None,
    given: tuple[str, ...],
    paths: tuple[Path, ...],
    tree_directory: Path | None,
    workers: int,
    as_json: bool,
) -> None:
    """Verify that every record is what it was when it was signed, and say which are not.

    For a copy of a log on any machine, give --log, --key, and a --checkpoint that was held where nobody could change
    it. Exit code 1: something was changed, added, removed, moved or cut off.
    """
    known = verifiers(given, where is not None)
    source, tree_directory = beside(where, tree_directory)
    signed = [read_checkpoint(path, known) for path in paths]
    if not signed or where is None:
        signed += newest(where, tree_directory, known)
    if not signed:
        raise Failed(f"there is no checkpoint of {source}: run 'fhir-hook log checkpoint', or give one (--checkpoint)")
    with failures():
        report = verification.verify(source, signed, tree_directory if tree_directory.is_dir() else None, workers)
    if as_json:
        click.echo(json.dumps(as_document(report)))
    else:
        _print(report, OWN_KEY if where is None and not given else "")
    sys.exit(0 if report.good else 1)


def as_document(report: verification.Report) -> dict[str, Any]:
    """A report as JSON."""
    return {
        "good": report.good,
        "files": report.files,
        "first": report.first,
        "records": report.records,
        "from": report.began,
        "to": report.ended,
        "signed": report.signed,
        "torn": report.torn,
        "checkpoints": [
            {
                "origin": outcome.signed.checkpoint.origin,
                "size": outcome.signed.checkpoint.size,
                "root": outcome.signed.checkpoint.root.hex(),
                "keys": outcome.signed.keys,
                "problem": outcome.problem,
            }
            for outcome in report.outcomes
        ],
        "problems": [
            {"seq": p.index, "file": p.path, "line": p.line, "kind": p.kind, "text": p.text} for p in report.problems
        ],
        "count": report.count,
        "located_by": "hashes" if report.pinned else "chain",
        "clock_set_back": [{"seq": seq, "from": before, "to": after} for seq, before, after in report.back],
    }


def _print(report: verification.Report, remark: str) -> None:
    end = report.first + report.records
    files = "1 file" if len(report.files) == 1 else f"{len(report.files)} files"
    span = f", {report.first} to {end - 1}, {report.began} to {report.ended}" if report.records else ""
    click.echo(f"records     {report.records:,} in {files}{span}")
    for outcome in report.outcomes:
        at = outcome.signed.checkpoint
        click.echo(f"checkpoint  {at.origin}, {at.size:,} records, {', '.join(outcome.signed.keys)}")
        click.echo(f"            {outcome.problem or 'good: these are the records that were signed'}")
    if end > report.signed:
        click.echo(f"not signed  {end - report.signed:,} records, from {report.signed} on: only chained")
    if report.torn:
        click.echo(f"torn        {report.torn} bytes at the end; the next record will say so")
    for seq, before, after in report.back[:5]:
        click.echo(f"clock       set back before record {seq}: {before} -> {after}")
    for problem in report.problems:
        place = f"{problem.path}:{problem.line}: " if problem.path else ""
        record = f"record {problem.index}: " if problem.kind in ("unreadable", "chain", "seq") else ""
        click.echo(f"{place}{record}{problem.text}")
    if report.count > len(report.problems):
        click.echo(f"and {report.count - len(report.problems):,} more")
    bad = [outcome for outcome in report.outcomes if outcome.problem]
    if bad and not report.pinned:
        click.echo("which records differ is told by the tree's hashes (--tree), if a copy of them is at hand")
    if remark:
        click.echo(f"key         {remark}")
    click.echo("good" if report.good else "NOT GOOD")


@click.command("prove")
@click.argument("seq", type=click.IntRange(0), required=False)
@click.option("--from", "old", help="Instead: from this checkpoint, a size or a file,")
@click.option("--to", "new", help="to this one; default: the newest.")
@log_option
@key_option
@tree_option
@json_option
def prove(
    seq: int | None,
    old: str | None,
    new: str | None,
    where: Path | None,
    given: tuple[str, ...],
    tree_directory: Path | None,
    as_json: bool,
) -> None:
    """Prove that record SEQ is in the signed log, or that one checkpoint grew out of another (--from, --to).

    Whoever has the verifier key checks the proof with 'fhir-hook log verify-proof', without the log.
    """
    if (seq is None) == (old is None):
        raise click.UsageError("give the SEQ of a record, or --from an earlier checkpoint")
    known = verifiers(given, where is not None)
    source, tree_directory = beside(where, tree_directory)
    signed = _chosen(new, where, tree_directory, known)
    try:
        with failures():
            if seq is not None:
                made = proof.inclusion(source, tree_directory, seq, signed)
            else:
                made = proof.consistency(tree_directory, *_older(str(old), tree_directory, known), signed)
    except merkle.ProofError as error:
        click.echo(f"fhir-hook: {error}", err=True)
        sys.exit(1)
    click.echo(json.dumps(made) if as_json else proof.text(made), nl=as_json)


def _chosen(new: str | None, where: Path | None, tree_directory: Path, known: list[note.Verifier]) -> Signed:
    """The checkpoint that a proof is to rest on."""
    if new is None:
        found = newest(where, tree_directory, known)
        if not found:
            raise Failed("nothing is signed yet: run 'fhir-hook log checkpoint'")
        return found[-1]
    if not new.isdigit():
        return read_checkpoint(Path(new), known)
    data = signing.of_size(Places(tree_directory, tree_directory, tree_directory), int(new))
    if data is None:
        raise Failed(f"no checkpoint of {new} records was signed")
    return _opened(data, known)


def _older(old: str, tree_directory: Path, known: list[note.Verifier]) -> tuple[Checkpoint, bytes]:
    if not old.isdigit():
        signed = read_checkpoint(Path(old), known)
        return signed.checkpoint, signed.data
    data = signing.of_size(Places(tree_directory, tree_directory, tree_directory), int(old))
    if data is None:
        raise Failed(f"no checkpoint of {old} records was signed: give one as a file")
    return _opened(data, known).checkpoint, data


def _opened(data: bytes, known: list[note.Verifier]) -> Signed:
    try:
        return checkpoint.opened(data, known)
    except checkpoint.CheckpointError as error:
        raise Failed(str(error)) from None


@click.command("verify-proof")
@click.argument("file", type=click.File("rb"))
@key_option
@click.option("--old", type=EXISTING, help="The older checkpoint, as you have kept it.")
@json_option
def verify_proof(file: Any, given: tuple[str, ...], old: Path | None, as_json: bool) -> None:
    """Check a proof with the verifier key alone; exit code 1 when it does not show what it should."""
    known = verifiers(given, copy=True)
    try:
        document = proof.parse(file.read(_LIMIT))
        signed = proof.check(document, known, read_checkpoint(old, known) if old else None)
    except merkle.ProofError as error:
        click.echo(json.dumps({"good": False, "problem": str(error)}) if as_json else f"NOT GOOD: {error}")
        sys.exit(1)
    at = signed.checkpoint
    if as_json:
        click.echo(json.dumps({"good": True, "proof": document["proof"], "origin": at.origin, "size": at.size}))
    elif document["proof"] == proof.INCLUSION:
        click.echo(printable(document["record"].rstrip("\n")))
        click.echo(f"good: this is record {document['seq']} of {at.origin}, of {at.size} that were signed")
    else:
        click.echo(f"good: {at.origin} at {document['old']['size']} records grew into what was signed at {at.size}")
