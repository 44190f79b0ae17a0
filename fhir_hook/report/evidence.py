"""The evidence for a set of safeguards: which records and settings support each, and what is not covered.

The catalogues are data (data/NAME.json). `best` is what a safeguard can be at most with this product: supported, partly
or none. It is less when what it `needs` does not hold: enforce (nothing in complain mode), coverage (nothing seen that
runs without), verified (the log is what was signed).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from fhir_hook.audit.selection import Record, codes_of, time_of
from fhir_hook.report import naming, page
from fhir_hook.report.chain import VERIFIED, Chain
from fhir_hook.report.collection import Collection
from fhir_hook.report.coverage import Coverage
from fhir_hook.report.report import About
from fhir_hook.report.tally import Names, Tally, spans

CATALOGUES = ("hipaa", "nist-800-190", "cis-docker")
SUPPORTED, PARTLY, NOTHING, UNCOVERED = "supported", "partly", "no evidence in this period", "not covered"
COLUMNS = ("safeguard", "title", "state", "why", "evidence", "kind", "count", "first", "last", "records", "value",
           "images", "not covered")  # fmt: skip
MOST_SHOWN = 12  # ranges of records on the page; the other files have more
_KEPT = ("segment", "archived", "removed", "restored")


def _decision(record: Record, decision: str = "") -> bool:
    return record.get("event") == "decision" and (not decision or record.get("decision") == decision)


# name of a kind of evidence -> what it is called, and whether a record is of it
KINDS: dict[str, tuple[str, Callable[[Record], bool]]] = {
    "all": ("records of any kind", lambda r: True),
    "all_decisions": ("decisions about starts, with user and login", _decision),
    "confined": ("starts confined to a profile, enforced", lambda r: _decision(r, "confined") and r.get("mode") == (
        "enforce")),
    "in_force": ("starts whose confinement was then seen in force", lambda r: r.get("event") == "outcome" and (
        "decision" not in r)),
    "refused": ("starts refused", lambda r: naming.kind_of(r) == "refused"),
    "complain": ("starts in complain mode, where nothing is denied", naming.is_complain),
    "unconfined": ("starts let go on unconfined (exempt, undetermined)", lambda r: _decision(r) and r.get(
        "decision") in ("exempt", "undetermined")),
    "denial": ("denied calls, as observed", lambda r: r.get("event") == "denial"),
    "dropped": ("starts for which capabilities were dropped (FH201)", lambda r: "FH201" in codes_of(r)),
    "seccomp_off": ("starts asked to run without a filter, and given one (FH202)", lambda r: "FH202" in codes_of(r)),
    "privileged": ("starts with --privileged (FH203)", lambda r: "FH203" in codes_of(r)),
    "no_new_privs": ("starts with no_new_privs set", lambda r: _decision(r, "confined") and (
        r.get("no_new_privs") is True)),
    "changes": ("changes of policy, settings, mode and hook", lambda r: r.get("event") in (
        "policy", "settings", "mode", "hook")),
    "kept": ("segments closed, archived, removed, restored", lambda r: r.get("event") == "log" and r.get(
        "what") in _KEPT),
    "signed": ("keys made and changed", lambda r: r.get("event") == "log" and r.get("what") == "key"),
}  # fmt: skip


def catalogue(name: str) -> dict[str, Any]:
    """A catalogue of safeguards, by one of CATALOGUES."""
    found: dict[str, Any] = json.loads((page.DATA / f"{name}.json").read_text("utf-8"))
    return found


class Pack:
    """Takes records and counts them for each kind of evidence that the catalogue asks for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.catalogue = catalogue(name)
        wanted = {kind for each in self.catalogue["safeguards"] for kind in each["records"]}
        self._kinds = [(kind, KINDS[kind][1], Tally(), Names()) for kind in sorted(wanted)]

    def add(self, record: Record) -> None:
        """Count a record that this host's own hook wrote; what users sent of their logs is no evidence."""
        if naming.claimed_by(record) is not None:
            return
        for _, meant, tally, images in self._kinds:
            if meant(record):
                tally.add(record)
                image = naming.image_of(record)
                images.add(image if image != naming.NO_IMAGE else "")

    def evidence(self, found: Collection, chain: Chain, coverage: Coverage, about: About) -> dict[str, Any]:
        """The pack as a document: about, chain, coverage, and each safeguard with its state and evidence."""
        facts = _facts(chain, coverage, about, found)
        holds = {
            "enforce": not len(found.complain) and about.settings.get("mode", "enforce") == "enforce",
            "coverage": coverage.looked and not coverage.findings,
            "verified": chain.state == VERIFIED,
        }
        counted = {kind: (tally, images) for kind, _, tally, images in self._kinds}
        return {
            "for": self.name,
            **{member: self.catalogue[member] for member in ("title", "source", "scope")},
            "claim": "evidence, not compliance",
            "left_out": _left_out(found),
            "about": about.document(),
            "chain": chain.document(),
            "coverage": coverage.document(),
            "safeguards": [_safeguard(each, counted, facts, holds) for each in self.catalogue["safeguards"]],
        }


