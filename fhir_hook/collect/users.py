"""Where each user's log has got to in the host's log, and how much a user may still send.

What was taken follows from the host's log itself: a kept snapshot, and the records behind it. So a record that was
appended is known to have been, whenever the collector was killed.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from fhir_hook.collect.shape import Taken
from fhir_hook.store import files, segments
from fhir_hook.store.log import FIRST_PREV

NEW, KNOWN = "new", "known"
_MARK = b'"from":{"log":"rootless","uid":'
_LIMIT = 64 << 20
_VERSION = 2
RECENT, _DIGITS = 256, 32
"""How many places of a user's log are told apart from others of the same seq."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one user may send: records and bytes in a minute and in a day."""

    minute: tuple[int, int] = (120, 512 << 10)
    day: tuple[int, int] = (10_000, 16 << 20)


class Window:
    """How much was taken in the current stretch of `seconds`."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.index = self.records = self.bytes = 0

    def room(self, now: float, most: tuple[int, int], size: int) -> bool:
        """Whether `size` bytes more are within the limit."""
        self._turn(now)
        return self.records < most[0] and self.bytes + size <= most[1]

    def take(self, now: float, size: int) -> None:
        """Count them."""
        self._turn(now)
        self.records += 1
        self.bytes += size

    def left(self, now: float) -> float:
        """Seconds until the next stretch begins."""
        return self.seconds - now % self.seconds

    def _turn(self, now: float) -> None:
        index = int(now // self.seconds)
        if index != self.index:
            self.index, self.records, self.bytes = index, 0, 0


class User:
    """The last record that was taken of a user's log, and the digest of the one that it began with.

    `recent` are the last places that were taken, by seq, with the beginnings of their digests: another record of such
    a place is no copy. A user's log may have been put back from a backup, and be written on from there.
    """

    def __init__(self) -> None:
        self.seq = -1
        self.digest = FIRST_PREV
        self.first = ""
        self.recent: dict[int, str] = {}
        self.minute, self.day = Window(60), Window(86_400)

    def judge(self, taken: Taken) -> str:
        """NEW, or KNOWN when the record was taken already, or may have been, too long ago to tell."""
        if taken.seq in self.recent:
            return KNOWN if self._is_at(taken.seq, taken.digest) else NEW
        if taken.seq > min([self.seq, *self.recent]):
            return NEW
        begins = taken.seq == 0 and taken.prev == FIRST_PREV
        return NEW if begins and taken.digest != self.first else KNOWN

    def gap(self, taken: Taken) -> bool:
        """Whether the record follows none that was taken, or takes the place of one: some are missing, or changed."""
        if (taken.seq, taken.prev) == (self.seq + 1, self.digest):
            return False
        return taken.seq in self.recent or not self._is_at(taken.seq - 1, taken.prev)

    def _is_at(self, seq: int, digest: str) -> bool:
        return self.recent.get(seq) == digest[:_DIGITS]

    def take(self, seq: int, digest: str) -> None:
        """The record was appended to the host's log."""
        if seq == 0 or not self.first:
            self.first = digest
        self.seq, self.digest = seq, digest
        self.recent.pop(seq, None)
        self.recent[seq] = digest[:_DIGITS]
        if len(self.recent) > RECENT:
            self.recent.pop(next(iter(self.recent)))

    def wait(self, now: float, limits: Limits, size: int) -> float:
        """Seconds until the user may send so many bytes; 0: now."""
        for window, most in ((self.day, limits.day), (self.minute, limits.minute)):
            if not window.room(now, most, size):
                return window.left(now)
        return 0.0


class Users:
    """All users, kept in the file `path`, of the host's log in the directory `where`."""

    def __init__(self, path: Path, where: Path) -> None:
        """Raises OSError when the log, or the file, may not be read."""
        self._path = path
        self._where = where
        self._segment, self._offset = 0, 0
        self.by_uid: dict[int, User] = {}
        self._load()
        self.catch_up()

    def of(self, uid: int) -> User:
        """A user; one that is not known yet begins anew."""
        return self.by_uid.setdefault(uid, User())

    def _load(self) -> None:
        try:
            kept = json.loads(files.read(str(self._path), _LIMIT))
            users = {int(uid): _user(entry) for uid, entry in kept["users"].items()}
            self._segment, self._offset = int(kept["segment"]), int(kept["offset"])
            self.by_uid = users
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, files.FileError):
            self._segment, self._offset = 0, 0  # the log tells all, if it takes longer

    def catch_up(self) -> None:
        """Read what was appended since. Raises OSError."""
        if not self._where.is_dir():
            return
        with segments.snapshot(self._where) as parts:
            for part in parts:
                if part.first < self._segment:
                    continue
                start = self._offset if part.first == self._segment else 0
                with part.opened() as fd:
                    for line in segments.lines_from(fd, start, part.size, 1 << 62):
                        if _MARK in line:
                            self._replay(line)
                self._segment, self._offset = part.first, part.size

    def _replay(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            place, uid = record["from"], record["user"]["uid"]
            if place["log"] == "rootless" and place["uid"] == uid:
                self.of(uid).take(int(place["seq"]), str(place["digest"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return

    def keep(self) -> None:
        """Write the snapshot; raises OSError."""
        self.catch_up()
        users = {str(uid): _entry(user) for uid, user in self.by_uid.items()}
        kept = {"version": _VERSION, "segment": self._segment, "offset": self._offset, "users": users}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(str(self._path), (json.dumps(kept) + "\n").encode(), 0o600)


def _entry(user: User) -> dict[str, Any]:
    day = [user.day.index, user.day.records, user.day.bytes]
    return {"seq": user.seq, "digest": user.digest, "first": user.first, "day": day, "recent": [*user.recent.items()]}


def _user(entry: dict[str, Any]) -> User:
    user = User()
    user.seq, user.digest, user.first = int(entry["seq"]), str(entry["digest"]), str(entry["first"])
    user.recent = {int(seq): str(digest) for seq, digest in entry["recent"]}
    user.day.index, user.day.records, user.day.bytes = (int(number) for number in entry["day"])
    return user
