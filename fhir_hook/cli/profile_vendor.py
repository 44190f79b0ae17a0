"""fhir-hook profile install, list and remove: vendors' profiles, put in force only when the administrator approves."""

from __future__ import annotations

import hmac
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.text import Text

from fhir_hook.authoring import policy as building
from fhir_hook.authoring import settings as settings_module
from fhir_hook.authoring.finding import ERROR, Finding
from fhir_hook.cli import policy as policy_command
from fhir_hook.cli import profile_shared as shared
from fhir_hook.cli.failure import Failed
from fhir_hook.core import paths
from fhir_hook.review import ceiling, difference, reach, vendor
from fhir_hook.review.subject import Subject, make, of_profile
from fhir_hook.store import log
from fhir_hook.store import policy as policy_store

SHOWN = 40


@click.command("install")
@click.argument("source")
@click.option("--path", "image_path", default=vendor.IMAGE_PATH, show_default=True, help="Where it is in an image.")
@click.option("--digest", help="SHA-256 that the profile must have, from the vendor by another way.")
@click.option("--yes", is_flag=True, help="Approve without being asked; needs --digest.")
@click.option("--replace", is_flag=True, help="Replace a profile of the same name that came from elsewhere.")
@click.option("--show", "only_show", is_flag=True, help="Show what it would do, and change nothing.")
@shared.json_option
def install(
    source: str, image_path: str, digest: str | None, yes: bool, replace: bool, only_show: bool, as_json: bool
) -> None:
    """Install a vendor's profile from SOURCE: a file, or an image of Podman's store (never run, never pulled).

    It is shown, checked against the ceiling, and put in force only when it is approved: by answering the question,
    or with --yes and the --digest of its exact bytes. Exit code 1: refused, or not approved.
    """
    profiles = shared.load(None)
    if yes and not digest:
        raise click.UsageError("--yes approves exact bytes only: give their SHA-256 with --digest (--show prints it)")
    offer = _read(source, image_path, profiles)
    if digest and not hmac.compare_digest(digest.removeprefix("sha256:").lower(), offer.digest):
        _refuse(offer, f"its SHA-256 is {offer.digest}, not the one given")
    findings = vendor.judge(offer, profiles.sources, profiles.shipped)
    store = vendor.Store(Path(paths.LOCAL_PROFILES))
    taken = store.taken(offer, profiles.sources)
    report = _report(offer, profiles, findings, taken)
    if as_json:
        shared.print_json(report)
    else:
        _show(offer, report, findings)
    refused = any(finding.severity == ERROR for finding in findings)
    if only_show:
        sys.exit(1 if refused else 0)
    if refused:
        _refuse(offer, "it is above the ceiling or faulty (see the errors)")
    if taken and not replace:
        _refuse(offer, f"it would replace {taken}; --replace does that")
    if not yes and not _approved(offer, as_json):
        _refuse(offer, "not approved")
    about = {"profile": [_profile(offer)], "origin": offer.origin}
    new = _changed(lambda compiled: store.install(offer, compiled), about)
    if not as_json:
        click.echo(f"{store.path(offer.name)} is installed, policy {new[:12]} is in force")


def _read(source: str, image_path: str, profiles: shared.Profiles) -> vendor.Offer:
    path = Path(source)
    try:
        if path.exists() or source.startswith(("/", "./", "../")):
            return vendor.from_file(path, profiles.shipped)
        return vendor.from_image(source, image_path, profiles.shipped)
    except vendor.VendorError as error:
        raise Failed(shared.safe(str(error))) from None


def _profile(offer: vendor.Offer) -> dict[str, str]:
    return {"name": offer.name, "version": offer.document["version"], "digest": offer.digest}


def _refuse(offer: vendor.Offer, reason: str) -> NoReturn:
    _record({"event": "policy", "result": "not installed", "profile": [_profile(offer)], "problems": [reason[:500]]})
    click.echo(f"fhir-hook: {offer.name} is not installed: {shared.safe(reason)}", err=True)
    sys.exit(1)


def _approved(offer: vendor.Offer, as_json: bool) -> bool:
    if as_json or not sys.stdin.isatty():
        click.echo("fhir-hook: nobody can be asked here: approve with --yes and --digest", err=True)
        return False
    answer: str = click.prompt(f"Install {offer.name}? Type its name to approve", default="", show_default=False)
    return answer == offer.name


def _report(offer: vendor.Offer, profiles: shared.Profiles, findings: list[Finding], taken: str) -> dict[str, Any]:
    """What an administrator should know before approving."""
    usable = not any(finding.code == "P202" for finding in findings)
    report: dict[str, Any] = {
        **_profile(offer),
        "title": offer.document["title"],
        "origin": offer.origin,
        "replaces": taken,
        "nameable": offer.document.get("nameable", False),
        "match": offer.document.get("match", []),
        "capabilities": offer.document.get("capabilities", {}).get("keep", []),
        "findings": [vars(finding) for finding in findings],
    }
    if usable:
        subject = of_profile(profiles.sources, offer.profile, "x86_64")
        other = _compared(offer, profiles)
        report["allowed"] = len(subject.allowed())
        report["cves"] = reach.counts(reach.judge(subject, reach.load(profiles.shipped)))
        report["compared_with"] = other.label if other.kind != "nothing" else ""
        report["beyond"] = [vars(entry) for entry in _beyond(subject, other)]
    return report


