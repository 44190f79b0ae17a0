"""Signing, rotating and archiving the log of the installed product, between starts of real containers."""

from __future__ import annotations

import json
from pathlib import Path

from cli.conftest import Command, records
from host.machine import Host


def test_decisions_about_real_containers_are_signed_rotated_archived_and_verified(
    host: Host, command: Command, tmp_path: Path
) -> None:
    host.load("probe:hapi")

    def start(name: str) -> None:
        host.podman("run", "--rm", "--network", "none", "--name", name, "probe:hapi", "true", check=True)

    start("first")
    key = command("log", "key", "new", check=True).stdout.strip()
    command("log", "rotate", "--now", check=True)
    start("second")
    command("log", "checkpoint", check=True)
    start("third")
    report = json.loads(command("log", "verify", "--json", check=True).stdout)
    assert report["good"] and len(report["files"]) == 2 and report["records"] == report["signed"] + 2
    names = [r["container"]["name"] for r in records(command) if r["event"] == "decision" and r.get("container")]
    assert names[-3:] == ["first", "second", "third"]
    command("log", "archive", "--to", tmp_path / "archive", check=True)
    assert command("log", "verify", "--log", tmp_path / "archive", "--key", key).returncode == 0
    proof = tmp_path / "proof"
    proof.write_text(command("log", "prove", str(report["records"] - 1), "--json", check=True).stdout)
    assert command("log", "verify-proof", proof, "--key", key).returncode == 0


def test_a_container_starts_while_its_outcome_goes_into_the_next_file(host: Host, command: Command) -> None:
    host.load("probe:hapi")
    for _ in range(3):
        host.podman("run", "--rm", "--network", "none", "probe:hapi", "true", check=True)
        command("log", "rotate", "--now", check=True)
    assert command("log", check=True).stderr == ""
    found = records(command)
    decisions = {r["seq"] for r in found if r["event"] == "decision" and r["decision"] == "confined"}
    assert {r["decided_by"] for r in found if r["event"] == "outcome"} <= decisions


def test_a_user_s_own_log_is_signed_with_the_user_s_own_key(host: Host, command: Command) -> None:
    host.load("probe:hapi", user="rootless")
    host.podman("run", "--rm", "--network", "none", "probe:hapi", "true", user="rootless", check=True)
    assert command("log", "checkpoint", user="rootless").returncode == 3
    command("log", "key", "new", user="rootless", check=True)
    assert json.loads(command("log", "verify", "--json", user="rootless", check=True).stdout)["good"]
    kept = host.home("rootless") / ".local/state/fhir-hook/keys/log.key"
    assert kept.stat().st_mode & 0o777 == 0o600
