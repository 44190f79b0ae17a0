"""fhir-hook profile test: what a profile denies a real server."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fhir_hook.cli.failure import Failed
from fhir_hook.core import paths

if TYPE_CHECKING:
    from fhir_hook.recording.trial import Run

MODES = ("complain", "enforce")


@click.command("test")
@click.argument("profile")
@click.argument("image")
@click.argument("workload", nargs=-1, type=click.UNPROCESSED)
@click.option("--mode", type=click.Choice(MODES), help="Only this run; left out: complain, then enforce.")
@click.option("--runtime", default="", help="OCI runtime; left out: crun if there is one, whose denials are logged.")
@click.option("--podman", multiple=True, metavar="OPTIONS", help="Options for 'podman create', as in a shell.")
@click.option("--command", default="", help="What to run in the image instead of its own command, as in a shell.")
@click.option("--mark", default="", metavar="REGEX", help="The server is ready when it prints a line with this.")
@click.option("--wait", default=300.0, show_default=True, help="Seconds within which it must be ready.")
@click.option(
    "--profiles",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(paths.SHIPPED_PROFILES),
    help="Where profiles and groups are taken from.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    profile: str,
    image: str,
    workload: tuple[str, ...],
    mode: str | None,
    runtime: str,
    podman: tuple[str, ...],
    command: str,
    mark: str,
    wait: float,
    profiles: Path,
    as_json: bool,
) -> None:
    """Run IMAGE under PROFILE, a name or a file, while WORKLOAD uses it, and report what was denied.

    First nothing is denied and the kernel logs what would be, then the profile is enforced. Neither the policy in force
    nor the host's settings change. Exit code 1: something was denied that has no fall-back, or something failed.

    \b
    fhir-hook profile test our-server.json localhost/our-server -- ./conformance-tests http://127.0.0.1:8080
    """
    from fhir_hook.recording.podman import Podman, PodmanError
    from fhir_hook.recording.subject import runtime_version
    from fhir_hook.recording.trial import Observer, Plan, Trial, TrialError

    compiled = _compiled(profile, profiles)
    words = [word for text in podman for word in shlex.split(text)]
    plan = Plan(image, words, shlex.split(command), workload, mark, wait)
    try:
        re.compile(mark)
        with Podman(runtime or ("crun" if shutil.which("crun") else "")) as engine, Observer() as observer:
            found = engine.inspect("image", image)
            name = runtime or ("crun" if shutil.which("crun") else "runc")
            trial = Trial(compiled, plan, engine, runtime_version(name), observer)
            runs = [trial.run(one, _tell) for one in ([mode] if mode else MODES)]
    except re.error as error:
        raise click.UsageError(f"--mark: {error}") from None
    except (PodmanError, TrialError) as error:
        raise Failed(str(error)) from None
    about = {"profile": compiled["name"], "version": compiled["version"], "image": image, "id": found["Id"]}
    about["digest"] = found.get("Digest") or ""
    _report(about, runs, as_json)


def _tell(text: str) -> None:
    click.echo(f"fhir-hook: {text}", err=True)


def _compiled(profile: str, profiles: Path) -> dict[str, Any]:
    """The profile of that name, or in that file, compiled. Raises Failed."""
    from fhir_hook.authoring import checks, schema
    from fhir_hook.authoring.compile import compile_profile
    from fhir_hook.authoring.finding import errors
    from fhir_hook.authoring.source import Source, load_sources

    shipped = profiles == Path(paths.SHIPPED_PROFILES)
    sources = load_sources(profiles, Path(paths.LOCAL_PROFILES) if shipped else None)
    source = sources.profiles.get(profile)
    if source is None:
        path = Path(profile)
        if not path.is_file():
            known = ", ".join(sorted(sources.profiles))
            raise Failed(f"there is no profile {profile!r}: name one ({known}) or a file")
        checker, findings = schema.load(profiles, "profile")
        document: Any = None
        if checker is not None:
            document, findings = schema.read_json(path)
            findings = findings or checker.check(document, str(path))
        if errors(findings):
            raise Failed(str(errors(findings)[0]).replace("\n", ";"))
        source = Source(document["name"], path, document, True)
    findings = checks.check_profile(sources, source)
    compiled, more = compile_profile(sources, source) if not errors(findings) else (None, [])
    if compiled is None:
        raise Failed(str(errors([*findings, *more])[0]).replace("\n", ";"))
    return compiled


def _report(about: dict[str, str], runs: list[Run], as_json: bool) -> None:
    good = all(run.good for run in runs)
    if as_json:
        listed = [{**dataclasses.asdict(run), "good": run.good} for run in runs]
        click.echo(json.dumps({"good": good, **about, "runs": listed}))
        sys.exit(0 if good else 1)
    digest = about["digest"] or f"sha256:{about['id']}"
    click.echo(f"{about['profile']} {about['version']} on {about['image']} ({digest[:19]})")
    for run in runs:
        verb = "would be denied" if run.mode == "complain" else "denied"
        click.echo(f"{run.mode}: {len(run.real)} kinds of calls {verb} without a fall-back")
        for denied in run.denied:
            note = "  (has a fall-back)" if denied.fall_back else ""
            click.echo(f"  {denied.count:6} {denied.call:20} {denied.comm} ({denied.exe}){note}")
        if run.failure:
            click.echo(f"  {run.failure}")
    click.echo("good" if good else "not good")
    sys.exit(0 if good else 1)
