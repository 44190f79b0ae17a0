"""How far each way by which the log leaves this host has come, and what the last try said: for `fhir-hook doctor`."""

from __future__ import annotations

import calendar
import contextlib
import json
import time
from pathlib import Path
from typing import Any

from fhir_hook.audit import checkpoint, cosigning, note
from fhir_hook.audit.checkpoint import Checkpoint
from fhir_hook.audit.cursor import Cursor, CursorError, Line
from fhir_hook.audit.deliver import parsed
from fhir_hook.audit.places import Places
from fhir_hook.store import files, log

JOURNAL = "journal"
_SUFFIX = ".last"
_LIMIT = 1 << 14


class Way:
    """A way that was set up: where it goes `to`, the `command` that goes it, and what the last try said.

    `problem` is "" when the last try was good. `waits` says what has not arrived there, "" when all has; `since`: for
    how many seconds the oldest of it has been waiting. `broken`: the log is not the one that was delivered before.
    """

    def __init__(self, to: str, command: str, problem: str, here: bool) -> None:
        self.to = to
        self.command = command
        self.problem = problem
        self.here = here
        self.waits = ""
        self.since = 0.0
        self.broken = False


def directory(places: Places) -> Path:
    """Where the state of the ways is kept."""
    return places.tree.parent / "forward"


def keep(places: Places, name: str, to: str, command: str, problem: str = "") -> None:
    """Write down what the last try over the way `name` said, if it is not what the one before said; raises OSError."""
    path = directory(places) / f"{name}{_SUFFIX}"
    said = {"to": to, "command": command, "problem": problem[:500]}
    if _kept(path) != said:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(str(path), (json.dumps(said) + "\n").encode())


def _kept(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(files.read(str(path), _LIMIT))
    except (OSError, files.FileError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def ways(places: Places) -> list[Way]:
    """Every way that was tried once, by name. Raises OSError."""
    found: dict[str, Way] = {}
    state = directory(places)
    for path in sorted(state.iterdir()) if state.is_dir() else []:
        name = path.name.removesuffix(_SUFFIX)
        if name in found or path.name.endswith(".checkpoint"):
            continue
        kept = _kept(state / f"{name}{_SUFFIX}")
        to, command, problem = (str(kept.get(key, "")) for key in ("to", "command", "problem"))
        way = Way(to or name, command or "fhir-hook log forward", problem, here=name == JOURNAL)
        found[name] = way
        if name.startswith("witness-"):
            _cosigned(places, name.removeprefix("witness-"), way)
        else:  # without a cursor nothing was ever delivered, and everything waits
            _delivered(places, state / name, way)
    return list(found.values())


def _delivered(places: Places, path: Path, way: Way) -> None:
    try:
        lines = Cursor(path).lines(places.log, most=1)
    except CursorError as error:
        way.problem, way.broken = str(error), _readable(path)
        way.waits, way.since = ("", 0.0) if way.broken else ("nobody knows what", time.time())
        return
    except log.LogError as error:
        way.problem = str(error)
        return
    if lines:
        way.waits = f"the records from {lines[0].seq} on"
        way.since = max(0.0, time.time() - _time_of(lines[0]))


def _readable(path: Path) -> bool:
    with contextlib.suppress(CursorError):
        return Cursor(path).seq >= 0
    return False


def _time_of(line: Line) -> float:
    """When the record was written; now, when it does not say."""
    with contextlib.suppress(ValueError, OverflowError):
        return calendar.timegm(time.strptime(str(parsed(line).get("time", ""))[:19], "%Y-%m-%dT%H:%M:%S"))
    return time.time()


def _cosigned(places: Places, key: str, way: Way) -> None:
    newest, seen = _size(places.checkpoint), _size(cosigning.directory(places) / key)
    if newest > seen:
        way.waits = f"the checkpoint of {newest} records ({seen} are cosigned)"
        last = cosigning.directory(places) / key
        way.since = max(0.0, time.time() - (last if last.exists() else places.checkpoint).stat().st_mtime)


def _size(path: Path) -> int:
    """The number of records that a checkpoint is about, as it says; 0 where there is none."""
    try:
        return Checkpoint.parse(note.split(files.read(str(path), 1 << 16))[0]).size
    except (OSError, files.FileError, note.NoteError, checkpoint.CheckpointError):
        return 0
