"""fhir-hook profile record: which system calls a server makes, and a profile made of it."""

from __future__ import annotations

import dataclasses
import json
import platform
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fhir_hook.cli.failure import Failed
from fhir_hook.core import paths

if TYPE_CHECKING:
    from fhir_hook.recording.proposal import Proposal
    from fhir_hook.recording.recording import Recording
    from fhir_hook.recording.session import Outcome, Plan, Progress
    from fhir_hook.recording.subject import Subject

SHIPPED = click.Path(exists=True, file_okay=False, path_type=Path)


@dataclasses.dataclass(frozen=True)
class Asked:
    """The options that say what to record and where results go."""

    target: str
    pid: int
    podman: tuple[str, ...]
    command: str
    profile: str
    output: Path | None
    merge: tuple[Path, ...]
    profiles: Path
    as_json: bool


@click.command("record", context_settings={"ignore_unknown_options": False})
@click.argument("target", required=False, default="")
@click.argument("workload", nargs=-1, type=click.UNPROCESSED)
@click.option("--pid", type=int, default=0, help="Record a process and its children.")
@click.option("--podman", multiple=True, metavar="OPTIONS", help="Options for 'podman create', as in a shell.")
@click.option("--command", default="", help="What to run in the image instead of its own command, as in a shell.")
@click.option("--profile", default="", help="Name of the proposed profile; left out: after the image.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Where the recording goes.")
@click.option(
    "--merge", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Add a recording."
)
@click.option("--mark", default="", metavar="REGEX", help="The server is ready when it prints a line with this.")
@click.option("--wait", default=300.0, show_default=True, help="Seconds within which it must be ready.")
@click.option("--buffer", default=0, metavar="KIB", help="Trace buffer for each processor; default 1024 to 8192.")
@click.option("--profiles", type=SHIPPED, default=Path(paths.SHIPPED_PROFILES), help="Where groups are taken from.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    target: str, workload: tuple[str, ...], mark: str, wait: float, buffer: int, as_json: bool, **options: Any
) -> None:
    """Record the system calls of TARGET while WORKLOAD uses it, and propose a profile.

    TARGET is an image, which is run for the purpose without fhir-hook's own profile, or a running container; --pid
    takes a process. WORKLOAD starts when the server listens; without one, recording ends with Ctrl-C or the server.

    \b
    fhir-hook profile record localhost/our-server -- ./conformance-tests http://127.0.0.1:8080
    fhir-hook profile record --merge monday.json --merge tuesday.json --output both.json
    """
    from fhir_hook.recording.session import Plan

    if options["pid"] and target:
        # There is no target then: the first word is the workload's.
        target, workload = "", (target, *workload)
    asked = Asked(target=target, as_json=as_json, **options)
    _check(asked, workload, mark)
    if not target and not asked.pid:
        _finish(asked, None, _merged(asked, []), {})
    outcome, what = _record(asked, Plan(workload, mark, wait, buffer))
    recording = _merged(asked, [outcome.recording])
    _honour(what, recording, asked.profiles)
    _finish(asked, outcome, recording, what.labels)


def _check(asked: Asked, workload: tuple[str, ...], mark: str) -> None:
    if not asked.target and not asked.pid and (workload or not asked.merge):
        raise click.UsageError("name an image or a container to record")
    if asked.profile and not re.fullmatch("[a-z][a-z0-9]*(-[a-z0-9]+)*", asked.profile):
        raise click.UsageError(f"{asked.profile!r} is no name of a profile: lower case, digits and hyphens")
    if asked.output and not re.fullmatch("[a-z0-9]+([._-][a-z0-9]+)*", asked.output.stem):
        raise click.UsageError(f"{asked.output.name!r} names the recording: lower case, digits, points and hyphens")
    if asked.output and asked.output.name == f"{_profile_name(asked)}.json":
        raise click.UsageError(f"{asked.output} is where the proposed profile goes: give another --output or --profile")
    try:
        re.compile(mark)
    except re.error as error:
        raise click.UsageError(f"--mark: {error}") from None


def _record(asked: Asked, plan: Plan) -> tuple[Outcome, Subject]:
    from fhir_hook.authoring import containers
    from fhir_hook.kernel.tracefs import TracefsError, find
    from fhir_hook.recording import session, subject
    from fhir_hook.recording.podman import Podman, PodmanError

    name = asked.output.stem if asked.output else f"{_profile_name(asked)}-recording"
    try:
        find()
        with _progress(asked) as tell:
            if asked.pid:
                what = subject.of_process(asked.pid)
                return session.Session(what, plan, None, tell).run(name), what
            with Podman() as podman:
                try:
                    what = subject.of_container(podman, asked.target)
                    return session.Session(what, plan, podman, tell).run(name), what
                except containers.NotFound:
                    pass
                words = [word for text in asked.podman for word in shlex.split(text)]
                with subject.of_image(podman, asked.target, words, shlex.split(asked.command)) as what:
                    return session.Session(what, plan, podman, tell).run(name), what
    except (TracefsError, PodmanError, containers.NotFound, session.SessionError) as error:
        raise Failed(str(error)) from None


