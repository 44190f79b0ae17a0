"""The options that choose records, the same in every command that reads the log."""

from __future__ import annotations

import functools
import pwd
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from fhir_hook.audit.selection import Selection

DECISIONS = ("confined", "refused", "exempt", "undetermined", "ignored")
_TEXTS = ("container", "image", "decision", "code", "event", "profile", "source")
SOURCES = ("host", "users")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_OPTIONS = (
    click.option("--container", default="", help="Only this container: its name, or the start of its id."),
    click.option("--image", default="", help="Only this image: a part of its name, or the start of its id."),
    click.option("--decision", default="", type=click.Choice(["", *DECISIONS]), metavar="|".join(DECISIONS),
                 help="Only this decision."),
    click.option("--code", default="", help="Only records with this reason or finding."),
    click.option("--user", default="", help="Only this user, by login name or number."),
    click.option("--event", default="", help="Only this kind of record: decision, outcome, policy, denial, ..."),
    click.option("--profile", default="", help="Only this profile: NAME, 'NAME VERSION', or the start of its digest."),
    click.option("--source", default="", type=click.Choice(["", *SOURCES]), metavar="|".join(SOURCES),
                 help="Only what this host wrote, or only what users sent of logs of their own."),
    click.option("--since", default="", help="Only from this time on: 2h, 3d, monday, 2026-11-21T10:00."),
    click.option("--until", default="", help="Only up to this time."),
)


def selection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the command gets them as `selection`, a Selection."""

    @functools.wraps(function)
    def command(*args: Any, since: str, until: str, user: str, **more: Any) -> Any:
        wanted = {name: more.pop(name) for name in _TEXTS}
        selection = Selection(
            since=parse_time(since) if since else None,
            until=parse_time(until, at_end=True) if until else None,
            user=parse_user(user) if user else None,
            **wanted,
        )
        return function(*args, selection=selection, **more)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def parse_time(text: str, at_end: bool = False) -> datetime:
    """A time as people give it, in UTC: 2h, 3d (ago), today, yesterday, monday (the last one, at midnight), 2026-11-21,
    2026-11-21T10:00 (local unless a zone is given). With `at_end` a date means the end of that day."""
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    try:
        if match:
            return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        day = _day(text.lower()) or (datetime.fromisoformat(text) if len(text) == len("2026-11-21") else None)
        if day:
            return (day + timedelta(days=1, microseconds=-1) if at_end else day).astimezone(UTC)
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text!r} is no time: write 2h, 3d, monday or 2026-11-21T10:00") from None


def _day(text: str) -> datetime | None:
    """Midnight of today, of yesterday, or of the last day that is called so."""
    midnight = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)
    if text in ("today", "yesterday"):
        return midnight - timedelta(days=text == "yesterday")
    if text in _DAYS:
        return midnight - timedelta(days=(midnight.weekday() - _DAYS.index(text)) % 7)
    return None


def parse_user(text: str) -> int:
    """The uid of a user by name or number."""
    if text.isascii() and text.isdigit():
        return int(text[:12])
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise click.BadParameter(f"there is no user {text!r} here; give the number") from None
