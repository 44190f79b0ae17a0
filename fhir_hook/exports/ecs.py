"""Records as documents of the Elastic Common Schema 8.11 (elastic.co/guide/en/ecs/8.11), with what it has no field for
below `fhir_hook`, as the schema asks of custom fields."""

from __future__ import annotations

from typing import Any

from fhir_hook.audit.selection import Record, codes_of, items, names_of, part, text, time_of
from fhir_hook.core.version import VERSION
from fhir_hook.exports.fhir import Unusable
from fhir_hook.exports.wording import MINOR, SERIOUS, SUCCESS, Meaning, clean, meaning, uid_of

ECS = "8.11.0"
_MOST = 32
# kind of a record -> event.kind, event.category, event.type
_EVENTS: dict[str, tuple[str, list[str], list[str]]] = {
    "start": ("event", ["process"], ["start", "info"]),
    "refusal": ("alert", ["process", "intrusion_detection"], ["start", "denied"]),
    "denial": ("alert", ["process", "intrusion_detection"], ["denied"]),
    "watch": ("event", ["process"], ["info"]),
    "settings": ("event", ["configuration"], ["change"]),
    "policy": ("event", ["configuration"], ["change"]),
    "hook-on": ("event", ["configuration"], ["change"]),
    "hook-off": ("alert", ["configuration"], ["change"]),
    "log": ("event", ["configuration"], ["info"]),
    "damage": ("alert", ["configuration"], ["info"]),
}
_SEVERITY = {SUCCESS: 1, MINOR: 2, SERIOUS: 3}


def document(record: Record, digest: str, origin: str = "") -> dict[str, Any]:
    """The document of a record whose line has this SHA-256, of the log that is called `origin`. Raises Unusable."""
    when = time_of(record)
    if when is None:
        raise Unusable("it has no time")
    what = meaning(record)
    found: dict[str, Any] = {
        "@timestamp": when.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "ecs": {"version": ECS},
        "message": what.line,
        "event": _event(record, digest, what),
        "container": _container(record),
        "host": _shown({"hostname": text(record, "host"), "name": text(record, "host")}),
        "user": _shown({"id": uid_of(record)}),
        "rule": _rule(record),
        "observer": {"product": "fhir-hook", "type": "hook", "version": VERSION},
        "fhir_hook": _own(record, origin),
    }
    boot = clean(text(record, "boot"))
    if boot:
        found["host"]["boot"] = {"id": boot}
    return {name: value for name, value in found.items() if value}


def _event(record: Record, digest: str, what: Meaning) -> dict[str, Any]:
    kind, category, types = _EVENTS[what.kind]
    event: dict[str, Any] = {
        "kind": kind,
        "category": category,
        "type": types,
        "outcome": "success" if what.outcome == SUCCESS else "failure",
        "severity": _SEVERITY.get(what.outcome, 4),
        "id": digest,
        "module": "fhir_hook",
        "dataset": "fhir_hook.log",
        "provider": "fhir-hook",
    }
    event |= _shown({
        "action": "-".join(filter(None, (text(record, "event"), text(record, "decision")))),
        "code": next(iter(codes_of(record)), ""),
        "reason": next((text(each, "text") for each in items(record, "reasons")), ""),
    })  # fmt: skip
    seq, taken = record.get("seq"), record.get("duration_us")
    if type(seq) is int and 0 <= seq < 1 << 63:
        event["sequence"] = seq
    if type(taken) is int and 0 <= taken < 1 << 50:
        event["duration"] = taken * 1000
    return event


def _container(record: Record) -> dict[str, Any]:
    container, image = part(record, "container"), part(record, "image")
    found: dict[str, Any] = _shown({"id": text(container, "id"), "name": text(container, "name")})
    names = [shown for name in names_of(image)[:_MOST] if (shown := clean(name))]
    about: dict[str, Any] = {}
    if names:
        name, colon, tag = names[0].rpartition(":")
        about = {"name": name if colon and "/" not in tag else names[0]}
        if colon and "/" not in tag:
            about["tag"] = [tag]
    digest = clean(text(image, "digest"))
    if digest:
        about["hash"] = {"all": [digest]}
    return found | ({"image": about} if about else {})


def _rule(record: Record) -> dict[str, Any]:
    """The profile that was applied; with several the first, and all of them below fhir_hook."""
    profile = next(iter(items(record, "profile")), {})
    return _shown({
        "name": text(profile, "name") or text(record, "profile"),
        "version": text(profile, "version"),
        "uuid": text(profile, "digest"),
        "ruleset": text(record, "policy") if "policy" in record else "",
    })  # fmt: skip


def _own(record: Record, origin: str) -> dict[str, Any]:
    found: dict[str, Any] = _shown(
        {name: text(record, name) for name in ("decision", "mode", "path", "stage", "seen", "call", "action", "what")}
    )
    found |= _shown({"log": origin, "prev": text(record, "prev"), "image_id": text(part(record, "image"), "id")})
    codes = [shown for code in codes_of(record)[:_MOST] if (shown := clean(code))]
    if codes:
        found["codes"] = codes
    profiles = [shown for each in items(record, "profile")[:_MOST] if (shown := clean(text(each, "name")))]
    if len(profiles) > 1:
        found["profiles"] = profiles
    sender = part(record, "from").get("uid")
    if type(sender) is int:
        found["sender"] = sender
    seccomp = part(record, "seccomp")
    for name in ("allowed_before", "allowed"):
        if type(seccomp.get(name)) is int:
            found[f"calls_{name}"] = seccomp[name]
    if type(record.get("count")) is int:
        found["count"] = record["count"]
    return found


def _shown(pairs: dict[str, str]) -> dict[str, Any]:
    return {name: shown for name, value in pairs.items() if (shown := clean(value))}
