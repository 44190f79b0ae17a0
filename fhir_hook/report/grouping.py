"""Records in groups: by reason, image, profile, container, user, day or decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fhir_hook.audit.selection import Record, text
from fhir_hook.core.codes import CODES
from fhir_hook.report import naming
from fhir_hook.report.tally import Names, Tally

MOST_GROUPS = 10_000
FURTHER = "(further ones, taken together)"
_KEYS: dict[str, Callable[[Record], list[str]]] = {
    "reason": naming.reasons_of,
    "image": lambda record: [naming.as_said(naming.image_of(record), record)],
    "profile": lambda record: [naming.as_said(naming.profiles_of(record), record)],
    "container": lambda record: [naming.container_of(record) or naming.UNMAPPED],
    "user": lambda record: [naming.user_of(record)],
    "day": lambda record: [naming.day_of(record)],
    "decision": lambda record: [text(record, "decision") or text(record, "event")],
}
BY = tuple(_KEYS)


class Group:
    """What is known of one group: a tally, how many of each kind, and the images and containers in it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.tally = Tally()
        self.kinds = {"confined": 0, "refused": 0, "other": 0, "denial": 0}
        self.images = Names()
        self.containers = Names()

    def add(self, record: Record, kind: str) -> None:
        """Count a record of a kind; a denial counts as often as it happened."""
        self.tally.add(record)
        self.kinds[kind] += naming.number(record, "count") if kind == "denial" else 1
        image = naming.image_of(record)
        self.images.add(image if image != naming.NO_IMAGE else "")
        self.containers.add(naming.container_of(record))

    @property
    def meaning(self) -> str:
        """What a code means; "" for groups that are no codes."""
        return CODES[self.key].title if self.key in CODES else ""

    @property
    def next_step(self) -> str:
        """What to do about a code."""
        return CODES[self.key].hint if self.key in CODES else ""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        more = {"meaning": self.meaning, "next_step": self.next_step} if self.meaning else {}
        return {
            "key": self.key,
            **more,
            **self.kinds,
            **self.tally.document(),
            "images": list(self.images.found),
            "containers": list(self.containers.found),
        }


class Grouping:
    """Takes records one by one and keeps a Group for each key of `by`."""

    def __init__(self, by: str) -> None:
        self.by = by
        self._keys = _KEYS[by]
        self._groups: dict[str, Group] = {}

    def add(self, record: Record) -> None:
        """Count a record, if it is a decision about a container or a denial; by reason, only refusals count.

        What users sent of their own logs does not count: they can write there what they like.
        """
        kind = naming.kind_of(record)
        if not kind or naming.sender_of(record) is not None or (self.by == "reason" and kind != "refused"):
            return
        for key in dict.fromkeys(self._keys(record) or ["(no reason)"]):
            if key not in self._groups and len(self._groups) >= MOST_GROUPS:
                key = FURTHER
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = Group(key)
            group.add(record, kind)

    @property
    def groups(self) -> list[Group]:
        """The largest first; days in their order."""
        if self.by == "day":
            return sorted(self._groups.values(), key=lambda group: group.key)
        return sorted(self._groups.values(), key=lambda group: (-group.tally.count, group.key))
