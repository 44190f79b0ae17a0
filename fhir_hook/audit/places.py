"""Where the audit side of this process's log keeps its files: below /var/lib/fhir-hook, or a user's own state
directory."""

from __future__ import annotations

from pathlib import Path

from fhir_hook.core import paths
from fhir_hook.store import log


class Places:
    """`log`: the log's directory; `tree`: hashes and checkpoints, public; `keys`: the signing key and what it
    signed."""

    def __init__(self, log: Path, tree: Path, keys: Path) -> None:
        self.log = log
        self.tree = tree
        self.keys = keys

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.tree / "checkpoint"

    @property
    def history(self) -> Path:
        """Every checkpoint that was signed, JSON Lines."""
        return self.tree / "checkpoints.jsonl"

    @classmethod
    def default(cls) -> Places:
        """Those of whoever runs this: the host's for root, a user's own otherwise."""
        directory = Path(log.directory())
        state = Path(paths.STATE) if str(directory) == paths.LOG_DIRECTORY else directory
        return cls(directory, state / "tree", state / "keys")
