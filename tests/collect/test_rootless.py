"""From a rootless container's start to the host's log, with the installed product and a real user."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host.machine import ROOT, Host
from system.support import FHIR

SOCKET = Path("/run/fhir-hook/collect.sock")
UNIT = ROOT / "packaging/systemd/fhir-hook-collect.service"
USER_LOG = ".local/state/fhir-hook/decisions.jsonl"


@pytest.fixture
def collector(host: Host) -> Iterator[subprocess.Popen[str]]:
    """The collector, under its unit's restrictions, on a socket that was made as systemd makes it."""
    sandbox = [ROOT / "tests/packaging/sandbox.py", UNIT, "/usr/bin/fhir-hook", "log", "collect", "--json"]
    activate = ["systemd-socket-activate", "--seqpacket", "-l", SOCKET, "/usr/bin/python3", *sandbox]
    SOCKET.parent.mkdir(exist_ok=True)
    SOCKET.unlink(missing_ok=True)
    process = subprocess.Popen(["unshare", "-m", *map(str, activate)], stderr=subprocess.PIPE, text=True)
    while not SOCKET.exists():
        time.sleep(0.05)
    SOCKET.chmod(0o666)
    yield process
    process.terminate()
    process.communicate()


def send(host: Host, code: int = 0) -> Any:
    """Send the user's records."""
    done = host.run(["fhir-hook", "log", "send", "--json"], user="rootless")
    assert done.returncode == code, done.stderr
    return done


def collected(host: Host) -> list[dict[str, Any]]:
    """The host's records of users' containers."""
    return [record for record in host.records() if "from" in record]


@pytest.mark.usefixtures("collector")
def test_what_was_decided_on_a_users_containers_is_in_the_hosts_log_once(host: Host) -> None:
    shutil.rmtree((host.home("rootless") / USER_LOG).parent, ignore_errors=True)
    host.load(FHIR, "rootless")
    host.podman("run", "--rm", "--network", "none", "--name", "mine", FHIR, "status", user="rootless", check=True)
    own = host.records("rootless")
    assert f'"sent": {len(own)},' in send(host).stdout
    uid = os.stat(host.home("rootless")).st_uid
    found = collected(host)
    decision = next(record for record in found if record["event"] == "decision")
    assert (decision["decision"], decision["container"]["name"]) == ("confined", "mine")
    assert decision["user"]["uid"] == uid != 0
    assert [record["from"]["seq"] for record in found] == [record["seq"] for record in own]
    assert [record["from"]["prev"] for record in found] == [record["prev"] for record in own]
    assert '"sent": 0' in send(host).stdout
    host.podman("run", "--rm", "--network", "none", FHIR, "status", user="rootless", check=True)
    send(host)
    # the user begins anew: nothing that was taken comes twice
    (host.home("rootless") / ".local/state/fhir-hook/forward/host").unlink()
    send(host)
    assert [r["from"]["seq"] for r in collected(host)] == [r["seq"] for r in host.records("rootless")]
    assert not any("gap" in record["from"] for record in collected(host))
    shown = host.run(["fhir-hook", "log", "--container", "mine"], check=True).stdout
    assert "confined" in shown and "mine" in shown


def test_without_a_collector_everything_stays_with_the_user_and_starts_go_on(host: Host) -> None:
    SOCKET.unlink(missing_ok=True)
    host.load(FHIR, "rootless")
    before = len(collected(host))
    host.podman("run", "--rm", "--network", "none", FHIR, "status", user="rootless", check=True)
    done = send(host, 3)
    assert len(done.stderr.splitlines()) == 1 and "stays for the next time" in done.stderr
    assert len(collected(host)) == before
    assert (host.home("rootless") / USER_LOG).stat().st_size > 0


def test_root_is_told_that_there_is_nothing_to_send_and_a_user_that_there_is_nothing_to_collect(host: Host) -> None:
    done = host.run(["fhir-hook", "log", "send"])
    assert done.returncode == 3 and "already" in done.stderr
    done = host.run(["fhir-hook", "log", "collect"], user="rootless")
    assert done.returncode == 3 and "as root" in done.stderr
