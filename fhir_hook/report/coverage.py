"""Whether what runs now is confined: a start around the hook leaves no record, so the host itself is looked at."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Found:
    """Something seen on the host: `seen`, `why` it matters, what would `repair` it; `bad` when it is not as it
    should be."""

    seen: str
    why: str
    repair: str
    bad: bool


@dataclasses.dataclass(frozen=True)
class Coverage:
    """`looked` is False when nothing could be seen, and `text` says why; `findings` are what is not as it should be."""

    looked: bool
    text: str
    findings: tuple[Found, ...] = ()

    @property
    def bad(self) -> int:
        """How many are certainly not confined."""
        return sum(finding.bad for finding in self.findings)

    @property
    def figure(self) -> str:
        """The number for a headline."""
        return f"{self.bad:,}" if self.looked else "?"

    @property
    def level(self) -> str:
        """bad, mixed (not all is known) or good."""
        if not self.looked:
            return "mixed"
        return "bad" if self.bad else "mixed" if self.findings else "good"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return dataclasses.asdict(self)
