"""fhir-hook log, explain, bundle and host, on the installed product."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from cli.conftest import Command, records
from fhir_hook.core.codes import CODES
from host.machine import ROOT, Host

LOG = Path("/var/log/fhir-hook/decisions.jsonl")
HOOKS = (
    Path("/usr/share/containers/oci/hooks.d/50-fhir-hook.json"),
    Path("/usr/share/fhir-hook/podman-hooks.d/50-fhir-hook.json"),
)


@pytest.fixture
def started(host: Host, command: Command) -> dict[str, str]:
    """One FHIR container that ran and one that was refused; their names."""
    host.load("probe:hapi")
    host.derive("probe:hapi", "refused:latest", "--label", "io.fhir-hook.profile=nothere")
    host.podman("run", "--rm", "--network", "none", "--name", "good", "probe:hapi", "true", check=True)
    refused = host.podman("run", "--rm", "--network", "none", "--name", "bad", "refused:latest", "true")
    assert refused.returncode == 126
    return {"good": "good", "bad": "bad"}


def test_the_log_is_filtered_by_container_image_decision_code_and_time(
    started: dict[str, str], command: Command
) -> None:
    def found(*options: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in command("log", "--json", *options).stdout.splitlines()]

    assert {r["container"]["name"] for r in found("--container", "good")} == {"good"}  # type: ignore[index]
    id = found("--container", "good")[0]["container"]["id"]  # type: ignore[index]
    assert found("--container", id[:12]) == found("--container", "good")
    assert [r["decision"] for r in found("--decision", "refused", "--container", "bad")] == ["refused"]
    assert [r["decision"] for r in found("--code", "fh101", "--container", "bad")] == ["refused"]
    assert found("--code", "FH101", "--container", "good") == []
    assert {r["event"] for r in found("--image", "probe:hapi")} == {"decision"}
    assert found("--since", "1h") == found()
    assert found("--until", "1h") == []
    assert len(found("-n", "1")) == 1


def test_people_see_a_table_with_the_newest_last(started: dict[str, str], command: Command) -> None:
    lines = command("log", check=True).stdout.splitlines()
    assert "confined" in " ".join(lines) and "in force" in " ".join(lines)
    assert "refused" in lines[-1] or "FH101" in "".join(lines[-3:])


def test_a_changed_record_is_named_by_its_line_and_the_exit_code_says_so(
    started: dict[str, str], command: Command
) -> None:
    lines = LOG.read_text().splitlines(keepends=True)
    lines[-2] = lines[-2].replace('"host"', '"hosT"')
    LOG.write_text("".join(lines))
    done = command("log")
    assert done.returncode == 1
    assert f"decisions.jsonl:{len(lines)}:" in done.stderr


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_is_explained_and_every_refusal_says_what_to_do(command: Command, code: str) -> None:
    done = command("explain", code, check=True)
    assert CODES[code].title in done.stdout
    assert ("What to do" in done.stdout) or not code.startswith("FH1")


def test_the_path_that_crun_shows_can_be_explained(command: Command) -> None:
    done = command("explain", "/usr/libexec/fhir-hook/refused/FH101-profile-not-installed", check=True)
    assert done.stdout.startswith("FH101")


def test_an_unknown_code_is_a_usage_error(command: Command) -> None:
    assert command("explain", "FH999").returncode == 2


def test_every_code_that_the_hook_gives_is_in_the_list_and_none_in_the_list_is_unused() -> None:
    given: set[str] = set()
    for path in (ROOT / "fhir_hook").rglob("*.py"):
        if path.name != "codes.py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    given |= set(re.findall(r"\bFH\d{3}\b", node.value))
    assert given >= set(CODES)
    assert {code for code in given if code not in CODES} == set()


def test_enrolling_a_bundle_twice_adds_one_entry_and_undo_takes_it_out(command: Command, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"ociVersion": "1.0.2", "x-unknown": [1], "hooks": {"poststop": []}}))
    before = json.loads(config.read_text())
    for _ in range(2):
        command("bundle", "enroll", tmp_path, check=True)
    entries = json.loads(config.read_text())["hooks"]["prestart"]
    assert [entry["path"] for entry in entries] == ["/usr/libexec/fhir-hook/hook"]
    command("bundle", "enroll", "--undo", tmp_path, check=True)
    assert json.loads(config.read_text()) == before


def test_enrolling_something_that_is_no_bundle_says_so_in_one_line(command: Command, tmp_path: Path) -> None:
    done = command("bundle", "enroll", tmp_path)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1 and "config.json" in done.stderr


def test_disabling_the_hook_is_on_record_with_its_reason_and_enabling_puts_it_back(
    host: Host, command: Command
) -> None:
    host.load("probe:hapi")
    show = ("run", "--rm", "--network", "none", "probe:hapi", "status")
    command("host", "disable", "--reason", "planned maintenance", check=True)
    try:
        assert "NoNewPrivs:\t0" in host.podman(*show, check=True).stdout
    finally:
        command("host", "enable", check=True)
    assert "NoNewPrivs:\t1" in host.podman(*show, check=True).stdout
    assert all(path.exists() for path in HOOKS)
    events = [r for r in records(command) if r["event"] == "hook"]
    assert [(e["what"], e["reason"]) for e in events[-2:]] == [("disabled", "planned maintenance"), ("enabled", "")]


def test_inspecting_what_does_not_run_says_so_in_one_line(command: Command) -> None:
    done = command("inspect", "nobody-is-called-this")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1 and "nobody-is-called-this" in done.stderr
