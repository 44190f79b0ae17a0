"""Checking documents against the published JSON Schemas (draft 2020-12), with file, JSON pointer and hint."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import jsonschema.exceptions

from fhir_hook.authoring.finding import ERROR, Finding, pointer
from fhir_hook.core import jsonio
from fhir_hook.store import files

MAX_BYTES = 1 << 20
MAX_DEPTH = 24
MOST_FINDINGS = 20


def read_json(path: Path) -> tuple[Any, list[Finding]]:
    """The document in `path`, or None with a finding: strict JSON of at most 1 MiB, 24 levels deep, no key twice."""
    try:
        data = read_bytes(path)
    except OSError as error:
        return None, [Finding("P101", ERROR, str(path), "", error.strerror or str(error), "repair the file's rights")]
    return parse(data, path)


def read_bytes(path: Path) -> bytes:
    """What a file holds, at most 1 MiB and a byte; raises OSError, also for what is no regular file (a FIFO waits)."""
    try:
        descriptor, _ = files.open_regular(str(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except files.FileError as error:
        raise OSError(str(error).removeprefix(f"{path} ")) from None
    with open(descriptor, "rb") as file:
        return file.read(MAX_BYTES + 1)


def parse(data: bytes, path: Path) -> tuple[Any, list[Finding]]:
    """As read_json, of what was read from `path`."""
    try:
        document = jsonio.parse(data, MAX_BYTES)
        if _deeper(document, MAX_DEPTH):
            raise jsonio.JsonError(f"nested more than {MAX_DEPTH} deep")
    except jsonio.JsonError as error:
        hint = "strict JSON: UTF-8, no comments, no comma before a bracket, no key twice in an object, no NaN"
        return None, [Finding("P102", ERROR, str(path), "", str(error), hint)]
    return document, []


def _deeper(value: object, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    members = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(member, levels - 1) for member in members)


class Schema:
    """One published schema, ready to check documents."""

    def __init__(self, document: dict[str, Any]) -> None:
        jsonschema.Draft202012Validator.check_schema(document)
        self._validator = jsonschema.Draft202012Validator(document)

    def check(self, document: Any, file: str) -> list[Finding]:
        """P103 findings, in the order of the document, at most 20."""
        found = sorted(self._validator.iter_errors(document), key=lambda error: [str(part) for part in error.path])
        return [_finding(error, file) for error in found[:MOST_FINDINGS]]


def load(directory: Path, name: str) -> tuple[Schema | None, list[Finding]]:
    """The schema profiles/schema/NAME.schema.json, or None with a finding."""
    path = directory / "schema" / f"{name}.schema.json"
    document, findings = read_json(path)
    if not findings:
        try:
            return Schema(document), []
        except jsonschema.exceptions.SchemaError as error:
            findings = [Finding("P104", ERROR, str(path), pointer(error.absolute_path), error.message)]
    message = f"the schema can't be used: {findings[0].message}"
    return None, [Finding("P104", ERROR, str(path), findings[0].pointer, message, "install fhir-hook again")]


def _finding(error: jsonschema.exceptions.ValidationError, file: str) -> Finding:
    deepest = jsonschema.exceptions.best_match([error]) if error.context else error
    chosen = deepest or error
    return Finding("P103", ERROR, file, pointer(chosen.absolute_path), _short(chosen.message), _hint(chosen))


def _short(message: str) -> str:
    return message if len(message) <= 200 else message[:197] + "..."


def _hint(error: jsonschema.exceptions.ValidationError) -> str:
    schema = error.schema if isinstance(error.schema, dict) else {}
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = list(schema.get("properties", {}))
        return "; ".join(_suggestions(error.instance, known)) or f"allowed here: {', '.join(known)}"
    if error.validator == "enum":
        return f"one of: {', '.join(str(value) for value in schema.get('enum', ()))}"
    if error.validator == "pattern" and "description" not in schema:
        return f"must match {schema.get('pattern')}"
    return str(schema.get("description", ""))


def _suggestions(instance: dict[str, Any], known: list[str]) -> Iterator[str]:
    for key in instance:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            if close:
                yield f"did you mean {close[0]} instead of {key}?"
