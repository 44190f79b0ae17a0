"""From a process number to the container that it was in, while the process is there, and a little longer."""

from __future__ import annotations

import os
import time

from fhir_hook.core import cgroup
from fhir_hook.denials.counting import UNMAPPED, Place
from fhir_hook.kernel import procfs

CGROUP, REMEMBERED, SESSION, NOWHERE = "cgroup", "remembered", "session", ""
UNSET = 4294967295
_MOST = 65_536
_FRESH = 1.0  # seconds for which a process is not looked at again


class Processes:
    """What /proc told, now and at the last two scans."""

    def __init__(self) -> None:
        self._depth = len(procfs.status(int(os.readlink("/proc/self"))).nspid)
        self._now: dict[int, Place] = {}
        self._before: dict[int, Place] = {}
        self._sessions: dict[int, set[Place]] = {}
        self._fresh: dict[int, tuple[float, Place | None]] = {}

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
                self._now[int(name)] = place
                sessions.setdefault(_session(int(name)), set()).add(place)
        # A container that has just ended still has its session.
        for session, places in self._sessions.items():
            if session not in sessions and places & set(self._before.values()):
                sessions[session] = places
        self._sessions = sessions
        return set(self._now.values())

    def find(self, pid: int, session: int) -> tuple[Place, str] | None:
        """The container of a process and how it is known, UNMAPPED when it is not; None for what is in no container."""
        now = time.monotonic()
        seen = self._fresh.get(pid)
        if seen is None or now - seen[0] > _FRESH:
            if len(self._fresh) >= _MOST:
                self._fresh = {}
            seen = self._fresh[pid] = (now, self._look(pid))
        if seen[1] is None:
            return None
        if seen[1].id:
            return seen[1], CGROUP
        return self._remembered(pid, session)

    def _look(self, pid: int) -> Place | None:
        place = _in_container(pid)
        if place is not None:
            self._now[pid] = place
            return place
        try:
            status = procfs.status(pid)
        except (OSError, KeyError):
            return UNMAPPED
        # A zombie has left its groups; one below a pid namespace is in a container that its group does not name.
        return UNMAPPED if status.state in "ZX" or len(status.nspid) > self._depth else None

    def _remembered(self, pid: int, session: int) -> tuple[Place, str]:
        place = self._now.get(pid) or self._before.get(pid)
        if place is not None:
            return place, REMEMBERED
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
