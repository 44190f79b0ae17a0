"""An export as text: one document a line, or one FHIR Bundle, made as the log is read, whatever its size."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fhir_hook.audit.selection import Record
from fhir_hook.exports import ecs, fhir

Make = Callable[[Record, str, str], dict[str, Any]]
FORMATS: dict[str, Make] = {"fhir-ndjson": fhir.audit_event, "fhir-bundle": fhir.audit_event, "ecs": ecs.document}


class Left:
    """Records that could not be exported: their digests and why."""

    def __init__(self) -> None:
        self.out: list[tuple[str, str]] = []


def written(format: str, records: Iterable[tuple[Record, str]], origin: str, left: Left) -> Iterator[str]:
    """The pieces of an export of (record, SHA-256 of its line) pairs; what could not be exported is noted in `left`."""
    documents = _documents(FORMATS[format], records, origin, left)
    if format != "fhir-bundle":
        for document in documents:
            yield text(document) + "\n"
        return
    yield '{"resourceType":"Bundle","type":"batch"'
    before, end = ',"entry":[\n', "}\n"  # FHIR's JSON has no empty list
    for document in documents:
        yield before + text(entry(document))
        before, end = ",\n", "\n]}\n"
    yield end


def _documents(make: Make, records: Iterable[tuple[Record, str]], origin: str, left: Left) -> Iterator[dict[str, Any]]:
    for record, digest in records:
        try:
            yield make(record, digest, origin)
        except fhir.Unusable as error:
            left.out.append((digest, str(error)))


def text(document: Any) -> str:
    """Compact JSON in ASCII."""
    return json.dumps(document, ensure_ascii=True, separators=(",", ":"))


def entry(resource: dict[str, Any]) -> dict[str, Any]:
    """A batch entry that makes the resource under its own id, or finds it there (update as create, R4 http.html)."""
    return {"resource": resource, "request": {"method": "PUT", "url": f"AuditEvent/{resource['id']}"}}
