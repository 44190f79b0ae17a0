"""What is known of the log's integrity, in the words of a report."""

from __future__ import annotations

import dataclasses
from typing import Any

from fhir_hook.audit.verification import Report

VERIFIED, BROKEN, UNSIGNED, UNKNOWN = "verified", "broken", "unsigned", "unknown"


@dataclasses.dataclass(frozen=True)
class Chain:
    """`state` is verified, broken, unsigned (nobody signed this log), or unknown (it could not be looked at: `text`).

    `own_key`: the key and the checkpoint are this host's own, which root of the host could have made anew.
    """

    state: str
    text: str
    origin: str = ""
    keys: tuple[str, ...] = ()
    records: int = 0
    signed: int = 0
    unsigned: int = 0
    torn: int = 0
    count: int = 0
    problems: tuple[str, ...] = ()
    clock_back: int = 0
    own_key: bool = False

    @classmethod
    def of(cls, report: Report, own_key: bool) -> Chain:
        """What a verification found."""
        end = report.first + report.records
        problems = [f"record {problem.index}: {problem.text}" for problem in report.problems]
        problems += [outcome.problem for outcome in report.outcomes if outcome.problem]
        newest = report.outcomes[-1].signed if report.outcomes else None
        if problems:
            state, text = BROKEN, "records were changed, added, removed or cut off"
        elif newest is None:
            state, text = UNSIGNED, "no checkpoint was signed: each record follows the one before, and no more is known"
        else:
            state, text = VERIFIED, "every signed record is what it was when it was signed"
        return cls(
            state,
            text,
            origin=newest.checkpoint.origin if newest else "",
            keys=tuple(newest.keys) if newest else (),
            records=report.records,
            signed=report.signed,
            unsigned=max(0, end - report.signed),
            torn=report.torn,
            count=report.count,
            problems=tuple(dict.fromkeys(problems)),
            clock_back=len(report.back),
            own_key=own_key,
        )

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return dataclasses.asdict(self)
