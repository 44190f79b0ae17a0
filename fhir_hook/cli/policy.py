"""fhir-hook policy: from settings and profiles to the one file that the hook loads."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from fhir_hook.authoring import edits, proofs
from fhir_hook.authoring import policy as building
from fhir_hook.authoring import settings as settings_module
from fhir_hook.cli.failure import Failed
from fhir_hook.core import paths
from fhir_hook.health import logged
from fhir_hook.review import ceiling
from fhir_hook.runtime import real
from fhir_hook.store import log, policy

_ROUNDS = 8  # an administrator's tool copies a handful of files; one that never ends writing has to wait


@click.group("policy")
def command() -> None:
    """Compile, check and show the policy: all profiles and settings, in one file with a digest."""


@command.command("compile")
@click.option("--if-changed", is_flag=True, help="Do nothing when no profile and no setting changed since.")
@click.option("--accept-signers", is_flag=True, help="Accept that /etc/fhir-hook/signers changed, went or came back.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compile_(if_changed: bool, accept_signers: bool, as_json: bool) -> None:
    """Check settings and profiles, compile them, and put the new policy in force.

    When anything is wrong the policy in force stays, and the refusal is recorded.
    """
    if if_changed:
        if not accept_signers and (problems := edits.refused()):
            _say_refused(problems)
        # The path unit that calls this looks at nothing until it ends: an edit that comes meanwhile is taken here.
        for _ in range(_ROUNDS):
            seen = edits.seen()
            try:
                _compile(if_changed, accept_signers, as_json)
            except Failed:
                if edits.seen() == seen:
                    raise
            else:
                if edits.seen() == seen:
                    return
    _compile(if_changed, accept_signers, as_json)


def _compile(if_changed: bool, accept_signers: bool, as_json: bool) -> None:
    old = in_force()
    if if_changed and old and _fresh():
        click.echo(json.dumps({"policy": old["policy"], "old": old["policy"]}) if as_json else "nothing changed")
        return
    seen = edits.seen()
    try:
        built = building.build(further=ceiling.refusals, accept_signers=accept_signers)
        real.check(built.index["settings"])
        built = with_unlogged(built)
    except (building.PolicyRefused, settings_module.SettingsError, real.RealError) as error:
        problems = error.problems if isinstance(error, building.PolicyRefused) else [str(error)]
        _record({"event": "policy", "result": "refused", "old": old.get("policy", ""), "problems": problems[:8]})
        if not isinstance(error, real.RealError):  # a runtime may come without an edit here
            edits.keep_refused(seen, problems)
        _say_refused(problems)
    try:
        digest = policy.write(built.header, built.profiles, built.index)
    except OSError as error:
        raise Failed(f"{paths.STATE}: {error.strerror or error}; the policy in force was left as it is") from None
    with contextlib.suppress(OSError):  # the next compilation proves again what it can't find
        proofs.save(built.proofs)
    record_changes(old, built, digest)
    try:
        real.configure(built.index["settings"])
    except OSError as error:
        why = f"{real.LINKS}: {error.strerror or error}"
        raise Failed(f"{why}: the policy is in force, [runtime] is not; repair that place and compile again") from None
    for line in built.warnings:
        click.echo(f"fhir-hook: {line}", err=True)
    if as_json:
        click.echo(json.dumps({"policy": digest, "old": old.get("policy"), "profiles": _summaries(built.profiles)}))
    else:
        click.echo(
            f"policy {digest[:12]} is in force: {len(built.profiles)} profiles, mode {built.index['settings']['mode']}"
        )


def _say_refused(problems: list[str]) -> NoReturn:
    for line in problems:
        click.echo(f"fhir-hook: {line}", err=True)
    raise Failed("the policy in force was left as it is") from None


@command.command("check")
@click.option("--profiles", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Check this directory.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(profiles: Path | None, as_json: bool) -> None:
    """Check settings and profiles without changing anything; exit code 1 when compiling them would be refused."""
    try:
        folder = profiles or Path(paths.SHIPPED_PROFILES)
        built = building.build(shipped=folder, further=ceiling.refusals)
        real.check(built.index["settings"])
        problems, warnings = [], with_unlogged(built).warnings
    except building.PolicyRefused as error:
        problems, warnings = error.problems, []
    except (settings_module.SettingsError, real.RealError) as error:
        problems, warnings = [str(error)], []
    if as_json:
        click.echo(json.dumps({"ok": not problems, "problems": problems, "warnings": warnings}))
    else:
        for line in (*problems, *warnings):
            click.echo(line)
        click.echo("refused" if problems else "good")
    sys.exit(1 if problems else 0)


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(as_json: bool) -> None:
    """Show the policy in force, and whether anything changed since it was compiled."""
    try:
        index = policy.load_index()
        body = policy.Body(index)
    except policy.PolicyError as error:
        raise Failed(f"{error}. {error.code}: run 'fhir-hook policy compile' as root") from None
    try:
        changed = body.changed_sources()
        profiles = [body.summary(name) for name in index.document["profiles"]]
    except policy.PolicyError as error:
        raise Failed(f"{error}. {error.code}: run 'fhir-hook policy compile' as root") from None
    finally:
        body.close()
    settings, bindings = index.document["settings"], index.document["bindings"]
    if as_json:
        click.echo(
            json.dumps(
                {
                    "policy": index.digest,
                    "settings": settings,
                    "signers": index.document.get("signers", ""),
                    "bindings": bindings,
                    "profiles": _summaries(profiles),
                    "changed": changed,
                    "fallback": index.fallback,
                }
            )
        )
        return
    click.echo(f"policy {index.digest}")
    if index.fallback:
        click.echo(f"  the previous one: {index.fallback}")
    click.echo("  " + ", ".join(f"{key} = {value}" for key, value in settings.items()))
    if index.document.get("signers"):
        signers = f"{paths.SIGNERS}, SHA-256 {index.document['signers'][:12]}"
        click.echo(f"  local profiles and settings are signed by {signers}")
    for profile in _summaries(profiles):
        calls = ", ".join(f"{count} calls on {arch}" for arch, count in profile["allowed"].items())
        click.echo(f"  {profile['name']:14} {profile['version']:8} {profile['mode']:9} {calls}, {profile['title']}")
    for binding in bindings:
        click.echo(f"  bound: {binding.get('image') or binding.get('id')} -> {binding['profile']}")
    for path in changed:
        click.echo(f"  changed since: {path} (run 'fhir-hook policy compile')")


def with_unlogged(built: building.Built) -> building.Built:
    """With the runtimes that can't have denials logged, if that is wanted of them, and a warning of them."""
    if built.index["settings"]["denials"] != "all":
        return built
    found = logged.unlogged(built.index["settings"])
    warnings = [*built.warnings, *([logged.consequence(found)] if found else [])]
    return dataclasses.replace(built, index={**built.index, "unlogged": found}, warnings=warnings)


