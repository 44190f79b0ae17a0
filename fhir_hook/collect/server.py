"""Taking users' records over a unix socket: SOCK_SEQPACKET, one line of a log in a packet, an answer for each.

An answer comes when the record is in the host's log and on the disk, or was there before. Who sends is what the kernel
says (SO_PEERCRED, unix(7)). Nobody can hold up anybody else: each connection gets one packet at a time, and a user has
few of them.
"""

from __future__ import annotations

import contextlib
import json
import pwd
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from fhir_hook.audit.selection import text
from fhir_hook.collect import shape
from fhir_hook.collect.users import KNOWN, Limits, User, Users
from fhir_hook.store import log, names

PACKET = log.LONGEST_RECORD
TAKEN, REFUSED, LATER = "taken", "refused", "later"
CONNECTIONS, PER_USER = 128, 4
IDLE = 10.0  # seconds that a connection may say nothing
_HOUR = 3600.0
_KEEP_EVERY = 200
_MOST_TOLD = 4096
_UCRED = struct.Struct("=iII")


class _Connection:
    """A connected user; `unwanted` says why nothing is taken of this one, or ""."""

    def __init__(self, stream: socket.socket, uid: int) -> None:
        self.stream = stream
        self.uid = uid
        self.unwanted = _unwanted(uid)
        self.heard = time.monotonic()


class Collector:
    """Serves the listening socket `listening`. `taken` and `refused` count records."""

    def __init__(self, listening: socket.socket, users: Users, limits: Limits) -> None:
        self._listening = listening
        self._users = users
        self._limits = limits
        self._connections: dict[int, _Connection] = {}
        self._told: dict[tuple[int, str], float] = {}
        self._unkept = 0
        self.taken = self.refused = 0
        listening.setblocking(False)

    def run(self, goes_on: Callable[[], bool]) -> None:
        """Serve as long as `goes_on()`; raises OSError when what was taken can't be kept."""
        try:
            while goes_on():
                self.step(0.5)
        finally:
            for connection in list(self._connections.values()):
                self._close(connection)
            self._users.keep()

    def step(self, seconds: float) -> None:
        """Wait at most so long, and take one packet of everyone who sent something."""
        streams = [connection.stream for connection in self._connections.values()]
        # Before new ones are let in, those that are there get their answer.
        ready, _, _ = select.select([*streams, self._listening], [], [], seconds)
        for stream in ready:
            if stream is self._listening:
                self._accept()
            else:
                self._serve(self._connections[stream.fileno()])
        now = time.monotonic()
        for connection in [c for c in self._connections.values() if now - c.heard > IDLE]:
            self._close(connection)
        if self._unkept >= _KEEP_EVERY or (self._unkept and not self._connections):
            self._users.keep()
            self._unkept = 0

    def _accept(self) -> None:
        try:
            stream, _ = self._listening.accept()
        except OSError:
            return
        stream.setblocking(False)
        _, uid, _ = _UCRED.unpack(stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        connection = _Connection(stream, uid)
        # Ids of nobody's, of which each user may have 65,536 (subuid(5)), count as one.
        same = sum(bool(c.unwanted and connection.unwanted) or c.uid == uid for c in self._connections.values())
        self._connections[stream.fileno()] = connection
        if same >= PER_USER or len(self._connections) > CONNECTIONS:
            self._answer(connection, LATER, seconds=60)
            self._close(connection)

    def _close(self, connection: _Connection) -> None:
        self._connections.pop(connection.stream.fileno(), None)
        connection.stream.close()

    def _serve(self, connection: _Connection) -> None:
        try:
            data, _, flags, _ = connection.stream.recvmsg(PACKET)
        except BlockingIOError:
            return
        except OSError:
            data, flags = b"", 0
        if not data:
            self._close(connection)
            return
        connection.heard = time.monotonic()
        if connection.unwanted:
            self._answer(connection, REFUSED, why=connection.unwanted)
            self._close(connection)
            return
        try:
            self._take(connection, data, whole=not flags & socket.MSG_TRUNC)
        except shape.Refused as error:
            self.refused += 1
            self._tell(connection.uid, REFUSED, str(error))
            self._answer(connection, REFUSED, why=str(error))
        except log.LogError:
            self._answer(connection, LATER, seconds=60)
            self._close(connection)

    def _take(self, connection: _Connection, line: bytes, whole: bool) -> None:
        user, now = self._users.of(connection.uid), time.time()
        wait = user.wait(now, self._limits, len(line))
        if wait:
            self._tell(connection.uid, LATER, "more than a user may send")
            self._answer(connection, LATER, seconds=round(wait) + 1)
            self._close(connection)
            return
        user.minute.take(now, len(line))
        if not whole:
            raise shape.Refused("longer than a record may be")
        taken = shape.take(line, connection.uid)
        if user.judge(taken) == KNOWN:
            self._answer(connection, KNOWN, seq=taken.seq)
            return
        self._append(taken, user, connection.uid)
        user.day.take(now, len(line))
        self.taken += 1
        self._unkept += 1
        self._answer(connection, TAKEN, seq=taken.seq)

    def _append(self, taken: shape.Taken, user: User, uid: int) -> None:
        if user.gap(taken):
            taken.fields["from"]["gap"] = True
        if "container" in taken.fields and names.by_policy():  # the user's settings may be others, or older
            container = taken.fields["container"]
            shown = {"id": names.shown_id(text(container, "id")), "name": names.shown(text(container, "name"))}
            taken.fields["container"] = shown
        log.append(taken.fields, {"uid": uid, "login": None})
        user.take(taken.seq, taken.digest)

    def _tell(self, uid: int, what: str, why: str) -> None:
        """One record in an hour says that a user's records are refused, or have to wait."""
        now = time.monotonic()
        last = self._told.get((uid, what))
        if (last is not None and now - last < _HOUR) or len(self._told) >= _MOST_TOLD:
            return
        self._told[(uid, what)] = now
        with contextlib.suppress(log.LogError):  # a log that can't take it is said with the next record
            log.append({"event": "collect", "what": what, "why": why}, {"uid": uid, "login": None})

    def _answer(self, connection: _Connection, result: str, **more: Any) -> None:
        try:
            connection.stream.send(json.dumps({"result": result, **more}).encode("ascii"), socket.MSG_NOSIGNAL)
        except OSError:
            self._close(connection)  # it does not read what it is told, or is gone


def _unwanted(uid: int) -> str:
    """Why nothing is taken of somebody, or ""."""
    if uid == 0:
        return "root's records are in the host's log"
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return "not a user of this host"
    return ""
