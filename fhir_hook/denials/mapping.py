"""From a process number to the container that it was in, while the process is there, and a little longer."""

from __future__ import annotations

import dataclasses
import os
import time

from fhir_hook.core import cgroup
from fhir_hook.denials.counting import UNMAPPED, Place
from fhir_hook.kernel import procfs

CGROUP, REMEMBERED, SESSION, NOWHERE = "cgroup", "remembered", "session", ""
UNSET = 4294967295
_MOST = 65_536
_FRESH = 1.0  # seconds for which a process is not looked at again
_SLACK = 2.0  # seconds by which the two clocks may differ: ticks, and a clock that is set while a process runs
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What a process number was: in which container, None for none, and when it began, 0.0 when it is gone."""

    at: float
    place: Place | None
    began: float


class Processes:
    """What /proc told, now and at the last two scans."""

    def __init__(self) -> None:
        self._depth = len(procfs.status(int(os.readlink("/proc/self"))).nspid)
        self._now: dict[int, _Seen] = {}
        self._before: dict[int, _Seen] = {}
        self._sessions: dict[int, set[Place]] = {}
        self._fresh: dict[int, _Seen] = {}

    def scan(self) -> set[Place]:
        """Look at all processes; returns the containers that run."""
        self._before, self._now = self._now, {}
        self._fresh = {}
        sessions: dict[int, set[Place]] = {}
        for name in os.listdir("/proc"):
            if not name.isdigit() or len(self._now) >= _MOST:
                continue
            place = _in_container(int(name))
            if place is not None:
                self._now[int(name)] = _Seen(0.0, place, _began(int(name)))
                sessions.setdefault(_session(int(name)), set()).add(place)
        # A container that has just ended still has its session.
        earlier = {seen.place for seen in self._before.values()}
        for session, places in self._sessions.items():
            if session not in sessions and places & earlier:
                sessions[session] = places
        self._sessions = sessions
        return {seen.place for seen in self._now.values() if seen.place is not None}

    def find(self, pid: int, session: int, when: float) -> tuple[Place, str] | None:
        """The container of a process and how it is known, UNMAPPED when it is not; None for what is in no container.

        `when`, in seconds since the epoch, it made its call: one that began later has only got the number.
        """
        now = time.monotonic()
        seen = self._fresh.get(pid)
        if seen is None or now - seen.at > _FRESH:
            if len(self._fresh) >= _MOST:
                self._fresh = {}
            seen = self._fresh[pid] = self._look(pid, now)
        if seen.began > when + _SLACK:
            return self._remembered(pid, session, when)
        if seen.place is None:
            return None
        if seen.place.id:
            return seen.place, CGROUP
        return self._remembered(pid, session, when)

    def _look(self, pid: int, now: float) -> _Seen:
        seen = _Seen(now, _in_container(pid), _began(pid))
        if seen.place is not None:
            known = self._now.get(pid)
            if known is not None and known.began < seen.began - _SLACK:
                self._before[pid] = known  # another one had the number
            self._now[pid] = seen
            return seen
        try:
            status = procfs.status(pid)
        except (OSError, KeyError):
            return dataclasses.replace(seen, place=UNMAPPED)
        # A zombie has left its groups; one below a pid namespace is in a container that its group does not name.
        nested = status.state in "ZX" or len(status.nspid) > self._depth
        return dataclasses.replace(seen, place=UNMAPPED if nested else None)

    def _remembered(self, pid: int, session: int, when: float) -> tuple[Place, str]:
        for seen in (self._now.get(pid), self._before.get(pid)):
            if seen is not None and seen.place is not None and seen.began <= when + _SLACK:
                return seen.place, REMEMBERED
        places = self._sessions.get(session, set()) if session != UNSET else set()
        if len(places) == 1:
            return next(iter(places)), SESSION
        return UNMAPPED, NOWHERE


def _in_container(pid: int) -> Place | None:
    try:
        groups = procfs.cgroups(pid).values()
    except (OSError, ValueError):
        return None
    for path in groups:
        owner = cgroup.container(path)
        if owner is not None:
            return Place(owner.id, owner.uid)
    return None


def _session(pid: int) -> int:
    try:
        return int(procfs.read(f"/proc/{pid}/sessionid") or UNSET)
    except (OSError, ValueError):
        return UNSET


def _began(pid: int) -> float:
    """When a process began, in seconds since the epoch; 0.0 when it is gone."""
    try:
        ticks = procfs.start_time(pid)
    except (OSError, ValueError, IndexError):
        return 0.0
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / _TICKS
