"""Records as FHIR R4 AuditEvent resources (hl7.org/fhir/R4/auditevent.html), codes by DICOM (PS3.15 A.5.3, PS3.16).

No IHE BALP profile covers the admission of containers: the base resource is used, and no profile claimed. A resource's
id is the SHA-256 of the record's line in the log, so that the same record has the same id wherever it is exported, a
repository that gets it twice keeps one, and an auditor finds the line again.
"""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from datetime import datetime
from hashlib import sha256
from typing import Any

from fhir_hook.audit.selection import Record, names_of, part, text, time_of
from fhir_hook.core.version import VERSION
from fhir_hook.exports.wording import SUCCESS, Meaning, about_profile, clean, meaning, uid_of

DCM = "http://dicom.nema.org/resources/ontology/DCM"
SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_URI = "urn:ietf:rfc:3986"
_DISPLAY = {
    "110100": "Application Activity",
    "110101": "Audit Log Used",
    "110113": "Security Alert",
    "110120": "Application Start",
    "110121": "Application Stop",
    "110129": "Security Configuration",
    "110131": "Software Configuration",
    "110132": "Use of Restricted Function",
    "110133": "Audit Recording Stopped",
    "110134": "Audit Recording Started",
    "110150": "Application",
    "110151": "Application Launcher",
}
# kind of a record -> type, subtypes, action
_CODES: dict[str, tuple[str, list[str], str]] = {
    "start": ("110100", ["110120"], "E"),
    "refusal": ("110113", ["110132"], "E"),
    "denial": ("110113", ["110132"], "E"),
    "watch": ("110100", [], "E"),
    "settings": ("110113", ["110129"], "U"),
    "policy": ("110113", ["110129"], "U"),
    "hook-on": ("110113", ["110131", "110134"], "E"),
    "hook-off": ("110113", ["110131", "110133"], "E"),
    "log": ("110101", [], "E"),
    "damage": ("110113", ["110133"], "E"),
}


class Unusable(Exception):
    """The record has no readable time, without which there is no AuditEvent; str() is one line."""


def audit_event(record: Record, digest: str, origin: str = "") -> dict[str, Any]:
    """The AuditEvent of a record whose line has this SHA-256, of the log that is called `origin`. Raises Unusable."""
    when = time_of(record)
    if when is None:
        raise Unusable("it has no time")
    what = meaning(record)
    type, subtypes, action = _CODES[what.kind]
    event: dict[str, Any] = {"resourceType": "AuditEvent", "id": digest, "type": _dicom(type)}
    if subtypes:
        event["subtype"] = [_dicom(code) for code in subtypes]
    event |= {
        "action": action,
        "recorded": when.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "outcome": what.outcome,
        "outcomeDesc": what.line,
        "agent": _agents(record),
        "source": _source(record, origin),
        "entity": _entities(record, digest, origin, what if type == "110113" else None),
    }
    return event


def checkpoint_event(signed: str, when: datetime, host: str) -> dict[str, Any]:
    """The AuditEvent of a checkpoint (a C2SP signed note), which is in it whole: what vouches for the records.

    Its id is the SHA-256 of the note, `when` the time at which it was signed.
    """
    origin, size = (clean(line, 255) for line in (signed.split("\n") + ["", ""])[:2])
    digest = sha256(signed.encode()).hexdigest()
    record: Record = {"host": host, "event": "checkpoint"}
    entity = _line(record, digest, origin) | {"name": f"checkpoint of {size} records of {origin}"}
    note = {"type": "signed note", "valueBase64Binary": b64encode(signed.encode()).decode("ascii")}
    return {
        "resourceType": "AuditEvent",
        "id": digest,
        "type": _dicom("110101"),
        "action": "E",
        "recorded": when.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "outcome": SUCCESS,
        "outcomeDesc": f"the log was signed: {size} records",
        "agent": _agents({}),
        "source": _source(record, origin),
        "entity": [entity | {"detail": [{"type": "SHA-256 of the checkpoint", "valueString": digest}, note]}],
    }


def _dicom(code: str) -> dict[str, str]:
    return _coding(DCM, code, _DISPLAY[code])


