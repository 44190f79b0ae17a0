"""fhir-hook profile test, and what a proposal is worth, on real containers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host.machine import Host
from recording.conftest import Tool
from servers.kernel_log import RATE_LIMIT

WORK = 'exec nsenter -n -t "$FHIR_HOOK_PID" /usr/bin/python3 {} http://127.0.0.1:8080 update patch delete --load 2'
CONNECT = 'exec nsenter -n -t "$FHIR_HOOK_PID" /bin/busybox nc 127.0.0.1 8080 </dev/null'

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("every_denial")]


def without(tool: Tool, *calls: str) -> Path:
    """The proposed profile, with calls taken away."""
    document = json.loads((tool.directory / "mine.json").read_text())
    for rule in document["seccomp"]["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name not in calls]
    document["seccomp"]["syscalls"] = [rule for rule in document["seccomp"]["syscalls"] if rule["names"]]
    document["seccomp"]["syscalls"].append(
        {"names": list(calls), "reason": "taken away by a test", "action": "SCMP_ACT_ERRNO"}
    )
    (tool.directory / "less.json").write_text(json.dumps({**document, "name": "less"}))
    return tool.directory / "less.json"


def denied(report: dict[str, Any], mode: str) -> dict[str, dict[str, Any]]:
    """Denials without a fall-back of one run, by call."""
    run = next(run for run in report["runs"] if run["mode"] == mode)
    return {entry["call"]: entry for entry in run["denied"] if not entry["fall_back"]}


def test_a_proposal_runs_the_server_and_a_call_taken_away_is_named(
    tool: Tool, bare_host: Host, script: Callable[[str], Path], workload: Path
) -> None:
    bare_host.load("fhirstarter:4.2.0")
    server = ["fhirstarter:4.2.0", "--podman", "--network none", "--", script(WORK.format(workload))]
    tool.record(*server)
    report = tool.test("mine.json", *server)
    assert report["good"] and [run["workload"] for run in report["runs"]] == [0, 0]
    assert report["digest"].startswith("sha256:")
    assert denied(report, "complain") == denied(report, "enforce") == {}

    worse = tool.test(without(tool, "getpeername"), *server, code=1)
    for mode in ("complain", "enforce"):
        found = denied(worse, mode)
        assert set(found) == {"getpeername"}
        assert found["getpeername"]["exe"].startswith("/usr/bin/python3") and found["getpeername"]["count"] > 1


def test_denials_with_a_fall_back_are_told_apart(tool: Tool, probe: list[str], script: Callable[[str], Path]) -> None:
    """The C library starts threads with clone3 first: that is answered with ENOSYS, and it takes clone."""
    server = [*probe, "--command", "/p/server 3", "--", script(CONNECT)]
    tool.record(*server)
    report = tool.test("mine.json", *server)
    assert denied(report, "complain") == denied(report, "enforce") == {}
    for run in report["runs"]:
        expected = {"call": "clone3", "comm": "server", "exe": "/p/server", "count": 3, "fall_back": True}
        assert expected in run["denied"]


def test_a_server_that_a_profile_keeps_from_starting_is_not_good(
    tool: Tool, probe: list[str], script: Callable[[str], Path]
) -> None:
    server = [*probe, "--command", "/p/server", "--", script(CONNECT)]
    tool.record(*server)
    report = tool.test(without(tool, "listen"), *server, code=1)
    complained, enforced = report["runs"]
    assert complained["workload"] == 0 and set(denied(report, "complain")) == {"listen"}
    assert "ended with exit code 1 before it listened" in enforced["failure"]
    assert denied(report, "enforce")["listen"] == {
        "call": "listen",
        "comm": "server",
        "exe": "/p/server",
        "count": 1,
        "fall_back": False,
    }


def test_a_runtime_that_can_not_have_denials_logged_is_no_proof(tool: Tool, probe: list[str]) -> None:
    tool.record(*probe, "--command", "/p/server", "--", "/bin/true")
    target = [probe[0], *probe[1:], "--command", "/p/server", "--runtime", "runc"]
    done = tool.run("test", "mine.json", *target)
    assert done.returncode == 3
    assert "denials can't be observed here in enforce mode: runc 1.1" in done.stderr
    assert tool.test("mine.json", *target, "--mode", "complain")["good"]


def test_a_log_that_drops_records_is_no_proof(tool: Tool, probe: list[str]) -> None:
    """With the kernel's rate limit as it usually is, and no way to the audit records."""
    tool.record(*probe, "--command", "/p/server", "--", "/bin/true")
    RATE_LIMIT.write_text("5")
    done = tool.run("test", "mine.json", *probe, "--command", "/p/named 500", "--mode", "complain")
    assert done.returncode == 3 and "can't" in done.stderr and "observed here" in done.stderr
    assert RATE_LIMIT.read_text().strip() == "5"


def test_the_policy_in_force_and_the_hosts_settings_stay(host: Host, tool: Tool, probe: list[str]) -> None:
    before = host.run(["fhir-hook", "policy", "show", "--json"], check=True).stdout
    records = len(host.records())
    tool.record(*probe, "--command", "/p/server", "--", "/bin/true")
    tool.test("mine.json", *probe, "--command", "/p/server")
    assert host.run(["fhir-hook", "policy", "show", "--json"], check=True).stdout == before
    assert len(host.records()) == records


def test_attack_a_process_name_that_terminals_act_on(tool: Tool, probe: list[str]) -> None:
    tool.record(*probe, "--command", "/p/server", "--", "/bin/true")
    done = tool.run("test", "mine.json", *probe, "--command", "/p/named", "--mode", "complain")
    line = next(line for line in done.stdout.splitlines() if "mincore" in line)
    assert line.split()[:2] == ["3", "mincore"] and "/p/named" in line and "\x1b" not in done.stdout


def test_what_can_not_be_tried_is_one_line(tool: Tool, probe: list[str], bare_host: Host) -> None:
    for words, said in (
        (("nothing", "probe:plain"), "there is no profile 'nothing'"),
        (("hapi", "absent:1"), "podman image"),
    ):
        done = tool.run("test", *words)
        assert done.returncode == 3 and done.stderr.count("\n") == 1 and said in done.stderr, done.stderr
