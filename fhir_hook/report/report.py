"""The report: one HTML file, or the same as JSON."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from fhir_hook.core.codes import CODES
from fhir_hook.core.version import VERSION
from fhir_hook.report import page
from fhir_hook.report.chain import Chain
from fhir_hook.report.collection import Collection, Row, Rows
from fhir_hook.report.coverage import Coverage
from fhir_hook.report.tally import Tally
from fhir_hook.report.timeline import KINDS, Timeline

SEEN = {
    "config": "in config.json, which the runtime loads the filter from after that",
    "kernel": "by the kernel's own copy, byte for byte",
    "count": "by the number of filters, no_new_privs and capabilities (rootless)",
}
LIMITS = (
    "A container that was started around the hook, or while it was not in force, leaves no record. Only the look at "
    "what runs now shows it, and only while it runs.",
    "Whoever is root on the host can stop the hook, write another log and sign it. Only checkpoints and records that "
    "left the host show that.",
    "A denied call is on record only where the kernel logs it and something collects it. Filters of older runtimes "
    "log nothing: no denial on record does not mean that none happened.",
    "What a server does with the calls that it may make: who read which patient's data is in the server's own audit "
    "log, not here.",
    "Processes that were put into a running container by exec are confined by the engine's filter; on the live path "
    "the profile's filter is not theirs (FH209).",
    "Names of containers and images are what people called them. An image is known by its digest.",
    "Containers of ordinary users are in their own logs. What the collector brings from there is what these logs say, "
    "and their users can write them as they like.",
)


@dataclasses.dataclass(frozen=True)
class About:
    """What a report is about: host, the period (`whole`: all of the log), when it was made, policy and settings in
    force now ("" and {} where that can't be known)."""

    host: str
    began: str
    ended: str
    whole: bool
    policy: str
    settings: dict[str, Any]
    made: datetime
    version: str = VERSION

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**dataclasses.asdict(self), "made": self.made.isoformat()}


def about(found: Collection, policy: str, settings: dict[str, Any]) -> About:
    """What is known of host and period."""
    since, until = found.selection.since, found.selection.until
    return About(
        host=found.hosts.first(2) or "an unknown host",
        began=since.isoformat() if since else found.first,
        ended=until.isoformat() if until else found.last,
        whole=not since and not until,
        policy=policy,
        settings=settings,
        made=datetime.now(UTC),
    )


def rendered(found: Collection, chain: Chain, coverage: Coverage, subject: About) -> str:
    """The report as one HTML file; raises page.TemplatesMissing."""
    timeline = Timeline(found.hours)
    return page.environment().get_template("report.j2").render(
        about=subject,
        found=found,
        chain=chain,
        coverage=coverage,
        timeline=timeline,
        timeline_svg=page.markup(timeline.svg()),
        loose=loose(found),
        confined=found.kinds["confined"] - complaining(found),
        findings=_findings(found),
        seen_words=page_words(found),
        seen_in_force=sum(count for seen, count in found.seen.items() if seen != "refused"),
        limits=LIMITS,
    )


def page_words(found: Collection) -> dict[str, str]:
    """What was seen, in words; for what this version does not know, "" ."""
    return {seen: SEEN.get(seen, "") for seen in found.seen}


def complaining(found: Collection) -> int:
    """Starts in complain mode, where nothing is denied."""
    return sum(row.tally.count for row in found.complain)


def loose(found: Collection) -> int:
    """Starts that were let go on unconfined: exempt, undetermined, in complain mode."""
    return found.decisions["exempt"] + found.decisions["undetermined"] + complaining(found)


def _findings(found: Collection) -> list[tuple[str, str, Tally]]:
    shown = [(code, tally) for code, tally in found.findings.items() if code.startswith(("FH2", "FH4"))]
    return [(code, _meaning(code), tally) for code, tally in sorted(shown, key=lambda each: each[0])]


def _meaning(code: str) -> str:
    return CODES[code].title if code in CODES else "this version does not know this code"


def document(found: Collection, chain: Chain, coverage: Coverage, subject: About) -> dict[str, Any]:
    """The report as JSON; tables with all rows that are kept (collection.MOST_ROWS, tally.MOST_NAMES, and so on)."""
    timeline = Timeline(found.hours)
    return {
        "about": subject.document(),
        "chain": chain.document(),
        "records": found.records,
        "decisions": dict(found.decisions),
        "seen": dict(found.seen),
        "unseen": found.unseen,
        "collected": {**found.collected.document(), "says": dict(found.claims)},
        "timeline": [
            {"from": bar.start.isoformat(), **{kind: bar.counts[kind] for kind in (*KINDS, "denial")}}
            for bar in timeline.bars
            if bar.counts
        ],
        "ran": _rows(found.ran, ("image", "profile", "profile_digest", "policy")),
        "complain": _rows(found.complain, ("image", "profile")),
        "without": _rows(found.without, ("decision", "image", "codes")),
        "refusals": [group.document() for group in found.refusals.groups],
        "findings": [{"code": code, "meaning": text, **tally.document()} for code, text, tally in _findings(found)],
        "denials": _rows(found.denials, ("image", "profile", "call", "action")),
        "unobservable": _rows(found.unobservable, ("image", "profile")),
        "users": [group.document() for group in found.users.groups],
        "changes": {"events": [event.document() for event in found.changes.events], "further": found.changes.further},
        "coverage": coverage.document(),
        "limits": list(LIMITS),
    }


def _rows(rows: Rows, cells: tuple[str, ...]) -> list[dict[str, Any]]:
    return [_row(row, cells) for row in rows]


def _row(row: Row, cells: tuple[str, ...]) -> dict[str, Any]:
    return {**dict(zip(cells, row.key, strict=True)), **row.tally.document(), "containers": list(row.containers.found)}