def _left_out(found: Collection) -> str:
    return f"{found.collected.count:,} records that users sent from their own logs" if found.collected.count else ""


_NAMED = {"chain": "integrity of the log", "coverage": "what runs now", "span": "the log reaches from"}
_MISSING = {
    "enforce": "something ran, or runs, in complain mode",
    "coverage": "not every container that runs now is known to be confined",
    "verified": "the log is not verified against a signature",
}


def _safeguard(
    safeguard: dict[str, Any], counted: dict[str, tuple[Tally, Names]], facts: dict[str, str], holds: dict[str, bool]
) -> dict[str, Any]:
    records = []
    for kind in safeguard["records"]:
        tally, images = counted[kind]
        records.append({"kind": kind, "what": KINDS[kind][0], **tally.document(), "images": list(images.found)})
    missing = [_MISSING[need] for need in safeguard.get("needs", []) if not holds[need]]
    state, why = PARTLY, "; ".join(missing)
    if safeguard["best"] == "none":
        state, why = UNCOVERED, "this product does not cover it"
    elif not any(each["count"] for each in records):
        state, why = NOTHING, "no record of this kind in the period"
    elif safeguard["best"] == "supported" and not missing:
        state, why = SUPPORTED, "for FHIR containers, by what is on record"
    elif not why:
        why = "the product covers a part of it"
    kept = {name: safeguard[name] for name in ("id", "title", "shows", "not_covered")}
    named = [(_NAMED.get(name, f"setting {name}"), facts.get(name, "")) for name in safeguard["settings"]]
    settings = [{"what": what, "value": value} for what, value in named if value]
    return {**kept, "state": state, "why": why, "records": records, "settings": settings}


def _facts(chain: Chain, coverage: Coverage, about: About, found: Collection) -> dict[str, str]:
    """Settings in force now and what was found, by the names that catalogues use."""
    facts = {name: str(value) for name, value in about.settings.items() if isinstance(value, str)}
    days = _days(found.first, found.last)
    signed = f"; {chain.signed:,} of {chain.records:,} records signed as {chain.origin}" if chain.origin else ""
    return {
        **facts,
        "chain": f"{chain.text}{signed}",
        "coverage": coverage.text,
        "span": f"{found.first} to {found.last}, {days:,} days" if found.first else "",
    }


def _days(first: str, last: str) -> int:
    began, ended = (time_of({"time": time}) for time in (first, last))
    return (ended - began).days if isinstance(began, datetime) and isinstance(ended, datetime) else 0


def files(document: dict[str, Any]) -> dict[str, str]:
    """The files of a pack by their names; raises page.TemplatesMissing."""
    templates = page.environment()
    templates.filters["ranges"] = lambda records: ranges(records, MOST_SHOWN)
    html = templates.get_template("evidence.j2").render(pack=document, about=document["about"])
    return {
        "index.html": html,
        "evidence.csv": _csv(document),
        "evidence.json": json.dumps(document, indent=1) + "\n",
    }


def _csv(document: dict[str, Any]) -> str:
    """One row for each piece of evidence, and one for each safeguard without any (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for each in document["safeguards"]:
        head = [each["id"], each["title"], each["state"], each["why"]]
        rows = [
            [r["what"], "records", r["count"], r["first"], r["last"], ranges(r), "", ", ".join(r["images"][:20])]
            for r in each["records"]
        ]
        rows += [[s["what"], "setting", "", "", "", "", s["value"], ""] for s in each["settings"]]
        for row in rows or [["", "none", "", "", "", "", "", ""]]:
            writer.writerow([cell(str(value)) for value in [*head, *row, each["not_covered"]]])
    return out.getvalue()


def ranges(records: dict[str, Any], most: int | None = None) -> str:
    """The seq of records as text: 3-5 9 12 and 40 more; of the first `most` ranges."""
    return spans(records["seq"], records["seq_beyond"], most, " ")


def cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula (CWE-1236), on one line and bounded."""
    text = str(page.shown(text)) if not text.isprintable() else text[:4000]
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20") else text
