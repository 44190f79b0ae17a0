"""fhir-hook report --for: the evidence for a set of safeguards, and nothing beyond it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.conftest import Bench
from fhir_hook.report import evidence
from report.conftest import Browser, Page
from report.made_logs import Log, month

SAFEGUARDS = {
    "hipaa": ["164.312(a)(1)", "164.312(b)", "164.312(c)(1)", "164.312(e)(1)", "164.308(a)(1)(ii)(D)",
              "164.308(a)(6)(ii)", "164.308(a)(8)", "164.316(b)(2)(i)"],
    "nist-800-190": ["4.1.2", "4.4.3", "4.4.4", "4.4.5", "4.5.5"],
    "cis-docker": [f"5.{n}" for n in (4, 5, 6, 10, 11, 12, 13, 16, 17, 18, 19, 20, 21, 22, 26, 29, 31, 32)],
}  # fmt: skip


def by_id(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The safeguards of a pack."""
    return {each["id"]: each for each in document["safeguards"]}


@pytest.mark.parametrize("name", evidence.CATALOGUES)
def test_a_catalogue_says_of_each_safeguard_what_is_not_covered(name: str) -> None:
    found = evidence.catalogue(name)
    assert [each["id"] for each in found["safeguards"]] == SAFEGUARDS[name]
    for each in found["safeguards"]:
        assert each["not_covered"] and set(each["records"]) <= set(evidence.KINDS)
        assert each["best"] in ("supported", "partly", "none")
        assert each["best"] == "none" or (each["records"] and each["shows"])
        assert set(each.get("needs", [])) <= {"enforce", "coverage", "verified"}


@pytest.mark.parametrize("name", evidence.CATALOGUES)
def test_a_pack_is_a_page_a_table_and_a_document_that_say_the_same(bench: Bench, tmp_path: Path, name: str) -> None:
    month(bench.log)
    to = tmp_path / "new" / "pack"
    bench("report", "--for", name, "-o", to, check=True)
    assert sorted(path.name for path in to.iterdir()) == ["evidence.csv", "evidence.json", "index.html"]
    document = json.loads((to / "evidence.json").read_text())
    text = Page((to / "index.html").read_text("utf-8")).text
    with (to / "evidence.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["safeguard"] for row in rows} == set(by_id(document)) == set(SAFEGUARDS[name])
    for each in document["safeguards"]:
        assert each["id"] in text and each["not_covered"] in text
        assert {row["state"] for row in rows if row["safeguard"] == each["id"]} == {each["state"]}
    assert "Evidence, not compliance." in text and document["claim"] == "evidence, not compliance"
    assert "compliant" not in text.lower()


def test_the_records_that_are_named_are_those_that_support_it(bench: Bench) -> None:
    month(bench.log)
    records = [json.loads(line) for line in bench.lines()]
    found = by_id(bench.json("report", "--for", "cis-docker"))
    named = {each["kind"]: each for each in found["5.22"]["records"]}
    seqs = [seq for first, last in named["seccomp_off"]["seq"] for seq in range(first, last + 1)]
    assert len(seqs) == named["seccomp_off"]["count"] == 1
    assert "FH202" in [f["code"] for f in records[seqs[0]]["findings"]]
    assert named["confined"]["count"] == 184 and named["unconfined"]["count"] == 1  # of 185, one in complain mode
    assert named["confined"]["first"] == min(r["time"] for r in records if r.get("decision") == "confined")
    assert named["confined"]["images"][:1] and named["confined"]["seq_beyond"] == 0


def test_a_record_that_is_named_can_be_proven(bench: Bench, tmp_path: Path) -> None:
    month(bench.log, 3)
    bench("log", "key", "new", check=True)
    named = by_id(bench.json("report", "--for", "hipaa"))["164.312(a)(1)"]["records"][0]["seq"]
    proof = tmp_path / "proof"
    proof.write_text(bench("log", "prove", str(named[0][0]), check=True).stdout)
    assert bench("log", "verify-proof", proof, "--key", bench.key()).returncode == 0


def test_more_than_can_be_named_is_counted(bench: Bench) -> None:
    log = Log(bench.log)
    for _ in range(300):
        log.started()
    named = by_id(bench.json("report", "--for", "cis-docker"))["5.26"]["records"][0]
    assert named["count"] == 300 and len(named["seq"]) + named["seq_beyond"] == 300


def test_nothing_is_supported_without_a_look_at_what_runs_or_with_complain_mode(bench: Bench) -> None:
    month(bench.log)
    found = by_id(bench.json("report", "--for", "cis-docker"))
    assert found["5.22"]["state"] == found["5.4"]["state"] == "partly"
    assert "complain" in found["5.22"]["why"] and "not every container" in found["5.22"]["why"]
    assert found["5.32"]["state"] == "not covered" and found["5.32"]["records"] == []


def test_a_period_without_records_is_no_evidence(bench: Bench) -> None:
    month(bench.log)
    found = by_id(bench.json("report", "--for", "cis-docker", "--until", "2020-01-01"))
    assert found["5.22"]["state"] == "no evidence in this period"


def test_without_a_place_to_write_to_it_is_a_usage_error(bench: Bench) -> None:
    bench.append(1)
    assert bench("report", "--for", "hipaa").returncode == 2
    assert bench("report", "--for", "pci-dss", "-o", "x").returncode == 2


def test_the_page_of_a_pack_fits_into_a_window(bench: Bench, tmp_path: Path, browser: Browser) -> None:
    month(bench.log)
    bench("report", "--for", "hipaa", "-o", tmp_path / "pack", check=True)
    measured = browser.measured(tmp_path / "pack" / "index.html", 1000)
    assert measured["wide"] <= measured["window"] and measured["loaded"] == 0


def test_what_a_spreadsheet_would_run_is_text() -> None:
    defused: Callable[[str], str] = evidence.cell
    for text in ("=1+1", "+1", "-1", "@A1", " =1", "\t=1", "\uff1d1", "\r\n=1"):
        assert defused(text)[0] not in "=+-@ \t\r\uff1d"
    assert defused("plain - text = 1") == "plain - text = 1"
