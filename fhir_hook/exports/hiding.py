"""Records without names that people chose: for exports of records from before the setting log.names = "hashed"."""

from __future__ import annotations

from fhir_hook.audit.selection import Record, part, text
from fhir_hook.store import names


def hidden(record: Record) -> Record:
    """The record with tokens in the place of its container's name, and of its id where an engine has not drawn it."""
    container = part(record, "container")
    if not container:
        return record
    shown = {"id": names.shown_id(text(container, "id")), "name": names.shown(text(container, "name"))}
    return {**record, "container": {**container, **shown}}
