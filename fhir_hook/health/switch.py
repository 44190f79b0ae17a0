"""Whether the engines of this host call the hook: what each reads, and what hides ours."""

from __future__ import annotations

import json
import pwd
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fhir_hook.core import paths
from fhir_hook.health import activation, containers_conf
from fhir_hook.health.finding import Finding, bad, good

NAME = Path(paths.OCI_HOOK).name
UNCONFINED = "FHIR containers start unconfined and leave no record"
CRIO = (Path("/usr/share/crio/crio.conf"), Path("/etc/crio/crio.conf"))
_DEFAULT = re.compile(r"--hooks-dir .*\(default \[([^\]]*)\]\)")
_COMMAS = re.compile(r"[,\s]+")


def switched() -> Iterator[Finding]:
    """Whether the administrator switched the hook off."""
    reason = activation.disabled()
    if reason:
        yield bad("hook.enabled", f"the hook is disabled: {reason}", UNCONFINED, "fhir-hook host enable")
    else:
        yield good("hook.enabled", "the hook is not disabled")


def hook_files() -> Iterator[Finding]:
    """The two files of hooks: the one for Podman and the one for every other engine."""
    if activation.disabled():
        return
    expected = {Path(paths.OCI_HOOK): "prestart", Path(paths.PODMAN_HOOK): "precreate"}
    for path, stage in expected.items():
        problem = _hook_problem(path, stage)
        check = f"hook.{stage}"
        if problem:
            repair = "fhir-hook host refresh" if stage == "prestart" else "apt-get install --reinstall fhir-hook"
            yield bad(check, f"{path}: {problem}", UNCONFINED, repair)
        else:
            yield good(check, f"{path} names the hook")


def _hook_problem(path: Path, stage: str) -> str:
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        hook, when = document["hook"], document["when"]
        if document["stages"] != [stage] or hook["args"] != ["hook", stage] or when != {"always": True}:
            return f"it is not the {stage} hook that was installed"
        return "" if hook["path"] == paths.HOOK else f"it names {hook['path']}"
    except OSError as error:
        return error.strerror or str(error)
    except (ValueError, KeyError, TypeError):
        return "it is not a hook that an engine can read"


def drop_in() -> Iterator[Finding]:
    """Whether root's Podman reads our directory of hooks, last, or another file hides it."""
    if activation.disabled():
        return
    yield from _listed("podman.hooks_dir", "root's Podman", containers_conf.files())


def rootless() -> Iterator[Finding]:
    """The same for every user who has a containers.conf of their own."""
    if activation.disabled():
        return
    for user in pwd.getpwall():
        home = Path(user.pw_dir)
        try:
            mine = [path for path in containers_conf.files(home) if home in path.parents]
            said = mine and any(containers_conf.hooks_dir(path) for path in mine)
        except (OSError, containers_conf.ConfError):
            continue
        if said and home != Path("/"):
            yield from _listed("podman.rootless", f"Podman of {user.pw_name}", containers_conf.files(home))


def _listed(check: str, who: str, sources: list[Path]) -> Iterator[Finding]:
    try:
        found = containers_conf.in_force(sources)
    except containers_conf.ConfError as error:
        why = "Podman fails with the same error: no container starts"
        yield bad(check, str(error), why, f"edit {str(error).partition(':')[0]}")
        return
    if paths.PODMAN_HOOKS not in found.directories:
        if paths.PODMAN_DROPIN not in map(str, sources):
            yield bad(check, f"{paths.PODMAN_DROPIN} is missing", UNCONFINED, "fhir-hook host refresh")
            return
        seen = f"{found.path} hides {paths.PODMAN_DROPIN}: hooks_dir = {list(found.directories)}"
        shared = str(Path(paths.OCI_HOOK).parent) in found.directories
        why = f"{who} takes the slower path, whose filter exec does not get" if shared else f"{who}: {UNCONFINED}"
        yield bad(check, seen, why, f'add "{paths.PODMAN_HOOKS}" at the end of hooks_dir in {found.path}')
        return
    hiding = [d for d in found.directories[found.directories.index(paths.PODMAN_HOOKS) + 1 :] if Path(d, NAME).exists()]
    if hiding:
        why = f"a file of the same name in a later directory replaces ours; {UNCONFINED}"
        repair = f"mv {hiding[-1]}/{NAME} {hiding[-1]}/51-other.json"
        yield bad(check, f"{hiding[-1]}/{NAME} replaces our hook", why, repair)
        return
    yield good(check, f"{who} reads {', '.join(found.directories)}, as {found.path} says")


def as_podman_says() -> Iterator[Finding]:
    """The list that Podman itself shows, which settles what its own version and environment make of the files."""
    try:
        said = subprocess.run(["podman", "--help"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return
    match = _DEFAULT.search(said)
    if match is None or activation.disabled():
        return
    directories = [d for d in _COMMAS.split(match[1]) if d]
    if paths.PODMAN_HOOKS in directories:
        yield good("podman.says", f"podman itself says: {match[1]}")
    else:
        seen = f"podman itself says that its hooks_dir is [{match[1]}]"
        repair = "look for CONTAINERS_CONF in the environment, then: fhir-hook host refresh"
        yield bad("podman.says", seen, UNCONFINED, repair)


def other_hooks() -> Iterator[Finding]:
    """Files of others in the same directories: one that can't be read stops every Podman container."""
    check, count = "hooks.others", 0
    try:
        directories = containers_conf.in_force(containers_conf.files()).directories
    except containers_conf.ConfError:
        return
    for directory in directories:
        for path in sorted(Path(directory).glob("*.json")):
            if path.name == NAME:
                continue
            count += 1
            problem = _broken(path)
            if problem:
                yield bad(check, f"{path}: {problem}", "Podman starts no container at all", f"mv {path} {path}.broken")
    yield good(check, f"{count} hooks of others are beside ours")


def _broken(path: Path) -> str:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"it can't be read: {error}"
    if not isinstance(document, dict) or not isinstance(document.get("hook", document.get("hooks")), dict | str):
        return "it is no hook"
    hook = document.get("hook")
    program = hook.get("path") if isinstance(hook, dict) else document.get("hook")
    return "" if not isinstance(program, str) or program.startswith("/") else f"its path {program!r} is not absolute"


def crio() -> Iterator[Finding]:
    """CRI-O's list, where it has one of its own (crio.conf(5), hooks_dir of [crio.runtime])."""
    shared, found = str(Path(paths.OCI_HOOK).parent), None
    for path in (*CRIO, *sorted(Path("/etc/crio/crio.conf.d").glob("*"))):
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        said = document.get("crio", {}).get("runtime", {}).get("hooks_dir")
        found = (path, said) if isinstance(said, list) and said else found
    if found and shared not in found[1]:
        seen = f"{found[0]} sets hooks_dir = {found[1]}"
        yield bad("crio.hooks_dir", seen, f"CRI-O: {UNCONFINED}", f'add "{shared}" there and restart crio')
    elif found:
        yield good("crio.hooks_dir", f"{found[0]} names {shared}")
