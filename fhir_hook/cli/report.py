"""fhir-hook report: what an auditor reads, as one page; and the evidence for a set of safeguards."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from fhir_hook.audit import keys, verification
from fhir_hook.audit.places import Places
from fhir_hook.audit.selection import Selection
from fhir_hook.cli.failure import Failed
from fhir_hook.cli.log import absent
from fhir_hook.cli.log_checkpoint import failures
from fhir_hook.cli.log_verify import EXISTING, beside, key_option, log_option, newest, read_checkpoint, verifiers
from fhir_hook.cli.selecting import parse_time
from fhir_hook.report import evidence, page, report
from fhir_hook.report.chain import UNKNOWN, UNSIGNED, Chain
from fhir_hook.report.collection import Collection
from fhir_hook.report.coverage import Coverage, Found
from fhir_hook.store import files, log_reader, policy


@click.command("report")
@click.option("--since", default="", help="Only from this time on: 30d, monday, 2026-11-21.")
@click.option("--until", default="", help="Only up to this time.")
@click.option("-o", "--output", "to", type=click.Path(path_type=Path),
              help="The file; with --for, the directory. Default: standard output.")
@click.option("--for", "catalogue", type=click.Choice(evidence.CATALOGUES),
              help="The evidence for these safeguards: a page, CSV and JSON.")
@log_option
@key_option
@click.option("--checkpoint", "paths", multiple=True, type=EXISTING, help="A checkpoint that was held elsewhere.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    since: str, until: str, to: Path | None, catalogue: str | None, where: Path | None, given: tuple[str, ...],
    paths: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """Write a report of what was decided, seen and denied: one HTML file that needs no script and no network.

    Run as root it also looks at what runs now. With --log it is about a copy, and --key says whose signatures count.
    """
    if catalogue and not to and not as_json:
        raise click.UsageError("say where to: --for needs -o DIRECTORY, or --json")
    selection = Selection(
        since=parse_time(since) if since else None, until=parse_time(until, at_end=True) if until else None
    )
    gathered = Gathered(selection, catalogue, where, given, paths)
    try:
        if catalogue:
            _evidence(gathered, to, as_json)
        elif as_json:
            click.echo(json.dumps(report.document(*gathered.parts)))
        else:
            _write(to, report.rendered(*gathered.parts))
    except page.TemplatesMissing as error:
        raise Failed(str(error)) from None


class Gathered:
    """All that a report is made of, read once."""

    def __init__(self, selection: Selection, catalogue: str | None, where: Path | None, given: tuple[str, ...],
                 paths: tuple[Path, ...]) -> None:  # fmt: skip
        source, _ = beside(where, None)
        found = Collection(selection)
        self.pack = evidence.Pack(catalogue) if catalogue else None
        try:
            for record in found.read(log_reader.entries(source)):
                if self.pack:
                    self.pack.add(record)
        except FileNotFoundError:
            raise Failed(absent(source, "--log")) from None
        except OSError as error:
            reader = "The host's log is read by root and the group of its directory"
            raise Failed(f"{source}: {error.strerror}. {reader}") from None
        digest, settings = ("", {}) if where else _policy()
        self.parts = (found, chain_of(where, given, paths), coverage_of(where), report.about(found, digest, settings))


def chain_of(where: Path | None, given: tuple[str, ...], paths: tuple[Path, ...]) -> Chain:
    """Verify the log against every checkpoint that is at hand."""
    source, tree = beside(where, None)
    if not given and (where is not None or not keys.Keys(Places.default().keys).exist):
        if where is not None:
            text = "this is a copy, and no verifier key was given (--key)"
            return Chain(UNKNOWN, text)
        return Chain(UNSIGNED, "the log has no key ('fhir-hook log key new'): each record follows the one before, and "
                     "no more is known")  # fmt: skip
    known = verifiers(given, where is not None)
    signed = [read_checkpoint(path, known) for path in paths]
    if not signed or where is None:
        signed += newest(where, tree, known)
    with failures():
        done = verification.verify(source, signed, tree if tree.is_dir() else None)
    return Chain.of(done, own_key=where is None and not (given and paths))


def coverage_of(where: Path | None) -> Coverage:
    """Look at the containers that run now, if this is the host that the log is of."""
    if where is not None:
        return Coverage(False, "Not looked at: this report was made from a copy of the log.")
    from fhir_hook.health import running
    from fhir_hook.health.finding import BAD, GOOD

    seen = list(running.bypassed())
    if not seen:
        return Coverage(False, "Not looked at: there is no policy to compare with ('fhir-hook policy compile').")
    findings = tuple(Found(f.seen, f.why, f.repair, f.level == BAD) for f in seen if f.level != GOOD)
    said = [f"{finding.seen}." for finding in seen if finding.level == GOOD]
    if any(finding.bad for finding in findings):
        said.append(f"Containers that run FHIR and are not confined: {sum(finding.bad for finding in findings)}.")
    everywhere = os.geteuid() == 0
    if not everywhere:
        said.append("This was not run by root: containers of other users were not looked at.")
    return Coverage(everywhere, " ".join(said), findings)


def _policy() -> tuple[str, dict[str, Any]]:
    """The digest of the policy in force on this host and its settings, if there is one."""
    try:
        index = policy.load_index()
    except policy.PolicyError:
        return "", {}
    return index.digest, dict(index.document.get("settings") or {})


def _evidence(gathered: Gathered, to: Path | None, as_json: bool) -> None:
    pack = gathered.pack
    assert pack is not None
    made = pack.evidence(*gathered.parts)
    if as_json:
        click.echo(json.dumps(made))
    if to:
        with failures():
            to.mkdir(parents=True, exist_ok=True)
        for name, text in evidence.files(made).items():
            _write(to / name, text)


def _write(to: Path | None, text: str) -> None:
    if to is None:
        click.echo(text, nl=False)
        return
    try:
        files.replace(str(to.absolute()), text.encode("utf-8"), 0o640)
    except (OSError, files.FileError) as error:
        raise Failed(f"{to}: {getattr(error, 'strerror', None) or error}") from None
    click.echo(str(to), err=True)
