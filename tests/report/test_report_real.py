"""The report of the installed product about containers that really ran."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fhir_hook.report.evidence import CATALOGUES
from report.conftest import MARKER, Page, Real


@pytest.fixture(scope="module")
def document(real: Real) -> dict[str, Any]:
    """The report as JSON."""
    found: dict[str, Any] = json.loads(real.host.run(["fhir-hook", "report", "--json"], check=True).stdout)
    return found


def test_the_installed_command_writes_the_page(real: Real, tmp_path: Path) -> None:
    to = tmp_path / "report.html"
    real.host.run(["fhir-hook", "report", "-o", to], check=True)
    text = Page(to.read_text("utf-8")).text
    assert "The log is verified." in text and "report-bad" in text and "report-complains" in text


def test_arguments_environment_and_mounts_of_a_container_are_nowhere(real: Real) -> None:
    commands = (("log", "--json"), ("log",), ("log", "summary"), ("report",), ("report", "--json"))
    for command in (*commands, *(("report", "--for", name, "--json") for name in CATALOGUES)):
        said = real.host.run(["fhir-hook", *command], check=True).stdout
        assert said
        assert MARKER not in said


def test_what_ran_is_named_with_profile_and_policy_and_was_seen_in_force(document: dict[str, Any]) -> None:
    row = next(row for row in document["ran"] if "report-good" in row["containers"])
    assert row["image"] == "localhost/probe:hapi" and row["profile"].startswith("hapi ")
    assert len(row["policy"]) == len(row["profile_digest"]) == 12
    assert document["seen"]["config"] >= 2 and document["unseen"] == 0


def test_the_refusal_has_its_code_its_meaning_and_the_next_step(document: dict[str, Any]) -> None:
    row = next(row for row in document["refusals"] if row["key"] == "FH101")
    assert "report-bad" in row["containers"] and row["meaning"] and "fhir-hook policy compile" in row["next_step"]


def test_a_container_that_was_started_around_the_hook_is_found_though_no_record_tells_of_it(
    real: Real, document: dict[str, Any]
) -> None:
    assert document["coverage"]["looked"]
    seen = [finding["seen"] for finding in document["coverage"]["findings"] if finding["bad"]]
    assert any("report-bypassed" in each and real.bypassed[:12] in each for each in seen), document["coverage"]
    assert not [row for row in document["ran"] if "report-bypassed" in row["containers"]]


def test_complain_mode_privileges_and_changes_of_settings_are_told(document: dict[str, Any]) -> None:
    assert any("report-complains" in row["containers"] for row in document["complain"])
    assert {"FH201", "FH202", "FH203"} <= {row["code"] for row in document["findings"]}
    kinds = {event["kind"] for event in document["changes"]["events"]}
    assert {"policy", "settings", "mode", "new image", "new profile", "first refusal", "log"} <= kinds


def test_the_pack_does_not_claim_support_while_something_runs_around_the_hook(real: Real) -> None:
    said = real.host.run(["fhir-hook", "report", "--for", "cis-docker", "--json"], check=True).stdout
    found = {each["id"]: each for each in json.loads(said)["safeguards"]}
    assert found["5.22"]["state"] == "partly" and "not every container" in found["5.22"]["why"]
    named = {each["kind"]: each for each in found["5.5"]["records"]}["privileged"]
    assert named["count"] >= 1 and named["seq"]
    settings = {each["what"]: each["value"] for each in found["5.22"]["settings"]}
    assert settings["setting mode"] == "enforce"


def test_a_pack_supports_a_safeguard_when_all_that_it_needs_holds(real: Real) -> None:
    real.host.podman("rm", "-f", "-t", "0", real.bypassed)
    since = real.host.run(["date", "-u", "+%Y-%m-%dT%H:%M:%S+00:00"], check=True).stdout.strip()
    real.host.podman("run", "--rm", "--network", "none", "--name", "report-last", "probe:hapi", "true", check=True)
    said = real.host.run(["fhir-hook", "report", "--for", "cis-docker", "--since", since, "--json"], check=True).stdout
    found = {each["id"]: each for each in json.loads(said)["safeguards"]}
    assert found["5.22"]["state"] == found["5.4"]["state"] == found["5.26"]["state"] == "supported", found["5.22"]
    assert found["5.5"]["state"] == "no evidence in this period"  # nobody asked for --privileged


def test_an_ordinary_user_reports_on_a_log_of_their_own(real: Real) -> None:
    shutil.rmtree(real.host.home("rootless") / ".local/state/fhir-hook", ignore_errors=True)
    real.host.load("probe:hapi", "rootless")
    real.host.podman("run", "--rm", "--network", "none", "probe:hapi", "true", user="rootless", check=True)
    said = real.host.run(["fhir-hook", "report", "--json"], user="rootless", check=True).stdout
    document = json.loads(said)
    assert document["decisions"]["confined"] >= 1 and document["chain"]["state"] == "unsigned"
    assert "not run by root" in document["coverage"]["text"] and not document["coverage"]["looked"]


def test_the_log_of_the_installed_product_is_followed_and_summed_up(real: Real) -> None:
    said = real.host.run(["fhir-hook", "log", "summary"], check=True).stdout
    assert "Refusals by reason" in said and "report-complains" in said
    followed = real.host.run(["timeout", "-s", "INT", "2", "fhir-hook", "log", "-f", "-n", "3", "--json"])
    assert len(followed.stdout.splitlines()) == 3 and followed.stderr == ""
