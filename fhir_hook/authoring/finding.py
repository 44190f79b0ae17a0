"""What checking a profile, a group or a compiled program found: one value, with a stable code."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

ERROR = "error"
WARNING = "warning"

# Codes never change their meaning and are never reused: P1xx files, P2xx names, P3xx rules, P4xx profiles,
# P5xx compiling.
TITLES = {
    "P101": "the file can't be read",
    "P102": "the file is not strict JSON",
    "P103": "the document does not match the schema",
    "P104": "a schema is missing or damaged",
    "P105": "the file is not signed by one who may",
    "P201": "no such system call",
    "P202": "no such group",
    "P203": "no such capability",
    "P204": "the name is not the file's name",
    "P205": "the call does not exist on the rule's architectures",
    "P301": "an argument index twice in one rule",
    "P302": "rules contradict each other",
    "P303": "a condition without effect",
    "P304": "overlapping rules with different actions",
    "P305": "conditions that libseccomp compiles wrongly beside each other",
    "P306": "a 32-bit argument compared without a mask",
    "P307": "clone3 gets past the filter of clone's flags",
    "P308": "an errno where the action takes none",
    "P309": "the call is allowed by an included group already",
    "P401": "two generic profiles for one kind",
    "P402": "a generic profile without a kind",
    "P403": "a pattern that matches every value",
    "P404": "no profile includes the group",
    "P405": "a runtime's base set is included by hand",
    "P406": "no rule allows anything",
    "P501": "libseccomp refuses the rules",
    "P502": "the compiled program does not answer what the section says",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One finding: `file` and JSON `pointer` (RFC 6901) say where, `message` what, `hint` what to do about it."""

    code: str
    severity: str
    file: str
    pointer: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}#{self.pointer}" if self.pointer else self.file
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{where}: {self.severity} {self.code}: {self.message}{hint}"


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Those findings that keep a profile from being compiled."""
    return [finding for finding in findings if finding.severity == ERROR]


def pointer(parts: Iterable[object]) -> str:
    """The JSON pointer of a path of keys and indices (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
