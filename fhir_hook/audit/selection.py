"""Which records are meant: a filter over what records say, whatever they say.

Records come from files that anybody may have written: every member can be missing or of another type than it should be.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Selection:
    """A record is meant if it meets every member that is set.

    `container` is a name or the start of an id, `image` a part of a name or the start of an id, `user` a uid (of the
    process or of the login), `profile` a name, `name version`, or the start of a digest; `code` is that of a reason or
    finding, `source` is host (what this host's hook and commands wrote) or users (what users sent of their own logs).
    """

    since: datetime | None = None
    until: datetime | None = None
    container: str = ""
    image: str = ""
    decision: str = ""
    code: str = ""
    user: int | None = None
    event: str = ""
    profile: str = ""
    source: str = ""

    def matches(self, record: Record) -> bool:
        """Whether a record is meant."""
        return (
            (not self.event or record.get("event") == self.event)
            and (not self.decision or record.get("decision") == self.decision)
            and (not self.source or (self.source == "users") == is_claim(record))
            and (not self.container or self._container(part(record, "container")))
            and (not self.image or self._image(part(record, "image")))
            and (not self.code or self.code.upper() in codes_of(record))
            and (self.user is None or self._user(part(record, "user")))
            and (not self.profile or any(self._profile(each) for each in items(record, "profile")))
            and (not (self.since or self.until) or self._time(time_of(record)))
        )

    def _container(self, container: Record) -> bool:
        return self.container == container.get("name") or str(container.get("id", "")).startswith(self.container)

    def _image(self, image: Record) -> bool:
        return str(image.get("id", "")).startswith(self.image) or any(self.image in name for name in names_of(image))

    def _user(self, user: Record) -> bool:
        return any(type(value) is int and value == self.user for value in (user.get("uid"), user.get("login")))

    def _profile(self, profile: Record) -> bool:
        name, version = text(profile, "name"), text(profile, "version")
        starts = len(self.profile) >= 8 and text(profile, "digest").startswith(self.profile)
        return self.profile in (name, f"{name} {version}") or starts

    def _time(self, time: datetime | None) -> bool:
        """A record without a readable time is in no period."""
        if time is None:
            return False
        return not ((self.since and time < self.since) or (self.until and time > self.until))


def is_claim(record: Record) -> bool:
    """Whether a record says what a user sent of a log that this user may write as they like."""
    return "from" in record


def part(record: Record, member: str) -> Record:
    """A member that is an object; {} when it is missing or something else."""
    value = record.get(member)
    return value if isinstance(value, dict) else {}


def items(record: Record, member: str) -> list[Record]:
    """A member that is a list of objects; what else is in it is left out. One object stands for a list of one."""
    value = record.get(member)
    if isinstance(value, dict):
        return [value]
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text(record: Record, member: str) -> str:
    """A member that is a text; "" when it is missing or something else."""
    value = record.get(member)
    return value if isinstance(value, str) else ""


def names_of(image: Record) -> list[str]:
    """The names of an image."""
    names = image.get("names")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def codes_of(record: Record) -> list[str]:
    """The codes of a record's reasons and findings."""
    return [text(each, "code") for each in [*items(record, "reasons"), *items(record, "findings")]]


def time_of(record: Record, member: str = "time") -> datetime | None:
    """When the record was written, in UTC; None when that can't be read."""
    return utc_time(text(record, member))


def utc_time(time: str) -> datetime | None:
    """A record's time; one without a zone is UTC, as all are that the log writes. None when it can't be read."""
    try:
        found = datetime.fromisoformat(time)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def local_time(time: str) -> datetime | None:
    """The same in this host's zone."""
    found = utc_time(time)
    try:
        return found.astimezone() if found else None
    except (ValueError, OverflowError):
        return None
