"""Profiles and groups as people wrote them: reading the shipped and the local folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from fhir_hook.authoring import schema
from fhir_hook.authoring.finding import ERROR, Finding, errors
from fhir_hook.authoring.signature import Signers

# What the runtimes themselves call under the filter; the compiler adds these groups to every profile.
RUNTIME_BASES = ("runtime-runc", "runtime-crun")


@dataclasses.dataclass(frozen=True)
class Source:
    """One document: `name`, the `path` it came from, whether that is the administrator's own (`local`)."""

    name: str
    path: Path
    document: dict[str, Any]
    local: bool


@dataclasses.dataclass
class Sources:
    """Everything there is to compile: `profiles` and `groups` by name, and what reading them found."""

    profiles: dict[str, Source] = dataclasses.field(default_factory=dict)
    groups: dict[str, Source] = dataclasses.field(default_factory=dict)
    findings: list[Finding] = dataclasses.field(default_factory=list)

    def included(self, profile: Source) -> list[Source]:
        """The profile's groups that exist, in its order, then the runtimes' base sets."""
        names = [*profile.document["seccomp"].get("include", ()), *RUNTIME_BASES]
        return [self.groups[name] for name in dict.fromkeys(names) if name in self.groups]

    @property
    def files(self) -> list[Path]:
        """Every file that was read, for telling later whether a policy is older than its sources."""
        return sorted(source.path for source in [*self.profiles.values(), *self.groups.values()])


def load_sources(shipped_dir: Path, local_dir: Path | None = None, signers: Signers | None = None) -> Sources:
    """Read the profiles (*.json) and groups (groups/*.json) of both folders; a local one replaces a shipped one.

    Schemas come from shipped_dir/schema. A document that can't be used is left out and is an error among the findings;
    a local document that can't be used does not bring the shipped one back; with `signers` it must be signed by one
    of them. Raises nothing on bad documents.
    """
    sources = Sources()
    for kind, subfolder, found in (("profile", "", sources.profiles), ("group", "groups", sources.groups)):
        checker, findings = schema.load(shipped_dir, kind)
        sources.findings += findings
        if checker is None:
            continue
        for folder, local in ((shipped_dir, False), (local_dir, True)):
            if folder is None:
                continue
            for path in _documents(folder / subfolder, sources.findings):
                found.pop(path.stem, None)
                source = _read(path, checker, local, signers if local else None, sources.findings)
                if source is not None:
                    found[source.name] = source
    return sources


def _documents(folder: Path, findings: list[Finding]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".json" and not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        findings.append(Finding("P101", ERROR, str(folder), "", error.strerror or str(error)))
        return []


def _read(
    path: Path, checker: schema.Schema, local: bool, signers: Signers | None, findings: list[Finding]
) -> Source | None:
    document, found = _document(path, signers)
    if not found:
        found = checker.check(document, str(path))
    if not found and document["name"] != path.stem:
        message = f"the document is named {document['name']!r}, its file {path.stem!r}"
        found = [Finding("P204", ERROR, str(path), "/name", message, f"name the file {document['name']}.json")]
    findings += found
    return None if errors(found) else Source(path.stem, path, document, local)


def _document(path: Path, signers: Signers | None) -> tuple[Any, list[Finding]]:
    if signers is None:
        return schema.read_json(path)
    try:
        data = schema.read_bytes(path)
    except OSError as error:
        return None, [Finding("P101", ERROR, str(path), "", error.strerror or str(error), "repair the file's rights")]
    problem = signers.problem(path, data)
    return (None, [Finding("P105", ERROR, str(path), "", problem)]) if problem else schema.parse(data, path)
