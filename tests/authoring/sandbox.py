"""A folder of profiles and groups for one test: the shipped ones, changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from fhir_hook.authoring.checks import check_sources
from fhir_hook.authoring.finding import Finding
from fhir_hook.authoring.source import Sources, load_sources

SHIPPED = Path(__file__).resolve().parents[2] / "profiles"


class Folder:
    """A copy of the shipped profiles and an empty local folder; `profile` and `group` write documents into them."""

    def __init__(self, path: Path) -> None:
        self.shipped = path / "shipped"
        self.local = path / "local"
        shutil.copytree(SHIPPED, self.shipped)
        (self.local / "groups").mkdir(parents=True)

    def profile(self, name: str = "mine", local: bool = True, **members: Any) -> Path:
        document: dict[str, Any] = {"name": name, "version": "1.0.0", "title": "A test's profile"}
        document["seccomp"] = {"include": ["process", "files-read", "files-write"]}
        return self._write((self.local if local else self.shipped) / f"{name}.json", {**document, **members})

    def group(self, name: str, rules: list[dict[str, Any]], local: bool = True) -> Path:
        folder = (self.local if local else self.shipped) / "groups"
        return self._write(folder / f"{name}.json", {"name": name, "title": "A", "reason": "B", "syscalls": rules})

    def rules(self, *rules: dict[str, Any], include: tuple[str, ...] = ("process",)) -> Path:
        """A local profile `mine` with rules of its own."""
        return self.profile(seccomp={"include": list(include), "syscalls": list(rules)})

    def load(self) -> Sources:
        return load_sources(self.shipped, self.local)

    def findings(self) -> list[Finding]:
        return check_sources(self.load())

    def only(self, code: str) -> Finding:
        """The one finding there is, which has this code."""
        found = self.findings()
        assert [finding.code for finding in found] == [code], [str(finding) for finding in found]
        return found[0]

    @staticmethod
    def _write(path: Path, document: dict[str, Any]) -> Path:
        path.write_text(json.dumps(document))
        return path
