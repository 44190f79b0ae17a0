"""Fixtures: a log of every kind of record, as the writer writes it, and HL7's own definitions of R4."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.conftest import Bench, host, new_host
from host.machine import Archives
from support.sandbox import ROOT

__all__ = ["host", "new_host"]

PACKAGE = Path.home() / ".cache" / "fhir-hook" / "hl7.fhir.r4.examples-4.0.1.tgz"
IMAGE = {
    "id": "9e" * 32,
    "digest": "sha256:" + "ab" * 32,
    "names": ["localhost/hapi:plain", "registry.example:5000/fhir/hapi:7"],
    "source": "containers/storage",
}
CONTAINER = {"id": "65" * 32, "name": "fhir"}
PROFILE = [{"name": "hapi", "version": "1.0.0", "digest": "cd" * 32}]
DECISION = {"event": "decision", "stage": "precreate", "path": "native", "container": CONTAINER, "image": IMAGE}
OUTCOME = {"event": "outcome", "stage": "gate", "path": "native", "container": CONTAINER, "decided_by": 0}
REASON = [{"code": "FH106", "text": "the filter could not be attached"}]
CONFINED = {
    **DECISION,
    "decision": "confined",
    "identified_by": {"by": "label", "key": "io.fhir-hook.profile", "value": "hapi"},
    "policy": "ef" * 32,
    "mode": "enforce",
    "reasons": [],
    "findings": [{"code": "FH201", "text": "CAP_CHOWN"}],
    "profile": PROFILE,
    "seccomp": {"allowed_before": 312, "allowed": 114, "inexpressible": []},
    "capabilities": {"asked": ["CAP_CHOWN"], "left": [], "dropped": ["CAP_CHOWN"]},
    "no_new_privs": True,
    "duration_us": 5210,
}
KINDS: list[dict[str, Any]] = [
    CONFINED,
    {**OUTCOME, "seen": "config", "plan": "12" * 32},
    {**OUTCOME, "seen": "kernel", "stage": "prestart", "path": "live"},
    {**OUTCOME, "seen": "count", "stage": "prestart", "path": "live"},
    {**OUTCOME, "decision": "refused", "reasons": REASON},
    {**DECISION, "decision": "refused", "path": "", "reasons": REASON, "findings": [], "policy": ""},
    {**DECISION, "decision": "exempt", "path": "", "reasons": [{"code": "FH401", "text": "a build"}]},
    {**DECISION, "decision": "undetermined", "path": "", "image": {}, "reasons": [{"code": "FH301", "text": "?"}]},
    {**DECISION, "decision": "ignored", "path": "", "reasons": []},
    {**CONFINED, "mode": "complain", "findings": [{"code": "FH211", "text": "would drop: CAP_CHOWN"}]},
    {"event": "denial", "container": CONTAINER, "image": IMAGE, "profile": PROFILE, "call": "ptrace",
     "action": "errno", "count": 12, "first": "2026-11-21T10:00:00Z", "last": "2026-11-21T10:05:00Z"},
    {"event": "watch", "what": "unobservable", "container": CONTAINER, "findings": [{"code": "FH213", "text": "runc"}]},
    {"event": "policy", "result": "compiled", "old": "", "new": "ef" * 32},
    {"event": "policy", "result": "refused", "reasons": [{"code": "", "text": "hapi.json: no such group"}]},
    {"event": "settings", "old": "aa" * 32, "new": "bb" * 32},
    {"event": "mode", "old": "enforce", "new": "complain"},
    *({"event": "hook", "what": what, "reason": "apt"} for what in ("installed", "removed", "disabled", "enabled")),
    *({"event": "log", "what": "key", "result": result} for result in ("new", "lost")),
    {"event": "log", "what": "archived", "records": 7, "files": 3},
    {"event": "recovery", "torn": {"bytes": 12, "sha256": "00" * 32}},
    {"event": "something of a later version", "container": 7, "image": [], "reasons": "x", "user": None},
]  # fmt: skip
_APPEND = """
import json
from fhir_hook.store import log
for fields in json.load(sys.stdin):
    log.append(fields)
"""


def add(bench: Bench, records: list[dict[str, Any]]) -> None:
    """Append records with the hook's own writer."""
    bench.sandbox.python(_APPEND, data=json.dumps(records).encode())


@pytest.fixture
def full(host: Bench) -> Bench:
    """A host with a record of every kind."""
    (host.sandbox.share / "profiles").symlink_to(ROOT / "profiles")
    add(host, KINDS)
    host("log", "key", "new", "--origin", "test.example/log", check=True)
    return host


class Definitions:
    """HL7's package of R4 examples and definitions (npm hl7.fhir.r4.examples), by file name."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._names = {member.name.rpartition("/")[2]: member for member in archive.getmembers()}

    def names(self, start: str) -> list[str]:
        """The files whose names begin so."""
        return sorted(name for name in self._names if name.startswith(start))

    def read(self, name: str) -> Any:
        """One file's document."""
        file = self._archive.extractfile(self._names[name])
        assert file is not None
        return json.load(file)


@pytest.fixture(scope="session")
def definitions() -> Iterator[Definitions]:
    """HL7's definitions."""
    Archives().directory("fhir-examples")  # fetches the package when it is not there
    with tarfile.open(PACKAGE) as archive:
        yield Definitions(archive)
