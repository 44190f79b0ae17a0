"""fhir-hook profile import and export: from and to other tools' seccomp profiles."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from fhir_hook.authoring import checks, schema
from fhir_hook.authoring.finding import errors
from fhir_hook.authoring.source import Source
from fhir_hook.cli import profile_shared as shared
from fhir_hook.cli.failure import Failed
from fhir_hook.core.oci_seccomp import Meaning
from fhir_hook.recording.recording import dumps
from fhir_hook.review import cases, engine_format, exporting, importing, vendor

OUTPUT = click.Path(dir_okay=False, path_type=Path)


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="Name of the profile; left out: the file's, without its ending.")
@click.option("-o", "--output", type=OUTPUT, help="Write the profile here instead of to the standard output.")
@shared.json_option
@shared.profiles_option
def import_(file: Path, name: str | None, output: Path | None, as_json: bool, folder: Path | None) -> None:
    """Make a profile proposal of FILE: OCI, Docker or Podman seccomp JSON, config.json, or a SeccompProfile (SPO).

    It is in complain mode and puts nothing in force: read it, compare it with 'fhir-hook profile diff', try it.
    """
    profiles = shared.load(folder)
    try:
        document = engine_format.read(file)
        if document.kind in ("profile", "recording"):
            raise Failed(f"{file} is a {document.kind} already")
        meanings = {arch: Meaning(engine_format.section(document, arch)) for arch in _architectures(document)}
        named = _name(name, file)
        imported = importing.propose(meanings, profiles.sources, named, file.name)
    except (engine_format.FormatError, cases.TooMany) as error:
        raise Failed(str(error)) from None
    problems = [str(finding) for finding in _check(profiles, imported.document, output or Path(f"{named}.json"))]
    text = dumps(imported.document)
    if output is not None:
        _write(output, text)
    if as_json:
        shared.print_json({"profile": imported.document, "notes": imported.notes, "problems": problems})
    elif output is None:
        click.echo(text, nl=False)
    for line in (*imported.notes, *problems) if not as_json else ():
        click.echo(f"fhir-hook: {line}", err=True)
    if output is not None and not as_json:
        include = ", ".join(imported.document["seccomp"]["include"]) or "none"
        click.echo(f"{output}: a proposal, nothing is in force. Groups: {include}")


def _architectures(document: engine_format.Document) -> list[str]:
    """The architectures that a document is about; all where it names none of this tool's."""
    text = json.dumps(document.value)
    named = [arch for arch in shared.ARCHITECTURES if f'"SCMP_ARCH_{arch.upper()}"' in text]
    return named or list(shared.ARCHITECTURES)


def _name(given: str | None, file: Path) -> str:
    name = given or re.sub(r"[^a-z0-9]+", "-", file.name.partition(".")[0].lower()).strip("-")
    if not vendor.is_name(name):
        raise Failed(f"{name[:64]!r} can't name a profile (lower-case letters, digits, hyphens): give one with --name")
    return name


def _check(profiles: shared.Profiles, document: dict[str, Any], path: Path) -> list[Any]:
    checker, findings = schema.load(profiles.shipped, "profile")
    found = findings or (checker.check(document, str(path)) if checker else [])
    if not errors(found):
        found += checks.check_profile(profiles.sources, Source(document["name"], path, document, True))
    return errors(found)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failed(f"{path}: {error.strerror or error}") from None


@click.command("export")
@click.argument("profile")
@click.option("--format", "kind", type=click.Choice(exporting.FORMATS), default="oci", show_default=True)
@click.option("--api", type=click.Choice(["v1beta1", "v1"]), default="v1beta1", help="Version of SPO's API.")
@click.option("-o", "--output", type=OUTPUT, help="Write here instead of to the standard output.")
@shared.arch_option
@shared.profiles_option
def export(profile: str, kind: str, api: str, output: Path | None, arch: str, folder: Path | None) -> None:
    """Write PROFILE for other tools: podman run --security-opt seccomp=FILE, docker, or Kubernetes (SPO).

    A filter alone: capabilities and no_new_privs have to be set beside it. docker holds both architectures, the others
    the one of --arch.
    """
    profiles = shared.load(folder)
    subject = profiles.profile(profile, arch)
    if subject.source is None:
        raise Failed(f"{profile} is no profile")
    if kind == "spo":
        from fhir_hook.review import yaml_format

        try:
            text = yaml_format.dump(exporting.spo(profiles.sources, subject.source, arch, api))
        except exporting.ExportError as error:
            raise Failed(str(error)) from None
    elif kind == "docker":
        text = dumps(exporting.docker(profiles.sources, subject.source))
    else:
        text = dumps(exporting.oci(profiles.sources, subject.source, arch))
    if output is None:
        click.echo(text, nl=False)
    else:
        _write(output, text)
