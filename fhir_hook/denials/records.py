"""What the log says about denials: docs/log.md describes the members. Pure.

Names of programs are text that a container chooses: bounded here, escaped by the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_hook.core.record import LONGEST_NAME, bounded, coded
from fhir_hook.denials.counting import OTHERS, UNMAPPED, Count, Kind, Place
from fhir_hook.denials.decisions import Decided
from fhir_hook.store.log import timestamp

UNOBSERVABLE = "FH213"
MOST_LOST = 4


def denial(place: Place, decided: Decided | None, kind: Kind, count: Count) -> dict[str, Any]:
    """What one kind of denials of a place comes to since the last record about it."""
    what = "others" if kind == OTHERS else "seen" if count.new else "counted"
    fields: dict[str, Any] = {"event": "denial", "what": what}
    if kind != OTHERS:
        fields["call"], fields["action"] = bounded(kind.call, LONGEST_NAME), kind.action
        fields["comm"], fields["exe"] = bounded(kind.comm, LONGEST_NAME), bounded(kind.exe)
    fields.update(_span(count))
    fields["total"] = count.total
    if place == UNMAPPED:
        fields["mapped"] = "unmapped"
        return fields
    if count.by:
        fields["mapped"] = count.by
    return {**fields, **_about(place, decided)}


def forgotten(places: int, count: Count) -> dict[str, Any]:
    """Denials of so many containers that they could not be told apart."""
    return {"event": "denial", "what": "others", "containers": places, **_span(count)}


def unobservable(decided: Decided, why: str) -> dict[str, Any]:
    """That nothing will be heard of a container's denials, and why."""
    about = _about(decided.place, decided)
    return {"event": "watch", "what": "unobservable", **about, "findings": coded([(UNOBSERVABLE, why)])}


def lost(texts: Sequence[str], count: int) -> dict[str, Any]:
    """That the kernel lost records, in its own words."""
    return {"event": "watch", "what": "lost", "times": count, "lost": [bounded(text) for text in texts[:MOST_LOST]]}


def watching(ways: Sequence[str]) -> dict[str, Any]:
    """That watching began."""
    return {"event": "watch", "what": "watching", "ways": list(ways)}


def stopped(seen: int, elsewhere: int) -> dict[str, Any]:
    """That watching ended, having seen so many denials; `elsewhere` are those of processes in no container."""
    return {"event": "watch", "what": "stopped", "seen": seen, "elsewhere": elsewhere}


def _about(place: Place, decided: Decided | None) -> dict[str, Any]:
    about: dict[str, Any] = {"container": {"id": place.id, "name": decided.name if decided else ""}}
    about["owner"] = place.uid
    if decided is not None:
        about.update(decided.about)
    about["decided_by"] = decided.seq if decided else None
    return about


def _span(count: Count) -> dict[str, Any]:
    return {"count": count.count, "first": _time(count.first), "last": _time(count.last)}


def _time(seconds: float) -> str:
    return timestamp(round(seconds * 1000) * 1_000_000)