@contextmanager
def _progress(asked: Asked) -> Iterator[Any]:
    """How a recording goes, on stderr: one line that changes on a terminal, a line for each phase elsewhere."""
    if sys.stderr.isatty() and not asked.as_json:
        from rich.console import Console

        with Console(stderr=True).status("starting") as status:
            yield lambda progress: status.update(_line(progress))
        return
    told: list[str] = []

    def tell(progress: Progress) -> None:
        if progress.phase not in told:
            told.append(progress.phase)
            click.echo(f"fhir-hook: recording phase {progress.phase}", err=True)

    yield tell


def _line(progress: Progress) -> str:
    lost = f", {progress.lost} LOST" if progress.lost else ""
    return f"{progress.phase}: {progress.calls} calls known, {progress.rate:,.0f} events/s{lost}"


def _merged(asked: Asked, recordings: list[Recording]) -> Recording:
    from fhir_hook.recording import recording as module

    try:
        earlier = [module.load(path, asked.profiles) for path in asked.merge]
        if not earlier:
            return recordings[0]
        name = asked.output.stem if asked.output else f"{_profile_name(asked)}-recording"
        return module.merge([*earlier, *recordings], name)
    except module.RecordingError as error:
        raise Failed(str(error)) from None


def _profile_name(asked: Asked) -> str:
    """A name for the profile: as asked, or from the image's last part without its tag."""
    if asked.profile:
        return asked.profile
    text = asked.target.rpartition("/")[2].partition("@")[0].partition(":")[0].lower() or "recorded"
    text = "-".join(re.findall("[a-z0-9]+", text))
    return text if re.match("[a-z]", text) else f"server-{text}"


def _runtime_bases(profiles: Path) -> set[str]:
    """What the OCI runtimes call under a filter themselves."""
    from fhir_hook.authoring.source import RUNTIME_BASES, load_sources

    groups = load_sources(profiles).groups
    rules = [rule for name in RUNTIME_BASES if name in groups for rule in groups[name].document["syscalls"]]
    return {name for rule in rules for name in rule["names"]}


def _honour(what: Subject, recording: Recording, profiles: Path) -> None:
    """Write the file that the container's annotation asks for."""
    from fhir_hook.recording import annotation

    if what.trace_to.problem:
        click.echo(f"fhir-hook: {what.trace_to.problem}", err=True)
    if what.trace_to.output:
        try:
            calls = recording.calls | recording.runtime_calls | _runtime_bases(profiles)
            annotation.write(what.trace_to, calls, platform.machine())
        except annotation.AnnotationError as error:
            raise Failed(str(error)) from None
        click.echo(f"fhir-hook: {what.trace_to.output} written, as the container's annotation asks", err=True)


def _finish(asked: Asked, outcome: Outcome | None, recording: Recording, labels: dict[str, str]) -> None:
    from fhir_hook.authoring.finding import errors
    from fhir_hook.authoring.source import load_sources
    from fhir_hook.recording import proposal
    from fhir_hook.recording.recording import dumps

    profile = _profile_name(asked)
    output = asked.output or Path(f"{profile}-recording.json")
    local = Path(paths.LOCAL_PROFILES) if asked.profiles == Path(paths.SHIPPED_PROFILES) else None
    proposed = proposal.propose(recording, load_sources(asked.profiles, local), profile, labels)
    beside = output.parent / f"{profile}.json"
    try:
        output.write_text(dumps(recording.document()))
        beside.write_text(dumps(proposed.document))
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}; nothing else was changed") from None
    notes = list(outcome.notes) if outcome else []
    notes += [str(finding) for finding in errors(proposed.findings)]
    if asked.as_json:
        click.echo(json.dumps(_result(recording, output, beside, proposed, notes, outcome)))
    else:
        _show(recording, output, beside, proposed, notes)
    sys.exit(0 if recording.complete and not (outcome and outcome.failed) else 1)


def _result(
    recording: Recording, output: Path, beside: Path, proposed: Proposal, notes: list[str], outcome: Outcome | None
) -> dict[str, Any]:
    return {
        "recording": str(output),
        "profile": str(beside),
        "calls": {phase: len(calls) for phase, calls in recording.phases.items()} | {"all": len(recording.calls)},
        "lost": dict(recording.lost),
        "workload": outcome.workload if outcome else None,
        "groups": [dataclasses.asdict(group) for group in proposed.groups],
        "rest": proposed.document["seccomp"]["syscalls"],
        "fall_back": list(proposed.fall_back),
        "unnamed": list(proposed.unnamed),
        "notes": notes,
    }


def _show(recording: Recording, output: Path, beside: Path, proposed: Proposal, notes: list[str]) -> None:
    counts = ", ".join(f"{phase} {len(calls)}" for phase, calls in recording.phases.items())
    click.echo(f"{output}: {len(recording.calls)} calls ({counts}), {recording.lost.get('events', 0)} events lost")
    click.echo(f"{beside}: a proposal, nothing is in force")
    for group in proposed.groups:
        if group.explains:
            beyond = f"; beyond the recording: {' '.join(group.beyond)}" if group.beyond else ""
            click.echo(f"  {group.name:18} explains {len(group.explains)}{beyond}")
    for rule in proposed.document["seccomp"]["syscalls"]:
        click.echo(f"  {'+ ' + ' '.join(rule['names'])}: {rule['reason']}")
    if proposed.fall_back:
        click.echo(f"  answered so that callers fall back: {' '.join(proposed.fall_back)}")
    if proposed.unnamed:
        click.echo(f"  newer than the call tables, so answered ENOSYS: {' '.join(proposed.unnamed)}")
    for note in notes:
        click.echo(f"  note: {note}")
