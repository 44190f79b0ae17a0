"""Watching the kernel's seccomp records: each counts for the container it came from, and records tell the counts."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fhir_hook.denials import observable, records
from fhir_hook.denials.counting import UNMAPPED, Count, Kind, Limits, Place, Tally
from fhir_hook.denials.decisions import Decided, Decisions
from fhir_hook.denials.mapping import Processes
from fhir_hook.denials.stand import Stand
from fhir_hook.kernel import seccomp_log
from fhir_hook.kernel.seccomp_log import Denial
from fhir_hook.store import log, names

ACTIONS = {
    0x80000000: "kill",
    0x00000000: "kill",
    0x00030000: "trap",
    0x00050000: "errno",
    0x7FC00000: "notify",
    0x7FF00000: "trace",
    0x7FFC0000: "log",
}
SCAN, FOLLOW, WAIT = 5.0, 1.0, 0.5  # seconds
_MOST_ROUNDS = 20
_MOST_CHECKED = 100  # containers whose decisions are looked for when watching begins


class Watcher:
    """Reads, counts and records. `seen`, `elsewhere` and `written` count denials, those in no container, and records.

    With `earlier`, or where an earlier watcher stood, it begins with what the kernel log still holds.
    """

    def __init__(self, where: Path, stand: Stand, limits: Limits, earlier: bool = False) -> None:
        """Raises OSError when the kernel's records, or the log, may not be read."""
        self._stand = stand
        self._skip = stand.serial
        self._reader = seccomp_log.Reader(earlier or bool(stand.serial))
        self._logged = seccomp_log.actions_logged()
        self._where = where
        self._processes = Processes()
        self._decisions: Decisions | None = None
        self._tally = Tally(limits)
        # Who reads but once may do so beside a watcher, who tells what it has counted itself.
        self._others = stand.untold if earlier else []
        for place, kind, count in [] if earlier else stand.untold:
            self._tally.put_back(place, kind, dataclasses.replace(count, at=time.monotonic()))
        self._limits = limits
        self._lost: list[str] = []
        self._lost_count = 0
        self._lost_told = -limits.every
        self._scanned = self._followed = 0.0
        self.ways = self._reader.ways
        self.seen = self.elsewhere = self.written = 0
        self.problem = ""

    def run(self, goes_on: Callable[[], bool]) -> None:
        """Watch as long as `goes_on()`; then tell what was not told. Raises LogError when that can't be written."""
        self._write(records.watching(self.ways), must=True)
        while goes_on():
            self.step(WAIT)
        self.finish()
        self._write(records.stopped(self.seen, self.elsewhere), must=True)

    def once(self) -> None:
        """Read what is there, tell it and end. Raises LogError."""
        for _ in range(_MOST_ROUNDS):
            before = self.seen
            self.step(WAIT)
            if self.seen == before:
                break
        self.finish()

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()

    def step(self, seconds: float) -> None:
        """Wait at most so long for records, count them, and write what is due."""
        now = time.monotonic()
        if now - self._scanned >= SCAN:
            self._processes.scan()
            self._scanned = now
        for denial in self._reader.read(seconds):
            self._take(denial)
        self._lose()
        now = time.monotonic()
        if now - self._followed >= FOLLOW:
            self._followed = now
            self._follow()
            self._tell(now)

    def _take(self, denial: Denial) -> None:
        if denial.serial <= self._skip:
            return
        self._stand.serial = max(self._stand.serial, denial.serial)
        self.seen += 1
        found = self._processes.find(denial.pid, denial.session, denial.when)
        if found is None:
            self.elsewhere += 1
            return
        place, by = found
        action = ACTIONS.get(denial.code, f"{denial.code:#x}")
        kind = Kind(denial.call, action, denial.comm, denial.exe)
        self._tally.add(place, kind, denial.when, by, time.monotonic())

    def _lose(self) -> None:
        self._lost_count += len(self._reader.lost)
        self._lost = list(dict.fromkeys([*self._lost, *self._reader.lost]))[: records.MOST_LOST]
        self._reader.lost.clear()

    def _follow(self) -> None:
        """New decisions; of a container whose denials leave no trace that is said once."""
        try:
            if self._decisions is None:
                self._decisions = Decisions(self._where)
                running = sorted(self._processes.scan(), key=lambda place: place.id)[:_MOST_CHECKED]
                found = [self._decisions.of(place) for place in running]
                fresh = [decided for decided in found if decided is not None]
            else:
                fresh = self._decisions.follow()
        except OSError as error:
            self.problem = f"{error.filename or self._where}: {error.strerror}"
            return
        for decided in fresh:
            if decided.confined and not decided.said and not decided.place.uid:  # users may say what they like
                why = observable.problem(decided, self._logged)
                if why and self._write(records.unobservable(_as_shown(decided), why)):
                    decided.said = True

    def _tell(self, now: float) -> None:
        for place, kind, count in self._tally.due(now, self._known):
            self._record(place, kind, count, now)
        if now - self._lost_told >= self._limits.every and self._tell_lost():
            self._lost_told = now
        self._stand.keep([*self._others, *self._tally.untold()])

    def _known(self, place: Place) -> bool:
        """Whether it is one of the host's containers that the log knows; a user can say that anything was decided."""
        return place.uid == 0 and self._decisions is not None and self._decisions.has(place)

    def finish(self) -> None:
        """Tell all that was not told yet. Raises LogError."""
        self._follow()
        now = time.monotonic()
        for place, kind, count in self._tally.untold():
            self._record(place, kind, count, now, must=True)
        self._tell_lost(must=True)
        self._stand.keep([*self._others, *self._tally.untold()])

    def _record(self, place: Place, kind: Kind, count: Count, now: float, must: bool = False) -> None:
        known = self._known(place)
        if self._write(records.denial(place, self._decided(place), kind, count), must):
            self._tally.tell(place, count, now, known)

    def _decided(self, place: Place) -> Decided | None:
        if place == UNMAPPED or self._decisions is None:
            return None
        try:
            decided = self._decisions.of(place)
        except OSError:
            return None
        return None if decided is None else _as_shown(decided)

    def _tell_lost(self, must: bool = False) -> bool:
        """Say what the kernel lost, and what could not be told apart; whether there was anything."""
        lost, dropped = self._lost_count, self._tally.dropped
        if lost and self._write(records.lost(self._lost, lost), must):
            self._lost, self._lost_count = [], 0
        if dropped.count and self._write(records.forgotten(self._tally.dropped_places, dropped), must):
            self._tally.dropped, self._tally.dropped_places = Count(0.0, ""), 0
        return bool(lost or dropped.count)

    def _write(self, fields: dict[str, Any], must: bool = False) -> bool:
        """Append a record; a log that can't take it gets it later, unless this is the end."""
        try:
            log.append(fields)
        except log.LogError as error:
            if must:
                raise
            self.problem = str(error)
            return False
        self.written += 1
        return True


def _as_shown(decided: Decided) -> Decided:
    """The decision, whose record may be older than the setting that names are hidden."""
    if names.by_policy():
        decided.name = names.shown(decided.name)
    return decided
