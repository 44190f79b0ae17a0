"""Attacks on whoever reads the log: text that strangers choose must stay text, wherever it is shown."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.conftest import Bench
from report.conftest import Browser, Page
from report.made_logs import HOSTILE, Log, hostile

CATALOGUES = ("hipaa", "nist-800-190", "cis-docker")
ACTIVE = {"script", "iframe", "object", "embed", "img", "link", "form", "input", "base", "video", "foreignobject"}


@pytest.fixture
def attacked(bench: Bench) -> Bench:
    """A host whose log an attacker has filled."""
    hostile(bench.log)
    return bench


@pytest.fixture
def pages(attacked: Bench, written: Callable[..., Path], tmp_path: Path) -> dict[str, str]:
    """The report and the three packs' pages."""
    found = {"report": written().read_text("utf-8")}
    for name in CATALOGUES:
        attacked("report", "--for", name, "-o", tmp_path / name, check=True)
        found[name] = (tmp_path / name / "index.html").read_text("utf-8")
    return found


def invisible(text: str) -> set[str]:
    """Characters that act on a terminal, a line or a direction."""
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")} - {"\n"}


def test_attack_markup_in_names_stays_text(pages: dict[str, str]) -> None:
    for html in pages.values():
        page = Page(html)
        for tag, attributes in page.elements:
            assert tag not in ACTIVE, (tag, attributes)
            assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
            for name in ("href", "src", "action", "xlink:href"):
                target = attributes.get(name) or "#"
                assert target.startswith("#") or target in ("evidence.csv", "evidence.json"), target
    assert "<script>alert(1)</script>" in Page(pages["report"]).text
    assert "{{ 7*7 }}" in Page(pages["report"]).text


def test_attack_control_bidi_and_separator_characters_are_shown_as_escapes(pages: dict[str, str]) -> None:
    for html in pages.values():
        assert not invisible(html)
    assert "\\u202e" in pages["report"] and "\\u2028" in pages["report"] and "\\x1b" in pages["report"]


def test_attack_a_label_of_10000_characters_neither_fills_the_page_nor_breaks_it(
    pages: dict[str, str], written: Callable[..., Path], browser: Browser
) -> None:
    assert all("x" * 300 not in html and len(html) < 400_000 for html in pages.values())
    measured = browser.measured(written(), 1280)
    assert measured["wide"] <= measured["window"], measured
    assert measured["scripts"] == measured["images"] == measured["loaded"] == 0


def test_attack_a_page_forbids_scripts_and_the_network_even_if_something_slips_through(pages: dict[str, str]) -> None:
    for html in pages.values():
        policies = [a["content"] for tag, a in Page(html).elements if a.get("http-equiv") == "Content-Security-Policy"]
        assert len(policies) == 1 and str(policies[0]).startswith("default-src 'none'; style-src 'unsafe-inline'")


def test_attack_formulas_in_the_csv_are_defused(attacked: Bench, tmp_path: Path) -> None:
    for name in CATALOGUES:
        attacked("report", "--for", name, "-o", tmp_path / name, check=True)
        data = (tmp_path / name / "evidence.csv").read_text("utf-8")
        rows = list(csv.reader(data.splitlines(), strict=True))
        assert len({len(row) for row in rows}) == 1
        for cell in (cell for row in rows for cell in row):
            assert cell.lstrip()[:1] not in ("=", "+", "-", "@", "\t"), cell
            assert not invisible(cell), cell


@pytest.mark.parametrize("options", [(), ("summary",), ("summary", "--by", "image"), ("summary", "--by", "reason")])
def test_attack_the_terminal_gets_no_escape_sequence(attacked: Bench, options: tuple[str, ...]) -> None:
    said = attacked("log", *options, check=True)
    assert "owned" in said.stdout
    assert not invisible(said.stdout + said.stderr)


def test_attack_json_output_is_ascii_and_holds_every_text(attacked: Bench, tmp_path: Path) -> None:
    for options in (("log",), ("log", "summary"), ("report",), ("report", "--for", "hipaa")):
        said = attacked(*options, "--json", check=True).stdout
        assert said.isascii()
        for line in said.splitlines():
            json.loads(line)
    records = [json.loads(line) for line in attacked("log", "--json").stdout.splitlines()]
    names = [r["container"].get("name") for r in records if isinstance(r.get("container"), dict)]
    assert all(text in names for text in HOSTILE)


def test_attack_lines_that_are_no_records_are_named_and_passed_over(attacked: Bench, tmp_path: Path) -> None:
    with attacked.file.open("ab") as file:
        file.write(b"[" * 100_000 + b"\n\xff\xfe<script>\n" + b'{"seq":NaN}\n' + b'"text"\n' + b'{"event":"decision"')
    said = attacked("log", "summary")
    assert said.returncode in (0, 1) and "Refusals" in said.stdout
    to = tmp_path / "r.html"
    attacked("report", "-o", to, check=True)
    assert "lines are torn, no record, or do not follow" in Page(to.read_text("utf-8")).text


def test_attack_long_names_do_not_cut_off_how_many_more_there_are(bench: Bench) -> None:
    log = Log(bench.log)
    for number in range(9):
        log.refused("FH101", name=f"{number}" + "n" * 60, image=f"localhost/{number}{'long' * 25}:1")
    for number in range(1100):
        log.decision(name=f"many-{number}", image="localhost/many:1")
    text = rendered(bench)
    assert "and 8 more" in text and "more characters)" not in text
    assert "and over 997 more" in text


def rendered(bench: Bench) -> str:
    """The page's text."""
    return Page(bench("report", check=True).stdout).text
