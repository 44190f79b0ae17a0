"""What records are about, as the keys that a report groups them by."""

from __future__ import annotations

from fhir_hook.audit.selection import Record, codes_of, items, local_time, names_of, part, text

NO_IMAGE = "(image unknown)"
NO_PROFILE = "(no profile)"
UNMAPPED = "(not matched to a container)"


def container_of(record: Record) -> str:
    """A container by its name, else the start of its id, else ""."""
    container = part(record, "container")
    return text(container, "name") or text(container, "id")[:12]


def image_of(record: Record) -> str:
    """An image by its first name, else the start of its id or digest."""
    image = part(record, "image")
    names = names_of(image)
    return names[0] if names else text(image, "id")[:12] or text(image, "digest")[:19] or NO_IMAGE


def profiles_of(record: Record) -> str:
    """The profiles that were applied: NAME VERSION, joined by +."""
    if text(record, "profile"):
        return text(record, "profile")
    found = [f"{text(each, 'name')} {text(each, 'version')}".strip() for each in items(record, "profile")]
    return " + ".join(filter(None, found)) or NO_PROFILE


def digests_of(record: Record) -> str:
    """The digests of these profiles, shortened."""
    return " + ".join(text(each, "digest")[:12] for each in items(record, "profile"))


def user_of(record: Record) -> str:
    """Who: the uid, and the login uid where that is another."""
    user = part(record, "user")
    uid, login = user.get("uid"), user.get("login")
    if type(uid) is not int:
        return "(unknown)"
    return f"uid {uid}" if login in (None, uid) else f"uid {uid}, logged in as {login}"


def reasons_of(record: Record) -> list[str]:
    """The codes of the reasons."""
    return [text(each, "code") or "(no code)" for each in items(record, "reasons")]


def day_of(record: Record) -> str:
    """The day in this host's zone, which times are shown in: 2026-11-21."""
    time = local_time(text(record, "time"))
    return time.strftime("%Y-%m-%d") if time else text(record, "time")[:10]


def kind_of(record: Record) -> str:
    """confined, refused, other (another decision), denial, or "" for what is no decision about a container."""
    decision, event = record.get("decision"), record.get("event")
    if event == "denial":
        return "denial"
    if decision == "refused" and event in ("decision", "outcome"):
        return "refused"
    if event != "decision":
        return ""
    return "confined" if decision == "confined" else "other"


def is_complain(record: Record) -> bool:
    """Whether a confined container runs in complain mode: nothing is denied."""
    return record.get("event") == "decision" and record.get("decision") == "confined" and record.get("mode") == (
        "complain"
    )


def is_without(record: Record) -> bool:
    """Whether a container started without a profile: exempt, or undetermined."""
    return record.get("event") == "decision" and record.get("decision") in ("exempt", "undetermined")


def joined_codes(record: Record) -> str:
    """The codes of a record's reasons and findings, each once."""
    return " ".join(dict.fromkeys(filter(None, codes_of(record))))


def sender_of(record: Record) -> int | None:
    """The uid of the user whose own log a record was collected from: it says what that user's log says."""
    uid = part(record, "from").get("uid")
    return uid if type(uid) is int else None


def claimed_by(record: Record) -> int | None:
    """The uid of the user whose word the image and the profile of a record are: a sender's, or a denial's owner's."""
    sender, owner = sender_of(record), record.get("owner")
    return sender if sender is not None else owner if type(owner) is int and owner > 0 else None


def as_said(name: str, record: Record) -> str:
    """The name of an image or a profile, and whose word that is unless it is the host's own."""
    user = claimed_by(record)
    return name if user is None else f"{name} (as uid {user} says)"


def is_of_little_note(record: Record) -> bool:
    """Whether a record that is about no decision would only fill a list of changes."""
    return is_unobservable(record) or (record.get("event"), record.get("what")) == ("collect", "other")


def is_unobservable(record: Record) -> bool:
    """Whether a record says that nothing will be heard of a container's denials."""
    return record.get("event") == "watch" and record.get("what") == "unobservable"


def number(record: Record, member: str, otherwise: int = 1) -> int:
    """A count in a record, as long as it is one."""
    value = record.get(member)
    return value if type(value) is int and 0 <= value < 1 << 53 else otherwise
