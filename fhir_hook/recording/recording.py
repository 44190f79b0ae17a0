"""A recording: which system calls a server made, by phase and with the arguments that matter. The evidence of profiles.

One JSON document, profiles/recordings/NAME.json, in the shape of profiles/schema/recording.schema.json.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fhir_hook.authoring import schema
from fhir_hook.core import paths

START, SERVE, STOP, OPERATIONS = "start", "serve", "stop", "operations"
# What is done with a server beside its service (jcmd, dumps) is a phase of its own where it was told apart.
PHASES = (START, SERVE, STOP, OPERATIONS)
FOLDER = "recordings"
SCHEMA_LINK = "../schema/recording.schema.json"
ABOUT = ("server", "version", "method", "date", "architecture", "kernel", "libc", "runtime", "workload", "limits")


class RecordingError(Exception):
    """A recording can't be read or used; str() is one line with file, place and reason."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """One combination of arguments of a call: `text` for people, `values` by argument index, in which `phases`.

    values is empty where the recorder could only tell the text (strace).
    """

    text: str
    values: tuple[tuple[int, int], ...] = ()
    phases: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Recording:
    """`phases` are call names by phase; `arguments` what a call was seen with; `lost` what the kernel dropped.

    `about` are the strings of ABOUT, `image` {"id": ..., "names": [...]} or empty; `runtime_calls` what the OCI runtime
    did between loading a filter and the entry point's execve; `foreign` counts calls of other ABIs (i386, x32, arm);
    `programs` are the files that were executed, where the recorder saw them.
    """

    name: str
    about: Mapping[str, str]
    phases: Mapping[str, frozenset[str]]
    arguments: Mapping[str, tuple[Seen, ...]] = dataclasses.field(default_factory=dict)
    lost: Mapping[str, int] = dataclasses.field(default_factory=dict)
    image: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    runtime_calls: frozenset[str] = frozenset()
    foreign: Mapping[str, int] = dataclasses.field(default_factory=dict)
    programs: tuple[str, ...] = ()

    @property
    def calls(self) -> frozenset[str]:
        """Every call, of whatever phase."""
        return frozenset().union(*self.phases.values())

    @property
    def complete(self) -> bool:
        """Whether the kernel dropped nothing while it was recorded."""
        return not any(self.lost.values())

    def phases_of(self, call: str) -> tuple[str, ...]:
        """The phases in which the call was seen, in their order."""
        return tuple(phase for phase in PHASES if call in self.phases.get(phase, ()))

    def document(self) -> dict[str, Any]:
        """The JSON document, members and lists in a stable order."""
        document: dict[str, Any] = {"$schema": SCHEMA_LINK, "name": self.name}
        document |= {member: self.about[member] for member in ABOUT if self.about.get(member)}
        if self.image:
            document["image"] = dict(self.image)
        document["lost"] = {"events": 0, **self.lost}
        document["phases"] = {phase: sorted(self.phases[phase]) for phase in PHASES if phase in self.phases}
        if self.runtime_calls:
            document["runtime_calls"] = sorted(self.runtime_calls)
        if self.programs:
            document["programs"] = list(self.programs)
        if self.foreign:
            document["foreign"] = dict(sorted(self.foreign.items()))
        if self.arguments:
            document["arguments"] = {
                call: [_seen_document(seen) for seen in self.arguments[call]] for call in sorted(self.arguments)
            }
        return document


def _seen_document(seen: Seen) -> dict[str, Any]:
    document: dict[str, Any] = {"text": seen.text}
    if seen.values:
        document["values"] = {str(index): value for index, value in seen.values}
    document["phases"] = list(seen.phases)
    return document


def from_document(document: Mapping[str, Any]) -> Recording:
    """The recording of a document that matches the schema."""
    arguments = {
        call: tuple(
            Seen(
                entry["text"],
                tuple(sorted((int(index), value) for index, value in entry.get("values", {}).items())),
                tuple(entry["phases"]),
            )
            for entry in entries
        )
        for call, entries in document.get("arguments", {}).items()
    }
    return Recording(
        name=document["name"],
        about={member: document[member] for member in ABOUT if member in document},
        phases={phase: frozenset(calls) for phase, calls in document["phases"].items()},
        arguments=arguments,
        lost=dict(document["lost"]),
        image=dict(document.get("image", {})),
        runtime_calls=frozenset(document.get("runtime_calls", ())),
        foreign=dict(document.get("foreign", {})),
        programs=tuple(document.get("programs", ())),
    )


def load(path: Path, shipped: Path = Path(paths.SHIPPED_PROFILES)) -> Recording:
    """Read and check one recording; `shipped` is the folder of profiles whose schema counts. Raises RecordingError."""
    checker, findings = schema.load(shipped, "recording")
    document: Any = None
    if checker is not None:
        document, findings = schema.read_json(path)
        findings = findings or checker.check(document, str(path))
    if findings:
        first = findings[0]
        hint = f" ({first.hint})" if first.hint else ""
        where = f"{first.file}#{first.pointer}" if first.pointer else first.file
        raise RecordingError(f"{where}: {first.message}{hint}")
    return from_document(document)


def available(shipped: Path = Path(paths.SHIPPED_PROFILES)) -> dict[str, Path]:
    """The files of the shipped recordings by name."""
    return {path.stem: path for path in sorted((shipped / FOLDER).glob("*.json"))}


def dumps(document: Mapping[str, Any]) -> str:
    """JSON text as people keep it in a repository: short lists and objects on one line, the rest indented."""
    return _dump(document, 0) + "\n"


def _dump(value: Any, depth: int) -> str:
    flat = json.dumps(value, ensure_ascii=False)
    pad = "  " * (depth + 1)
    if not isinstance(value, (dict, list)) or (len(flat) <= 100 and depth > 0):
        return flat
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "[\n" + "\n".join(_wrapped([json.dumps(item) for item in value], pad)) + "\n" + "  " * depth + "]"
    if isinstance(value, list):
        inner = [pad + _dump(item, depth + 1) for item in value]
        return "[\n" + ",\n".join(inner) + "\n" + "  " * depth + "]"
    inner = [f"{pad}{json.dumps(key)}: {_dump(item, depth + 1)}" for key, item in value.items()]
    return "{\n" + ",\n".join(inner) + "\n" + "  " * depth + "}"


def _wrapped(items: Sequence[str], pad: str) -> Iterable[str]:
    line = pad
    for index, item in enumerate(items):
        word = item + ("," if index < len(items) - 1 else "")
        if len(line) + len(word) + 1 > 118 and line.strip():
            yield line
            line = pad
        line += word if line == pad else " " + word
    yield line


def merge(recordings: Sequence[Recording], name: str) -> Recording:
    """One recording of several runs: phases and arguments united, losses summed, workloads joined.

    Raises RecordingError when they are of different architectures, or there is none.
    """
    if not recordings:
        raise RecordingError("there is nothing to merge")
    machines = sorted({recording.about.get("architecture", "") for recording in recordings} - {""})
    if len(machines) > 1:
        raise RecordingError(f"recordings of different architectures can't be merged: {', '.join(machines)}")
    newest = max(recordings, key=lambda recording: recording.about.get("date", ""))
    about = {member: _joined(member, recordings, newest) for member in ABOUT}
    return Recording(
        name=name,
        about={member: text for member, text in about.items() if text},
        phases={
            phase: frozenset().union(*(recording.phases.get(phase, frozenset()) for recording in recordings))
            for phase in PHASES
            if any(phase in recording.phases for recording in recordings)
        },
        arguments=_merged_arguments(recordings),
        lost=_summed([recording.lost for recording in recordings]),
        image=_merged_image(recordings),
        runtime_calls=frozenset().union(*(recording.runtime_calls for recording in recordings)),
        foreign=_summed([recording.foreign for recording in recordings]),
        programs=tuple(dict.fromkeys(program for recording in recordings for program in recording.programs)),
    )


def _joined(member: str, recordings: Sequence[Recording], newest: Recording) -> str:
    if member == "date":
        return newest.about.get("date", "")
    return "; ".join(dict.fromkeys(text for r in recordings if (text := r.about.get(member, ""))))


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    keys = dict.fromkeys(key for count in counts for key in count)
    return {key: sum(count.get(key, 0) for count in counts) for key in keys}


def _merged_image(recordings: Sequence[Recording]) -> Mapping[str, Any]:
    """The image, when all runs were of the same one."""
    images = [recording.image for recording in recordings]
    same = images[0] and all(image.get("id") == images[0].get("id") for image in images)
    return images[0] if same else {}


def _merged_arguments(recordings: Sequence[Recording]) -> dict[str, tuple[Seen, ...]]:
    phases: dict[str, dict[tuple[str, tuple[tuple[int, int], ...]], set[str]]] = {}
    for recording in recordings:
        for call, entries in recording.arguments.items():
            for seen in entries:
                phases.setdefault(call, {}).setdefault((seen.text, seen.values), set()).update(seen.phases)
    return {
        call: tuple(
            Seen(text, values, tuple(phase for phase in PHASES if phase in where))
            for (text, values), where in entries.items()
        )
        for call, entries in phases.items()
    }
