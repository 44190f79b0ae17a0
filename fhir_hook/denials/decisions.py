"""What the log last decided about a container, found from its end: older parts are read only when they have to be."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fhir_hook.core import decide
from fhir_hook.core.record import bounded
from fhir_hook.denials.counting import Place
from fhir_hook.store import segments

RECENT = 32 << 20  # bytes that are read when watching begins
FARTHEST = 1 << 30  # bytes that are searched for one container
_KNOWN = 4096
_BLOCK = 1 << 20
_MOST_PROFILES = 8
_ABOUT = ("policy", "mode", "path")


class Decided:
    """A decision: its `seq`, `decision` and `mode`, and `about`, the members that records of denials repeat.

    `logged` is whether the kernel was asked to log what is denied, `said` whether a record after it says that denials
    can't be observed.
    """

    __slots__ = ("about", "decision", "logged", "mode", "name", "path", "place", "said", "seq")

    def __init__(self, place: Place, record: dict[str, Any]) -> None:
        self.place = place
        self.seq = _number(record.get("seq"))
        self.decision = str(record.get("decision", ""))
        self.mode = str(record.get("mode", ""))
        self.path = str(record.get("path", ""))
        self.name = str(record["container"].get("name", ""))
        seccomp = record.get("seccomp")
        self.logged = isinstance(seccomp, dict) and seccomp.get("logged") is True
        image = record.get("image")
        self.about = {name: record[name] for name in _ABOUT if isinstance(record.get(name), str) and record[name]}
        profiles = record.get("profile")
        if isinstance(profiles, list):
            self.about["profile"] = [_shortened(each) for each in profiles[:_MOST_PROFILES] if isinstance(each, dict)]
        if isinstance(image, dict):
            names = image.get("names")
            kept = [name for name in names[:1] if isinstance(name, str)] if isinstance(names, list) else []
            told = {k: v for k, v in image.items() if k in ("id", "digest") and isinstance(v, str)}
            self.about["image"] = {**told, "names": kept}
        self.said = False

    @property
    def confined(self) -> bool:
        """Whether a profile applies, enforced or not."""
        return self.decision == decide.CONFINED


class Decisions:
    """The newest decisions of the log in the directory `where`."""

    def __init__(self, where: Path) -> None:
        """Reads the log's newest part. Raises OSError when it may not be read."""
        self._where = where
        self._known: OrderedDict[Place, Decided | None] = OrderedDict()
        self._segment, self._offset = 0, 0
        with segments.snapshot(where) as parts:
            left = RECENT
            recent: list[bytes] = []
            for part in reversed(parts):
                with part.opened() as fd:
                    recent += _lines_back(fd, b'"container":', part.size, max(0, part.size - left))
                left -= part.size
                if left <= 0:
                    break
            self._stand(parts)
        for line in reversed(recent):
            self._take(line)

    def _stand(self, parts: list[segments.Part]) -> None:
        if parts:
            self._segment, self._offset = parts[-1].first, parts[-1].size

    def follow(self) -> list[Decided]:
        """Read what was appended since; returns the decisions that were seen in force. Raises OSError."""
        found: list[Decided] = []
        with segments.snapshot(self._where) as parts:
            for part in parts:
                if part.first < self._segment:
                    continue
                start = self._offset if part.first == self._segment else 0
                if start < part.size:
                    with part.opened() as fd:
                        taken = [self._take(line) for line in segments.lines_from(fd, start, part.size, 1 << 62)]
                    found += [decided for decided in taken if decided is not None]
            self._stand(parts)
        return found

    def has(self, place: Place) -> bool:
        """Whether a decision about a container is known without a search."""
        return self._known.get(place) is not None

    def of(self, place: Place) -> Decided | None:
        """The last decision about a container by the user who runs it, None when the log has none. Raises OSError."""
        found = self._known[place] if place in self._known else self._search(place)
        self._remember(place, found)
        return found

    def _search(self, place: Place) -> Decided | None:
        needle = f'"id":"{place.id}"'.encode("ascii")
        left, said = FARTHEST, False
        with segments.snapshot(self._where) as parts:
            for part in reversed(parts):
                with part.opened() as fd:
                    for line in _lines_back(fd, needle, part.size, max(0, part.size - left)):
                        record, whose = parsed(line)
                        if whose != place:
                            continue
                        if record.get("event") == "decision":
                            decided = Decided(place, record)
                            decided.said = said
                            return decided
                        said = said or is_unobservable(record)
                left -= part.size
                if left <= 0:
                    break
        return None

    def _take(self, line: bytes) -> Decided | None:
        record, place = parsed(line)
        if place is None:
            return None
        if record.get("event") == "decision":
            self._remember(place, Decided(place, record))
            return None
        known = self._known.get(place)
        if known is not None and is_unobservable(record):
            known.said = True
        in_force = record.get("event") == "outcome" and "seen" in record
        return known if in_force else None

    def _remember(self, place: Place, decided: Decided | None) -> None:
        self._known[place] = decided
        self._known.move_to_end(place)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)


def parsed(line: bytes) -> tuple[dict[str, Any], Place | None]:
    """A record, and the container that it is about: whose it is says the record's user, whom the log itself names."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}, None
    if not isinstance(record, dict):
        return {}, None
    container, user = record.get("container"), record.get("user")
    if not isinstance(container, dict) or not isinstance(user, dict) or not container.get("id"):
        return record, None
    # The watcher, who writes those, names the container's user apart.
    uid = record.get("owner") if record.get("event") in ("denial", "watch") else user.get("uid")
    return record, Place(str(container["id"]), _number(uid))


def _shortened(profile: dict[str, Any]) -> dict[str, str]:
    return {name: bounded(str(profile.get(name, ""))) for name in ("name", "version", "digest")}


def is_unobservable(record: dict[str, Any]) -> bool:
    """Whether a record says that denials of a container can't be observed."""
    return record.get("event") == "watch" and record.get("what") == "unobservable"


def _number(value: Any) -> int:
    return value if isinstance(value, int) else -1


def _lines_back(fd: int, needle: bytes, end: int, floor: int) -> Iterator[bytes]:
    """The lines with `needle` among the bytes from `floor` to `end`, which is behind a newline; the newest first."""
    while end > floor:
        start = max(floor, end - _BLOCK)
        data = os.pread(fd, end - start, start)
        # The first line of a block may begin before it: it is for the next block.
        cut = data.find(b"\n") + 1 if start > 0 else 0
        end = start + cut if start > floor and 0 < cut < len(data) else start
        at = len(data)
        while (at := data.rfind(needle, cut, at)) >= 0:
            first = data.rfind(b"\n", 0, at) + 1
            yield data[first : data.find(b"\n", at)]
            at = first
