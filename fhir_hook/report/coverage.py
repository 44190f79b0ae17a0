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
    """`looked` is False when not everything could be seen, and `text` says why; `findings` are what is not as it should
    be of what was seen."""

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
        return f"{self.bad:,}" if self.looked else f"{self.bad:,} or more" if self.bad else "?"

    @property
    def level(self) -> str:
        """bad, mixed (not all is known) or good."""
        if self.bad:
            return "bad"
        return "mixed" if self.findings or not self.looked else "good"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return dataclasses.asdict(self)
