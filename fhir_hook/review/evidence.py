"""What real servers were seen to do: the recordings behind profiles, call by call."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from fhir_hook.authoring.source import Source
from fhir_hook.recording import recording as recordings
from fhir_hook.recording.recording import SERVE, Recording


@dataclasses.dataclass(frozen=True)
class Sighting:
    """One recording that saw a call: in which `phases`, with which `arguments` (texts; empty where not looked at)."""

    recording: str
    server: str
    phases: tuple[str, ...]
    arguments: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The recordings there are by name, and what could not be read (`problems`, one line each)."""

    recordings: Mapping[str, Recording]
    problems: tuple[str, ...] = ()

    def of(self, profile: Source) -> list[Recording]:
        """The recordings that a profile's provenance names, in its order; names without a recording are left out."""
        return [self.recordings[name] for name in named(profile) if name in self.recordings]

    def sightings(self, call: str, among: Iterable[Recording]) -> list[Sighting]:
        """Where a call was seen."""
        found = []
        for one in among:
            phases = one.phases_of(call)
            if phases:
                texts = tuple(seen.text for seen in one.arguments.get(call, ()))
                found.append(Sighting(one.name, one.about.get("server", one.name), phases, texts))
        return found


def load(shipped: Path) -> Evidence:
    """Every recording of an installation. Raises nothing: one that can't be read is among the problems."""
    found: dict[str, Recording] = {}
    problems: list[str] = []
    for name, path in recordings.available(shipped).items():
        try:
            found[name] = recordings.load(path, shipped)
        except recordings.RecordingError as error:
            problems.append(str(error))
    return Evidence(found, tuple(problems))


def named(profile: Source) -> list[str]:
    """The recordings that a profile's provenance points to."""
    entries = profile.document.get("provenance", {}).get("recordings", ())
    return [entry["recording"] for entry in entries if entry.get("recording")]


def serving(among: Iterable[Recording]) -> frozenset[str]:
    """Calls seen while serving, by any of the recordings."""
    return frozenset().union(*(one.phases.get(SERVE, frozenset()) for one in among))
