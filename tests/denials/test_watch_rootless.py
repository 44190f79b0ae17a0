"""A user's container: its denials join the decision that the user's log had, once that was collected."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from denials.conftest import COMPLAINING, Watch
from system.support import PLAIN

PIDS = Path("/sys/fs/cgroup/pids")
SOCKET = Path("/run/fhir-hook/collect.sock")


def test_denials_of_a_users_container_join_what_was_collected_of_the_users_log(watch: Watch) -> None:
    host = watch.host
    uid = os.stat(host.home("rootless")).st_uid
    host.derive(PLAIN, COMPLAINING, "--label", "io.fhir-hook.profile=denials-complain", user="rootless")
    SOCKET.unlink(missing_ok=True)
    collector = subprocess.Popen(["fhir-hook", "log", "collect"], stdout=subprocess.DEVNULL)
    words = ["sh", "-c", "sleep 6; exec sleeper"]
    container = host.start(COMPLAINING, "--name", "theirs", command=words, user="rootless", runtime="crun")
    # as systemd names it: this host has control groups of version 1, in which rootless containers have none
    slice_, pid = PIDS / f"user-{uid}.slice", host.pid(container, "rootless")
    group = slice_ / f"libpod-{container}"
    group.mkdir(parents=True)
    try:
        for each in (pid, *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            (group / "cgroup.procs").write_text(str(each))
        while not SOCKET.exists():
            time.sleep(0.05)
        host.run(["fhir-hook", "log", "send"], user="rootless", check=True)
        watch.begin("--json")
        watch.wait(lambda: any(r.get("call") == "pause" for r in watch.of(container)))
        watch.end()
    finally:
        collector.terminate()
        collector.wait()
        host.podman("rm", "-f", "-t", "0", container, user="rootless")
        time.sleep(0.5)
        group.rmdir()
        slice_.rmdir()
    decision = next(r for r in host.records() if r["event"] == "decision" and r["container"]["id"] == container)
    assert decision["user"]["uid"] == uid and decision["from"]["log"] == "rootless"
    record = next(r for r in watch.of(container) if r.get("call") == "pause")
    assert (record["owner"], record["mapped"], record["action"]) == (uid, "cgroup", "log")
    assert (record["decided_by"], record["container"]["name"]) == (decision["seq"], "theirs")
    assert record["profile"][0]["name"] == "denials-complain"
