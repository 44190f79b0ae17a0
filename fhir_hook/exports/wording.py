"""What a record says, in the words that every export format shares: a kind, how it ended, a line for people.

Records come from files that anybody may have written, so every member may be missing or of another type.
"""

from __future__ import annotations

import dataclasses

from fhir_hook.audit.selection import Record, items, part, text
from fhir_hook.core.record import printable

_LONGEST = 1000
SUCCESS, MINOR, SERIOUS, MAJOR = "0", "4", "8", "12"  # FHIR's audit-event-outcome; DICOM PS3.15 A.5.2


@dataclasses.dataclass(frozen=True)
class Meaning:
    """`kind`: start, refusal, denial, watch, settings, policy, hook-on, hook-off, log or damage; `outcome`: one of
    SUCCESS ... MAJOR; `line`: for people."""

    kind: str
    outcome: str
    line: str


_STARTS = {
    "confined": (SUCCESS, "started confined"),
    "exempt": (SUCCESS, "exempt by the settings, started without a profile"),
    "ignored": (SUCCESS, "not a FHIR server, started as it was"),
    "undetermined": (MINOR, "started; it could not be known whether it is a FHIR server"),
}


def meaning(record: Record) -> Meaning:
    """What a record is about."""
    kind, outcome, line = _meaning(record)
    if "from" in record:  # a user may say so of anything: no alert
        line = f"user {part(record, 'from').get('uid')} says: {line}"
        kind, outcome = "start" if kind in ("start", "refusal") else "log", min(outcome, MINOR, key=int)
    why = [f"{text(each, 'code')} {text(each, 'text')}".strip() for each in items(record, "reasons")]
    return Meaning(kind, outcome, clean("; ".join([line, *why])) or line)


def _meaning(record: Record) -> tuple[str, str, str]:
    event, decision = text(record, "event"), text(record, "decision")
    if decision == "refused":
        return "refusal", SERIOUS, "refused: the container was not started"
    if event == "decision":
        outcome, line = _STARTS.get(decision, (MINOR, "decided"))
        if decision == "confined" and text(record, "mode") == "complain":
            line = "started in complain mode: nothing is denied, only logged"
        return "start", outcome, line
    if event == "outcome":
        return "start", SUCCESS, _IN_FORCE.get(text(record, "seen"), "seen in force")
    if event == "denial":
        times = record.get("count")
        often = f", {times} times" if isinstance(times, int) and times > 1 else ""
        how = "would be denied, and was let through" if text(record, "action") == "log" else "denied"
        return "denial", MINOR, f"{how}: {text(record, 'call') or 'a system call'}{often}"
    if event == "watch":
        what = text(record, "what")
        return "watch", MINOR if what in ("lost", "unobservable") else SUCCESS, f"watching for denials: {what}"
    return _of_host(record, event)


_IN_FORCE = {
    "config": "the plan is in config.json as the runtime gets it",
    "kernel": "the filter was read back from the kernel, and is the one that was planned",
    "count": "the filter was counted in the kernel; its bytes can't be read there",
}


def _of_host(record: Record, event: str) -> tuple[str, str, str]:
    what, result = text(record, "what"), text(record, "result")
    if event in ("settings", "mode"):
        return "settings", SUCCESS, f"{event} changed" + _change(record)
    if event == "policy":
        kept = result == "refused"
        line = "policy refused, the last one stays in force" if kept else f"policy {result or 'changed'}"
        return "policy", MINOR if kept else SUCCESS, line + _change(record)
    if event == "hook":
        off = what in ("removed", "disabled")
        return "hook-off" if off else "hook-on", SUCCESS, f"the hook was {what or 'changed'}"
    if event == "recovery":
        return "damage", MINOR, "the log ended in a torn record, which was cut off"
    if event == "log":
        damaged = (what, result) == ("key", "lost")
        return "log", MINOR if damaged else SUCCESS, f"the log: {' '.join(filter(None, (what, result)))}"
    return "log", SUCCESS, event or "a record"


def _change(record: Record) -> str:
    old, new = record.get("old"), record.get("new")
    return f": {old} to {new}" if isinstance(old, str) and isinstance(new, str) and len(old + new) < 100 else ""


def clean(value: str, longest: int = _LONGEST) -> str:
    """Text that strangers chose, for a format of one's own rules: nothing but printable characters, bounded; "" when
    there is nothing to see."""
    return printable(value[:longest])[:longest].strip()


def about_profile(record: Record) -> str:
    """The profiles of a record: name and version of each."""
    found = record.get("profile")
    if isinstance(found, str):
        return clean(found)
    names = (f"{text(each, 'name')} {text(each, 'version')}".strip() for each in items(record, "profile"))
    return clean(", ".join(names))


def uid_of(record: Record) -> str:
    """Who started it: the login uid where audit knows one, else the uid of the process; "" for neither."""
    user = part(record, "user")
    for value in (user.get("login"), user.get("uid")):
        if type(value) is int and 0 <= value < 1 << 32:
            return str(value)
    return ""
