"""Findings as SARIF 2.1.0 (OASIS, Static Analysis Results Interchange Format), which code scanning of CI reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fhir_hook.authoring.finding import Finding
from fhir_hook.review import positions
from fhir_hook.review.codes import TITLES

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
DOCUMENTATION = "docs/review-a-profile.md"


def log(findings: Iterable[Finding], version: str, root: Path | None = None) -> dict[str, Any]:
    """The SARIF log of one run; files below `root` are named relative to it."""
    listed = list(findings)
    codes = sorted({finding.code for finding in listed})
    places: dict[str, dict[str, tuple[int, int]]] = {}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "fhir-hook profile lint",
                        "version": version,
                        "rules": [{"id": code, "shortDescription": {"text": TITLES[code]}} for code in codes],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, codes, places, root) for finding in listed],
            }
        ],
    }


def _result(
    finding: Finding, codes: list[str], places: dict[str, dict[str, tuple[int, int]]], root: Path | None
) -> dict[str, Any]:
    if finding.file not in places:
        places[finding.file] = _positions(Path(finding.file))
    line, column = positions.find(places[finding.file], finding.pointer)
    hint = f". What to do: {finding.hint}" if finding.hint else ""
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(Path(finding.file), root)},
            "region": {"startLine": line, "startColumn": column},
        }
    }
    if finding.pointer:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.pointer, "kind": "value"}]
    return {
        "ruleId": finding.code,
        "ruleIndex": codes.index(finding.code),
        "level": finding.severity,
        "message": {"text": f"{finding.message}{hint}"},
        "locations": [location],
    }


def _positions(path: Path) -> dict[str, tuple[int, int]]:
    try:
        return positions.positions(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}


def _uri(path: Path, root: Path | None) -> str:
    from urllib.parse import quote

    try:
        path = path.relative_to(root) if root is not None else path
    except ValueError:
        pass
    return quote(str(path)) if not path.is_absolute() else path.as_uri()
