"""The watcher does its work under the restrictions of its unit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from denials.conftest import COMPLAINING, Watch
from host.machine import ROOT

UNIT = ROOT / "packaging/systemd/fhir-hook-watch.service"


def test_the_watcher_reads_maps_and_records_under_the_units_restrictions(
    watch: Watch, start: Callable[..., str]
) -> None:
    container = start(COMPLAINING, command=["sleeper"], runtime="crun")
    time.sleep(1)
    before = len(watch.host.records())
    sandbox = f"/usr/bin/python3 {ROOT}/tests/packaging/sandbox.py {UNIT}"
    script = f"umount -l /proc; exec {sandbox} /usr/bin/fhir-hook log watch --once --json"
    done = watch.host.run(["unshare", "-m", "sh", "-c", script], check=True)
    assert json.loads(done.stdout)["ways"] == ["kernel log", "audit records"]
    found = [r for r in watch.host.records()[before:] if r.get("container", {}).get("id") == container]
    assert ("denial", "pause", "cgroup") in [(r["event"], r.get("call"), r.get("mapped")) for r in found]