def _compared(offer: vendor.Offer, profiles: shared.Profiles) -> Subject:
    """The profile of the same name where there is one, else the generic one of its kind, else one without calls."""
    installed = profiles.sources.profiles
    kind = offer.document.get("kind")
    generic = [p for p in installed.values() if p.document.get("generic") and p.document.get("kind") == kind]
    for source in (installed.get(offer.name), *generic):
        if source is not None:
            return of_profile(profiles.sources, source, "x86_64")
    return make("nothing", "nothing", "x86_64", {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []})


def _beyond(subject: Subject, other: Subject) -> list[difference.Difference]:
    """What the offer allows that the other profile does not."""
    found = difference.differences(subject, other)
    return [e for e in found if e.kind == difference.ONLY_A or (e.kind == difference.ARGUMENTS and e.only_a)]


def _show(offer: vendor.Offer, report: dict[str, Any], findings: list[Finding]) -> None:
    console = shared.console()
    where = offer.origin["source"] + (f", {offer.origin['path']}" if "path" in offer.origin else "")
    console.print(shared.text(f"{offer.name} {report['version']}: {report['title']}", "bold"))
    console.print(shared.text(f"  from          {offer.origin['kind']} {where}"))
    console.print(f"  sha256        {offer.digest}")
    if report["replaces"]:
        console.print(shared.text(f"  REPLACES      {report['replaces']}", "bold red"))
    named = "yes" if report["nameable"] else "no"
    console.print(f"  for images    by their labels below; any image may name it: {named}")
    for selector in report["match"]:
        console.print(shared.text("                " + ", ".join(f"{k} = {v}" for k, v in selector["labels"].items())))
    console.print(shared.text(f"  capabilities  {', '.join(report['capabilities']) or 'none'}"))
    if "allowed" in report:
        cves = report["cves"]
        console.print(f"  calls         {report['allowed']} allowed; CVEs closed: {cves['closed']} of {cves['cves']}")
        _show_beyond(report)
    for finding in findings:
        style = "red" if finding.severity == ERROR else "yellow"
        label = Text(f"  {finding.severity} {finding.code}  ", style=style)
        console.print(label + shared.text(f"{finding.pointer} {finding.message}"))


def _show_beyond(report: dict[str, Any]) -> None:
    console = shared.console()
    compared = report["compared_with"]
    beyond = report["beyond"]
    if not compared:
        console.print("  no profile to compare it with: all of what it allows is new")
        return
    if not beyond:
        console.print(shared.text(f"  beyond {compared}: nothing"))
    whole = [e["call"] for e in beyond if e["kind"] == difference.ONLY_A]
    if whole:
        more = f" and {len(whole) - SHOWN} more" if len(whole) > SHOWN else ""
        console.print(shared.text(f"  beyond {compared}: {' '.join(whole[:SHOWN])}{more}", "yellow"))
    for entry in beyond:
        if entry["kind"] == difference.ARGUMENTS:
            console.print(shared.text(f"  beyond {compared}: {', '.join(entry['only_a'])} ...", "yellow"))


def _changed(change: Any, about: dict[str, Any]) -> str:
    """Change the folder, compile, put the policy in force, and record it; raises Failed with everything put back."""
    old = policy_command.in_force()
    built: list[building.Built] = []

    def compile_policy() -> str:
        built.append(policy_command.with_unlogged(building.build(further=ceiling.refusals)))
        return policy_store.write(built[0].header, built[0].profiles, built[0].index)

    try:
        new: str = change(compile_policy)
    except (building.PolicyRefused, settings_module.SettingsError) as error:
        problems = error.problems if isinstance(error, building.PolicyRefused) else [str(error)]
        fields = {"event": "policy", "result": "refused", "old": old.get("policy", ""), "problems": problems[:8]}
        _record({**fields, **about})
        for line in problems:
            click.echo(f"fhir-hook: {shared.safe(line, keep=chr(10))}", err=True)
        raise Failed("the policy was refused; profiles and policy were left as they were") from None
    except OSError as error:
        where = error.filename or paths.LOCAL_PROFILES
        raise Failed(f"{where}: {error.strerror or error}; nothing was changed") from None
    policy_command.record_changes(old, built[0], new, about)
    return new


def _record(fields: dict[str, Any]) -> None:
    try:
        log.append(fields)
    except log.LogError as error:
        click.echo(f"fhir-hook: not in the log: {error}", err=True)


@click.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Without being asked.")
def remove(name: str, yes: bool) -> None:
    """Remove the local profile NAME; a shipped one that it replaced counts again. Refused while a binding names it."""
    profiles = shared.load(None)
    store = vendor.Store(Path(paths.LOCAL_PROFILES))
    if not vendor.is_name(name) or not store.path(name).exists():
        known = name in profiles.sources.profiles
        raise Failed(f"{name} comes with fhir-hook" if known else f"no profile {name[:64]!r} is installed")
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody can be asked here: --yes removes it")
        click.confirm(f"Remove {store.path(name)}?", abort=True)
    about = {"removed": {"name": name, "digest": store.digest(store.path(name))}, "origin": store.origin(name)}
    new = _changed(lambda compiled: store.remove(name, compiled), about)
    click.echo(f"{name} is removed, policy {new[:12]} is in force")
