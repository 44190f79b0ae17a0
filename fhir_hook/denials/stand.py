"""How far a watcher has read, and what it has counted and not told: for the next one, when it is killed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fhir_hook.core.record import LONGEST_NAME, bounded
from fhir_hook.denials.counting import Count, Kind, Place
from fhir_hook.store import files

MOST_KEPT = 256  # kinds of denials, those of the host's containers first
_LIMIT = 1 << 20
_BOOT = Path("/proc/sys/kernel/random/boot_id")

Untold = tuple[Place, Kind, Count]


class Stand:
    """Kept in the file `path`: `serial`, the number of the kernel's last record that was counted, and `untold`.

    Records of one boot have ascending numbers; what was counted before a boot is to be told after it, too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._boot = _BOOT.read_text("ascii").strip()
        self.serial = 0
        self.untold: list[Untold] = []
        self._read()
        self._kept = (self.serial, [_entry(*each) for each in self.untold])

    def _read(self) -> None:
        try:
            kept = json.loads(files.read(str(self._path), _LIMIT))
            untold = [_counted(entry) for entry in kept.get("untold", [])]
            self.serial, self.untold = int(kept["serial"]) if kept["boot"] == self._boot else 0, untold
        except (OSError, ValueError, KeyError, TypeError, AttributeError, files.FileError):
            return

    def keep(self, untold: Sequence[Untold]) -> None:
        """Make it durable; raises OSError."""
        first = sorted(untold, key=lambda each: each[0].uid != 0)[:MOST_KEPT]
        found = (self.serial, [_entry(*each) for each in first])
        if found == self._kept:
            return
        document = {"boot": self._boot, "serial": self.serial, "untold": found[1]}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(str(self._path), (json.dumps(document) + "\n").encode())
        self._kept = found


def _entry(place: Place, kind: Kind, count: Count) -> list[Any]:
    program = [bounded(kind.comm, LONGEST_NAME), bounded(kind.exe)]
    return [place.id, place.uid, kind.call, kind.action, *program, count.by, count.first, count.last, count.count,
            count.total]  # fmt: skip


def _counted(entry: list[Any]) -> Untold:
    """Raises ValueError."""
    id, uid, call, action, comm, exe, by, first, last, count, total = entry
    counted = Count(0.0, str(by), float(first), float(last), int(count), int(total))
    return Place(str(id), int(uid)), Kind(str(call), str(action), str(comm), str(exe)), counted
