"""Building a policy: settings and compiled profiles put together, checked against each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fhir_hook.authoring import compile as compiling
from fhir_hook.authoring import proofs, signature
from fhir_hook.authoring import settings as settings_module
from fhir_hook.authoring.finding import Finding, errors
from fhir_hook.authoring.source import Sources, load_sources
from fhir_hook.core import jsonio, paths
from fhir_hook.core.digest import sha256_hex
from fhir_hook.store import policy


class PolicyRefused(Exception):
    """The sources can't become a policy; `problems` has one line for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems[0] if problems else "")
        self.problems = problems


@dataclasses.dataclass(frozen=True)
class Built:
    """What store.policy.write takes, and the warnings that building it gave."""

    header: dict[str, Any]
    profiles: list[dict[str, Any]]
    index: dict[str, Any]
    warnings: list[str]
    proofs: proofs.Proofs


def build(
    shipped: Path = Path(paths.SHIPPED_PROFILES),
    local: Path | None = Path(paths.LOCAL_PROFILES),
    further: Callable[[Sources, Path], list[Finding]] | None = None,
    accept_signers: bool = False,
) -> Built:
    """Read, check and compile everything. Raises PolicyRefused and settings.SettingsError; changes nothing.

    further: more checks, whose errors refuse as well (given the sources and the folder of shipped profiles).
    accept_signers: others may sign than when the policy in force was compiled.
    """
    signers = _signers(accept_signers)
    settings = settings_module.load(schemas=shipped / "schema", signers=signers)
    # Noted before the files are read: an edit in between makes the policy stale, not the edit lost.
    stamps = _stamps([shipped, local, Path(paths.CONFIG).parent, Path(paths.CONFIG_DROPINS)], settings)
    sources = load_sources(shipped, local, signers)
    known = proofs.load()
    profiles, findings = compiling.compile_all(sources, known)
    findings += further(sources, shipped) if further is not None else []
    refusing = errors(findings)
    problems = [str(finding) for finding in refusing]
    problems += _bindings(settings, {profile["name"] for profile in profiles})
    if problems or not profiles:
        raise PolicyRefused(problems or [f"{shipped} holds no profile"])
    stamps |= _file_stamps([*sources.files, *([Path(signers.path)] if signers is not None else [])])
    warnings = [str(finding) for finding in findings if finding not in refusing]
    index = {
        "settings": settings.values,
        "signers": signers.digest if signers is not None else "",
        "bindings": settings.bindings,
        "selectors": _selectors(sources, [profile["name"] for profile in profiles]),
    }
    header = {"sources": [[path, *stamp] for path, stamp in sorted(stamps.items())]}
    return Built(header, profiles, index, warnings, known)


def _signers(accept: bool) -> signature.Signers | None:
    """Who has to sign; PolicyRefused when that is not who had to sign for the policy in force, unless accepted."""
    try:
        signers = signature.load()
    except signature.SignersError as error:
        raise PolicyRefused([str(error)]) from None
    try:
        before = policy.load_index().document.get("signers", "")
    except policy.PolicyError:
        before = ""
    problem = "" if accept else signature.changed(before, signers)
    if problem:
        raise PolicyRefused([problem])
    return signers


def _selectors(sources: Sources, names: list[str]) -> list[dict[str, Any]]:
    return [
        {"profile": name, "labels": selector["labels"]}
        for name in names
        for selector in sources.profiles[name].document.get("match", [])
    ]


def _bindings(settings: settings_module.Settings, names: set[str]) -> list[str]:
    return [
        f"[[bind]] {binding.get('image') or binding.get('id')}: there is no profile {binding['profile']!r}; "
        f"installed: {', '.join(sorted(names))}"
        for binding in settings.bindings
        if binding["profile"] not in names
    ]


def _stamps(directories: list[Path | None], settings: settings_module.Settings) -> dict[str, tuple[int, int]]:
    """Modification times of directories, which tell of files that came or went, and of the settings files."""
    stamps = {}
    for directory in directories:
        for path in (directory, directory / "groups") if directory is not None else ():
            if path.is_dir():
                stamps[str(path)] = (path.stat().st_mtime_ns, -1)
    return stamps | _file_stamps(settings.sources)


def _file_stamps(files: list[Path]) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def settings_digest(index: dict[str, Any]) -> str:
    """SHA-256 of settings and bindings, by which a change of them is seen."""
    return sha256_hex(jsonio.canonical({"settings": index["settings"], "bindings": index["bindings"]}))