def _coding(system: str, code: str, display: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": display}


def _agents(record: Record) -> list[dict[str, Any]]:
    """Who asked for it, and the hook that acted on it; one of them is the requestor (DICOM PS3.15 A.5.2)."""
    hook = {
        "type": {"coding": [_dicom("110150")]},
        "who": {"display": f"fhir-hook {VERSION}"},
        "name": "fhir-hook",
        "requestor": False,
    }
    uid = uid_of(record)
    if not uid:
        return [{**hook, "requestor": True}]
    user = {
        "type": {"coding": [_dicom("110151")]},
        "who": {"identifier": {"value": uid}, "display": f"user {uid} of the host"},
        "altId": uid,
        "requestor": True,
    }
    return [user, hook]


def _source(record: Record, origin: str) -> dict[str, Any]:
    host = clean(text(record, "host"), 255)
    observer: dict[str, Any] = {"display": f"fhir-hook on {host}" if host else "fhir-hook"}
    if origin:
        observer["identifier"] = {"value": clean(origin, 255)}
    source: dict[str, Any] = {"site": host} if host else {}
    return {**source, "observer": observer, "type": [_coding(SOURCE_TYPE, "6", "Security Server")]}


def _entities(record: Record, digest: str, origin: str, alert: Meaning | None) -> list[dict[str, Any]]:
    entities = [each for each in (_container(record), _image(record)) if each]
    entities.append(_line(record, digest, origin))
    if alert is not None and alert.outcome != SUCCESS:
        details = entities[0].setdefault("detail", [])
        details.insert(0, {"type": "Alert Description", "valueString": alert.line})
    return entities


def _object(id: str, name: str, role: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"what": {"identifier": {"value": id}}} if id else {}
    found["type"] = _coding(ENTITY_TYPE, "2", "System Object")
    if role:
        found["role"] = _coding(OBJECT_ROLE, "13", "Security Resource")
    if name:
        found["name"] = name
    return found


def _container(record: Record) -> dict[str, Any]:
    container = part(record, "container")
    id, name = clean(text(container, "id")), clean(text(container, "name"))
    if not (id or name):
        return {}
    seccomp = part(record, "seccomp")
    details = _details(
        {
            "decision": text(record, "decision"),
            "mode": text(record, "mode"),
            "profile": about_profile(record),
            "path": text(record, "path"),
            "stage": text(record, "stage"),
            "calls allowed": _numbers(seccomp.get("allowed_before"), seccomp.get("allowed")),
            "call": text(record, "call"),
            "count": _numbers(record.get("count")),
            "first": text(record, "first"),
            "last": text(record, "last"),
        }
    )
    return _object(id, name) | ({"detail": details} if details else {})


def _numbers(*values: Any) -> str:
    return " to ".join(str(value) for value in values) if all(type(value) is int for value in values) else ""


def _details(pairs: dict[str, str]) -> list[dict[str, str]]:
    return [{"type": name, "valueString": shown} for name, value in pairs.items() if (shown := clean(value))]


def _image(record: Record) -> dict[str, Any]:
    image = part(record, "image")
    id, names = clean(text(image, "id") or text(image, "digest")), names_of(image)
    if not (id or names):
        return {}
    details = _details({"image digest": text(image, "digest")})
    found = _object(id, clean(names[0]) if names else "", role=False)
    return found | ({"detail": details} if details else {})


def _line(record: Record, digest: str, origin: str) -> dict[str, Any]:
    """The record itself: where it stands, and what it hashes to, as a name by RFC 6920."""
    seq = _numbers(record.get("seq"))
    name = f"record {seq} of {clean(origin, 255) or 'the log'}" if seq else "record"
    details = _details(
        {
            "event": text(record, "event"),
            "SHA-256 of the record": digest,
            "SHA-256 of the record before": text(record, "prev"),
            "policy": text(record, "policy"),
            "boot": text(record, "boot"),
        }
    )
    entity = _object("", name) | {"detail": details}
    return {"what": {"identifier": {"system": _URI, "value": named(digest)}}, **entity}


def named(digest: str) -> str:
    """The URI of what has this SHA-256 (RFC 6920, section 3)."""
    return "ni:///sha-256;" + urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip("=")