def _summaries(profiles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    members = ("name", "version", "title", "kind", "generic", "nameable", "mode", "digest", "capabilities", "allowed")
    return [{member: profile[member] for member in members} for profile in profiles]


def in_force() -> dict[str, Any]:
    """The index of the policy in force, {} when there is none."""
    try:
        return policy.load_index().document
    except policy.PolicyError:
        return {}


def _fresh() -> bool:
    """Whether the policy in force can be read whole, and neither a source of it nor the runtimes changed since."""
    try:
        index = policy.load_index()
        body = policy.Body(index)
    except policy.PolicyError:
        return False
    try:
        if index.document.get("unlogged", []) != logged.unlogged(index.document["settings"]):
            return False
        return not index.fallback and not body.changed_sources()
    except policy.PolicyError:
        return False
    finally:
        body.close()


def record_changes(
    old: dict[str, Any], built: building.Built, digest: str, about: dict[str, Any] | None = None
) -> None:
    """One record for the policy (`about`: why it was compiled), one each for changed settings and a changed mode."""
    about = {**(about or {}), **({"signers": built.index["signers"]} if built.index["signers"] else {})}
    _record({"event": "policy", "result": "compiled", "old": old.get("policy", ""), "new": digest, **about})
    if not old:
        return
    if old.get("signers", "") != built.index["signers"]:
        fields = {"old": old.get("signers", ""), "new": built.index["signers"]}
        _record({"event": "settings", "result": "changed", "what": "signers", **fields})
    before, after = building.settings_digest(old), building.settings_digest(built.index)
    if before != after:
        _record({"event": "settings", "result": "changed", "old": before, "new": after})
    if old["settings"].get("mode") != built.index["settings"]["mode"]:
        _record(
            {
                "event": "mode",
                "result": "changed",
                "old": old["settings"].get("mode"),
                "new": built.index["settings"]["mode"],
            }
        )


def _record(fields: dict[str, Any]) -> None:
    try:
        log.append(fields)
    except log.LogError as error:
        click.echo(f"fhir-hook: not in the log: {error}", err=True)
