"""Why an attachment failed."""

from __future__ import annotations


class AttachError(Exception):
    """The plan isn't in force; reason is a stable word, text says what was attempted and what came of it."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        self.text = text


class NeverStarted(AttachError):
    """The container's first process ended before it ran anything of the image: there is nothing to confine."""

    def __init__(self, text: str) -> None:
        super().__init__("never-started", text)
