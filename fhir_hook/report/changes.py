"""What changed since a time: images, profiles, policies and refusals that were not seen before, and what was done to
settings, mode, hook, policy and log."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from fhir_hook.audit.selection import Record, items, text, time_of
from fhir_hook.report import naming

MOST_EVENTS = 2000
MOST_KNOWN = 200_000
_ABOUT_CONTAINERS = ("decision", "outcome", "denial", "watch", "collect")
_LEFT_OUT = {"time", "seq", "prev", "event", "user", "host", "boot", "image", "identified_by"}
_LONGEST = 400


class Event:
    """One line of what happened: `time`, `seq`, `kind` (an event of the log, or new image, ...), `what`, `who`."""

    __slots__ = ("kind", "seq", "time", "what", "who")

    def __init__(self, record: Record, kind: str, what: str) -> None:
        self.time = text(record, "time")
        self.seq = record.get("seq")
        self.kind = kind
        self.what = what
        self.who = naming.user_of(record)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


class Changes:
    """Takes the whole log in its order; what lies before `since` tells what is new. `further` are left out."""

    def __init__(self, since: datetime | None = None, until: datetime | None = None) -> None:
        self._since = since
        self._until = until
        self._known: dict[tuple[str, str], None] = {}
        self._policy = ""
        self.events: list[Event] = []
        self.further = 0

    def add(self, record: Record) -> None:
        """Take a record; what users say changed is no change of the host's."""
        if not record or naming.sender_of(record) is not None:
            return
        when = time_of(record)
        if self._until and when and when > self._until:
            return
        inside = self._since is None or (when is not None and when >= self._since)
        if record.get("event") in ("decision", "outcome"):
            self._container(record, inside)
        elif inside and record.get("event") not in _ABOUT_CONTAINERS and not naming.is_of_little_note(record):
            self._note(record, text(record, "event") or "(no event)", described(record))

    def _container(self, record: Record, inside: bool) -> None:
        image = naming.image_of(record)
        if image != naming.NO_IMAGE:
            self._first(record, "new image", image, image, inside)
        for profile in items(record, "profile"):
            name = f"{text(profile, 'name')} {text(profile, 'version')}, digest {text(profile, 'digest')[:12]}"
            self._first(record, "new profile", name, name, inside)
        policy = text(record, "policy")
        if policy and policy != self._policy:
            if inside:
                before = f", before {self._policy[:12]}" if self._policy else ""
                self._note(record, "policy in use", f"{policy[:12]}{before}")
            self._policy = policy
        if record.get("decision") == "refused":
            for code in naming.reasons_of(record)[:1]:
                about = image if image != naming.NO_IMAGE else naming.container_of(record)
                self._first(record, "first refusal", f"{code} {about}", f"{code}: {about}", inside)

    def _first(self, record: Record, kind: str, key: str, what: str, inside: bool) -> None:
        if (kind, key) in self._known or len(self._known) >= MOST_KNOWN:
            return
        self._known[kind, key] = None
        if inside:
            self._note(record, kind, what)

    def _note(self, record: Record, kind: str, what: str) -> None:
        if len(self.events) < MOST_EVENTS:
            self.events.append(Event(record, kind, what))
        else:
            self.further += 1


def described(record: Record) -> str:
    """What a record says that is not about a container: its own members, in one line."""
    old, new = record.get("old"), record.get("new")
    own = {name: value for name, value in record.items() if name not in _LEFT_OUT and value not in ("", None, [], {})}
    parts = []
    if old and new and old != new:
        parts.append(f"{_value(old)} \u2192 {_value(new)}")
        own = {name: value for name, value in own.items() if name not in ("old", "new")}
    parts += [f"{name} {_value(value)}" for name, value in own.items() if (name, value) != ("result", "changed")]
    line = ", ".join(parts)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "\u2026"


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value[:12] if len(value) == 64 and value.isalnum() else value
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return str(value["name"])
    return json.dumps(value)
