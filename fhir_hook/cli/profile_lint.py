"""fhir-hook profile lint: what a careful reviewer would say."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click
from rich.text import Text

from fhir_hook.authoring.finding import ERROR, WARNING, Finding
from fhir_hook.cli import profile_shared as shared
from fhir_hook.cli.failure import Failed
from fhir_hook.review import codes, evidence, lint, sarif
from fhir_hook.review.subject import SubjectError

STYLES = {ERROR: "red", WARNING: "yellow", codes.NOTE: "cyan"}


@click.command("lint")
@click.argument("names", nargs=-1)
@click.option("--sarif", "sarif_file", type=click.Path(dir_okay=False, path_type=Path), help="Write SARIF 2.1.0 here.")
@click.option("--strict", is_flag=True, help="Exit with 1 on warnings too.")
@click.option("--notes/--no-notes", default=True, help="Show advice as well.", show_default=True)
@shared.json_option
@shared.profiles_option
def command(
    names: tuple[str, ...], sarif_file: Path | None, strict: bool, notes: bool, as_json: bool, folder: Path | None
) -> None:
    """Check profiles beyond what `policy check` refuses: all, or the NAMES of profiles and files.

    Files may also hold a seccomp profile of OCI, Docker, Podman or the Security Profiles Operator. Exit code 1 when
    there is an error: something above the ceiling, or something that keeps containers from starting.
    """
    profiles = shared.load(folder)
    linter = lint.Linter(profiles.sources, profiles.shipped, evidence.load(profiles.shipped))
    found = [finding for finding in profiles.sources.findings if not names]
    for name in names or sorted(profiles.sources.profiles):
        found += _of(profiles, linter, name)
    found = [finding for finding in dict.fromkeys(found) if notes or finding.severity != codes.NOTE]
    if sarif_file is not None:
        _write(sarif_file, found)
    if as_json:
        shared.print_json({"ok": not _refused(found, strict), "findings": [vars(finding) for finding in found]})
    else:
        _show(found, len(names) or len(profiles.sources.profiles))
    sys.exit(1 if _refused(found, strict) else 0)


def _of(profiles: shared.Profiles, linter: lint.Linter, name: str) -> list[Finding]:
    try:
        subject = profiles.finder().find(name)
    except SubjectError as error:
        raise Failed(str(error)) from None
    if subject.source is None:
        return linter.subject(subject)
    from fhir_hook.authoring import checks

    return [*checks.check_profile(profiles.sources, subject.source), *linter.profile(subject.source)]


def _refused(found: list[Finding], strict: bool) -> bool:
    return any(finding.severity == ERROR or (strict and finding.severity == WARNING) for finding in found)


def _write(path: Path, found: list[Finding]) -> None:
    import json

    from fhir_hook.core.version import VERSION

    try:
        path.write_text(json.dumps(sarif.log(found, VERSION, Path.cwd()), indent=1) + "\n")
    except OSError as error:
        raise Failed(f"{path}: {error.strerror or error}") from None


def _show(found: list[Finding], profiles: int) -> None:
    console = shared.console()
    for finding in found:
        where = f"{finding.file}#{finding.pointer}" if finding.pointer else finding.file
        label = Text(f"{finding.severity} {finding.code}  ", style=STYLES[finding.severity])
        console.print(label + shared.text(where))
        console.print(shared.text(f"    {finding.message}"))
        if finding.hint:
            console.print(shared.text(f"    {finding.hint}", "dim"))
    counts = Counter(finding.severity for finding in found)
    said = ", ".join(f"{counts[level]} {level}{'s' * (counts[level] != 1)}" for level in codes.LEVELS if counts[level])
    console.print(f"{profiles} looked at: {said or 'nothing to say'}")
