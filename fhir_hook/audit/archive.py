"""The log's second home: a copy that verifies by itself, from which a lost log is rebuilt.

An archive is a directory with the log's files, `tree/` (hashes and checkpoints) and `log.json` (the public keys): what
`log verify --log DIR` takes on any machine. Closed segments are copied once and never written again.
"""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from fhir_hook.audit import checkpoint, signing, tiles, tree, verification
from fhir_hook.audit.checkpoint import Signed
from fhir_hook.audit.keys import Keys
from fhir_hook.audit.merkle import TILE_WIDTH
from fhir_hook.audit.places import Places
from fhir_hook.core import paths
from fhir_hook.store import files, log, segments

ABOUT = "log.json"
_STEP = 1 << 20
_LIMIT = 1 << 20


class ArchiveError(Exception):
    """Something can't be archived, removed or restored; str() is one line."""


def save(places: Places, target: Path) -> verification.Report:
    """Copy the log as it is signed now to `target`, or what the archive there lacks; the copy is verified.

    Raises ArchiveError when the archive holds something else, and what signing.make raises.
    """
    signing.make(places)
    keys = Keys(places.keys)
    (target / "tree").mkdir(parents=True, exist_ok=True)
    with tree.locked(places.tree), segments.snapshot(places.log, durable=True) as parts:
        for part in parts:
            _copy_part(part, target)
        _copy_tree(places, target / "tree")
    files.replace(str(target / ABOUT), (places.keys / "log.json").read_bytes())
    files.sync_directory(str(target))
    report = verification.verify(target, [newest(target, keys)], target / "tree")
    if not report.good:
        raise ArchiveError(f"the copy in {target} does not verify: run 'fhir-hook log verify' for the log itself")
    return report


def newest(archive: Path, keys: Keys) -> Signed:
    """The archive's checkpoint, signed by one of this log's keys; raises ArchiveError."""
    try:
        return checkpoint.opened(files.read(str(archive / "tree/checkpoint"), _LIMIT), keys.verifiers())
    except (OSError, files.FileError, checkpoint.CheckpointError) as error:
        raise ArchiveError(f"{archive} is no archive of this log: {error}") from None


def _copy_part(part: segments.Part, target: Path) -> None:
    """Closed segments are there already, or are written whole; the current file is replaced."""
    to = target / (segments.name_of(part.first) if part.closed else paths.LOG_NAME)
    if part.closed and to.exists():
        if to.stat().st_size != part.size:
            raise ArchiveError(f"{to} is another file than {part.path}: archives of two logs don't go together")
        return
    temporary = to.with_name(f".{to.name}{files.TEMPORARY}")
    with part.opened() as fd, temporary.open("wb") as copy:
        at = 0
        while at < part.size:
            data = os.pread(fd, min(_STEP, part.size - at), at)
            if not data:
                raise ArchiveError(f"{part.path} became shorter while it was copied")
            copy.write(data)
            at += len(data)
        copy.flush()
        os.fsync(copy.fileno())
    temporary.chmod(0o640)
    temporary.rename(to)


def _copy_tree(places: Places, target: Path) -> None:
    names = sorted(path.name for path in places.tree.glob("level?"))
    for name in [*names, "state.json", places.history.name, places.checkpoint.name]:
        source = places.tree / name
        temporary = target / f".{name}{files.TEMPORARY}"
        shutil.copyfile(source, temporary)
        with temporary.open("rb") as copy:
            os.fsync(copy.fileno())
        temporary.rename(target / name)
    files.sync_directory(str(target))


class Removal:
    """Closed segments that may go, the `next` record behind them, and why the first of the others may not (`kept`)."""

    def __init__(self, parts: list[segments.Part], next: int, kept: str) -> None:
        self.parts = parts
        self.next = next
        self.kept = kept


def removable(places: Places, archive: Path, before: float) -> Removal:
    """Which segments are older than `before` (seconds since the epoch), signed, and in the archive byte for byte.

    Raises ArchiveError when the archive does not verify.
    """
    keys = Keys(places.keys)
    signed = newest(archive, keys)
    report = verification.verify(archive, [signed], archive / "tree")
    if not report.good:
        raise ArchiveError(f"{archive} does not verify: nothing was removed")
    found: list[segments.Part] = []
    behind = 0
    with segments.snapshot(places.log) as parts:
        for part, following in zip(parts, parts[1:], strict=False):
            why = _must_stay(part, following, archive, signed.checkpoint.size, before)
            if why:
                return Removal(found, behind, why)
            found.append(part)
            behind = following.first
    return Removal(found, behind, "")


