"""Names that were plain when a container was decided are hidden in what is said of its denials later."""

from __future__ import annotations

from pathlib import Path

from denials.test_denial_forged import WATCHED, watched
from hook.conftest import write_policy
from support.sandbox import Sandbox

ID = "a" * 64
# As WATCHED has it, with the denials of a container that was decided before.
DENIED = WATCHED + """
from fhir_hook.denials.counting import Kind, Place
watcher._tally.add(Place("a" * 64, 0), Kind("keyctl", "log", "x", "/x"), 1.0, "cgroup", time.monotonic())
watcher.finish()
"""


def test_where_names_are_hidden_a_container_of_before_has_none_in_records_of_its_denials(tmp_path: Path) -> None:
    for setting, shown in (("plain", "patient-mueller"), ("hashed", "name-")):
        sandbox = Sandbox(tmp_path / setting)
        write_policy(sandbox, names=setting)
        user = {"uid": 0, "login": None}
        about = {"container": {"id": ID, "name": "patient-mueller"}, "path": "live", "mode": "enforce"}
        decided = ({"event": "decision", "decision": "confined", **about}, user)
        watched(sandbox, [decided, ({"event": "outcome", "seen": "kernel", **about}, user)], DENIED)
        found = [record for record in sandbox.records if "owner" in record and record["container"]["id"] == ID]
        assert [record["event"] for record in found] == ["watch", "denial"]
        assert all(record["container"]["name"].startswith(shown) for record in found)
        assert found[1]["decided_by"] is not None
