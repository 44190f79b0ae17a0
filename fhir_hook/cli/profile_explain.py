"""fhir-hook profile explain and why-not: reading a profile without reading C."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from fhir_hook.cli import profile_shared as shared
from fhir_hook.cli.failure import Failed
from fhir_hook.review import cases, evidence, explain, reach
from fhir_hook.review.evidence import Sighting
from fhir_hook.review.subject import Subject


@click.command("explain")
@click.argument("profile")
@click.argument("call", required=False)
@shared.json_option
@shared.profiles_option
def command(profile: str, call: str | None, as_json: bool, folder: Path | None) -> None:
    """Explain a PROFILE, or why it allows or denies one CALL: by which rule, on whose evidence.

    With CALL the exit code is 0 when it is allowed, at least with some arguments, and 1 when it is denied.
    """
    profiles = shared.load(folder)
    subject = profiles.profile(profile)
    if subject.source is None:
        raise Failed(f"{profile} is no profile")
    if call is None:
        sections = explain.table(profiles.sources, subject.source)
        if as_json:
            shared.print_json([dataclasses.asdict(section) for section in sections])
        else:
            _show_profile(subject, sections)
        return
    reviewer = explain.Reviewer(profiles.sources, profiles.shipped, evidence.load(profiles.shipped))
    try:
        found = reviewer.explain(subject.source, call)
    except explain.UnknownCall as error:
        raise Failed(str(error)) from None
    if as_json:
        shared.print_json(dataclasses.asdict(found))
    else:
        _show_call(found)
    sys.exit(0 if found.allowed else 1)


def _show_profile(subject: Subject, sections: list[explain.Section]) -> None:
    console = shared.console()
    assert subject.source is not None
    document = subject.source.document
    console.print(shared.text(f"{document['name']} {document['version']}: {document['title']}", "bold"))
    allowed = subject.allowed()
    by_arguments = sum(not subject.unconditional(call) for call in allowed)
    keep = ", ".join(subject.capabilities) or "none"
    console.print(
        f"{len(allowed)} of {len(subject.calls)} calls allowed on {subject.arch}, {by_arguments} of them by their "
        f"arguments; capabilities: {keep}; mode {document.get('mode', 'enforce')}"
    )
    for section in sections:
        base = "  (part of every profile)" if section.base else ""
        console.print()
        console.print(Text.assemble((section.group, "bold cyan"), shared.safe(f"  {section.title}{base}")))
        if section.reason:
            console.print(shared.text(f"  {section.reason}", "dim"))
        table = shared.table("", "", "", fixed=0)
        table.show_header = False
        for row in section.rows:
            calls = " ".join(row.calls) + (f" ({', '.join(row.architectures)} only)" if row.architectures else "")
            answer = Text(f"denied: {row.errno}" if row.errno else row.arguments, style="red" if row.errno else "")
            table.add_row(Text(f"  {calls}"), answer, shared.text(row.reason, "dim"))
        console.print(table)


def _show_call(found: explain.Explanation) -> None:
    console = shared.console()
    style = "green" if found.allowed else "red"
    console.print(Text.assemble((found.call, "bold"), " in ", (found.profile, "bold"), ": ", (found.why, style)))
    if len(set(found.answers.values())) == 1:
        console.print(Text(f"  on both architectures: {next(iter(found.answers.values()))}"))
    else:
        for arch, answer in found.answers.items():
            instead = f" ({found.instead} takes its place)" if answer.startswith("not on") and found.instead else ""
            console.print(Text(f"  on {arch}: {answer}{instead}"))
    if found.feature:
        console.print(Text(f"  it opens  {found.feature}"))
    for rule in found.rules:
        said = "allows" if rule.allows else f"denies with {rule.errno}"
        only = f" on {', '.join(rule.architectures)}" if rule.architectures else ""
        console.print(Text.assemble(("  rule of   ", "dim"), (rule.group, "cyan"), f" {said}{only}:"))
        for line in (rule.arguments or "any arguments").splitlines():
            console.print(Text(f"            {line}"))
        if rule.reason:
            console.print(shared.text(f"            {rule.reason}", "dim"))
    _show_sightings(console, found.sightings)
    if found.elsewhere:
        others = "; ".join(f"{one.recording} ({', '.join(one.phases)})" for one in found.elsewhere)
        console.print(Text.assemble(("  elsewhere ", "dim"), others))
    if not found.sightings and found.allowed:
        console.print("  seen in   no recording of this profile: it is there for its reason")
    if found.cves:
        console.print(Text(f"  keeps within reach  {', '.join(found.cves)}"))


def _show_sightings(console: Console, sightings: tuple[Sighting, ...]) -> None:
    for sighting in sightings:
        console.print(Text.assemble(("  seen in   ", "dim"), f"{sighting.recording}: {', '.join(sighting.phases)}"))
        for text in sighting.arguments:
            console.print(shared.text(f"            {text}", "dim"))


@click.command("why-not")
@click.argument("profile")
@click.option("--all", "everything", is_flag=True, help="List the closed ones too.")
@shared.arch_option
@shared.json_option
@shared.profiles_option
def why_not(profile: str, everything: bool, arch: str, as_json: bool, folder: Path | None) -> None:
    """Say what PROFILE keeps within reach: known kernel flaws by call and argument, and what its calls open.

    PROFILE may be anything that `diff` takes. Exit code 0; the numbers are for comparing, see docs/review-a-profile.md.
    """
    profiles = shared.load(folder)
    subject = profiles.find(profile, arch)
    try:
        verdicts = reach.judge(subject, reach.load(profiles.shipped))
    except cases.TooMany as error:
        raise Failed(f"{profile}: {error}") from None
    features = reach.features(subject, profiles.shipped)
    if as_json:
        listed = [reach.as_object(verdict) for verdict in verdicts if everything or not verdict.closed]
        shared.print_json({"profile": profile, "counts": reach.counts(verdicts), "cves": listed, "features": features})
        return
    console = shared.console()
    _show_cves(console, verdicts, everything)
    console.print()
    table = shared.table("kernel feature", "calls that open it", "what it is")
    for feature in features:
        what = Text(feature["sentence"], style="dim")
        table.add_row(Text(feature["feature"]), Text(" ".join(feature["calls"])), what)
    console.print(table)


def _show_cves(console: Console, verdicts: list[reach.Verdict], everything: bool) -> None:
    table = shared.table("CVE", "by what", "how it was reached")
    alike: dict[tuple[str, str, bool], list[str]] = {}
    for verdict in verdicts:
        if everything or not verdict.closed:
            by = f"closed by: {verdict.by}" if verdict.closed else " and ".join(verdict.open_ways)
            alike.setdefault((by, verdict.cve.condition, verdict.closed), []).append(verdict.cve.name)
    for (by, condition, closed), names in alike.items():
        table.add_row(Text("\n".join(names)), Text(by, style="green" if closed else ""), Text(condition))
    console.print(table)
    counts = reach.counts(verdicts)
    console.print(
        f"{counts['closed']} of {counts['cves']} closed; of the {counts['docker_leaves']} that Docker's default leaves "
        f"open or conditional: {counts['closed_of_docker_leaves']}"
    )