def _must_stay(part: segments.Part, following: segments.Part, archive: Path, signed: int, before: float) -> str:
    if _ended(following) >= before:
        return f"{part.path.name} is not old enough"
    if following.first > signed:
        return f"{part.path.name} is not signed to its end"
    copy = archive / part.path.name
    if not copy.exists():
        return f"{part.path.name} is not in the archive"
    if _digest(copy) != _digest(part.path):
        return f"{part.path.name} is not the same in the archive"
    return ""


def _ended(following: segments.Part) -> float:
    """When the next segment began, which is when this one was closed."""
    with following.opened() as fd:
        line = os.pread(fd, 64, 0)
    try:
        return datetime.fromisoformat(line[9:36].decode("ascii")).timestamp()
    except ValueError:
        return float("inf")


def remove(removal: Removal) -> None:
    """Remove the segments, after the log says so; raises log.LogError, OSError."""
    if not removal.parts:
        return
    gone = [{"name": part.path.name, "sha256": _digest(part.path)} for part in removal.parts]
    log.append({"event": "log", "what": "removed", "before": removal.next, "segments": gone[:256]})
    for part in removal.parts:
        part.path.unlink()
    files.sync_directory(str(removal.parts[0].path.parent))


def restore(places: Places, archive: Path, checkpoints: list[Signed]) -> verification.Report:
    """Put an archive in the place of a lost log. `checkpoints`: the archive's own, and newer ones held elsewhere.

    Raises ArchiveError when there is a log already, or the archive is not what was signed.
    """
    with segments.snapshot(places.log) as parts:
        if parts:
            raise ArchiveError(f"there is a log in {places.log}: move it away first; nothing was changed")
    report = verification.verify(archive, checkpoints, archive / "tree")
    if not report.good:
        problem = next((outcome.problem for outcome in report.outcomes if outcome.problem), "its records do not verify")
        raise ArchiveError(f"{archive}: {problem}; nothing was restored")
    places.log.mkdir(parents=True, exist_ok=True)
    with segments.snapshot(archive) as parts:
        for part in parts:
            _copy_part(part, places.log)
    files.sync_directory(str(places.log))
    with tree.locked(places.tree):
        for path in places.tree.glob("*"):
            if path.name != "lock":
                path.unlink()
        _copy_tree(Places(archive, archive / "tree", archive), places.tree)
        keys = Keys(places.keys)
        if not keys.exist:
            keys.adopt(_about(archive), (archive / "tree/checkpoint").read_bytes())
    return report


def _about(archive: Path) -> dict[str, Any]:
    try:
        document = json.loads(files.read(str(archive / ABOUT), _LIMIT))
    except (OSError, ValueError, files.FileError) as error:
        raise ArchiveError(f"{archive / ABOUT}: {error}") from None
    return document  # type: ignore[no-any-return]


def publish_tiles(places: Places, target: Path) -> int:
    """Write checkpoint, tiles and entry bundles as C2SP tlog-tiles serves them; returns the number of files.

    Any web server can serve the directory then. Files that are there already and never change are left as they are.
    Raises OSError, tiles.TilesError, ArchiveError.
    """
    signed = Keys(places.keys).signed()
    if signed is None:
        raise ArchiveError("nothing is signed yet: run 'fhir-hook log checkpoint'")
    size, count = signed.checkpoint.size, 0
    with tiles.Tiles(places.tree) as stored:
        for level, index, width, name in tiles.tile_paths(size):
            count += _put(target / name, lambda: stored.read(level, index * TILE_WIDTH, width))  # noqa: B023
    count += _bundles(places, target, size)
    files.replace(str(target / "checkpoint"), signed.data)
    return count + 1


def _bundles(places: Places, target: Path, size: int) -> int:
    """The records themselves, 256 to a file, each behind its length."""
    count, index, bundle = 0, 0, []
    with segments.snapshot(places.log) as parts:
        index = parts[0].first if parts else 0
        for part in parts:
            with part.opened() as fd, os.fdopen(os.dup(fd), "rb") as lines:
                lines.seek(0)
                for line in lines:
                    if index >= size:
                        break
                    bundle.append(len(line).to_bytes(2, "big") + line)
                    index += 1
                    if index % TILE_WIDTH == 0 or index == size:
                        whole = len(bundle) == ((index - 1) % TILE_WIDTH) + 1
                        name = tiles.tile_path("entries", (index - 1) // TILE_WIDTH, len(bundle))
                        count += _put(target / name, lambda: b"".join(bundle)) if whole else 0  # noqa: B023
                        bundle = []
    return count


def _put(path: Path, data: Any) -> int:
    if path.exists():
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(str(path), data())
    return 1


def _digest(path: Path) -> str:
    found = sha256()
    with path.open("rb") as file:
        while data := file.read(_STEP):
            found.update(data)
    return found.hexdigest()
