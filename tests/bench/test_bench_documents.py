"""docs/bench.md, its pictures and the README say what the kept results give."""

from __future__ import annotations

import re
from pathlib import Path

from bench import report
from host.machine import ROOT

AGAIN = "run bench/table"


def test_the_page_is_what_the_results_give() -> None:
    assert (ROOT / "docs/bench.md").read_text() == report.page(), AGAIN


def test_the_part_of_the_readme_is_what_the_results_give() -> None:
    part = (ROOT / "README.md").read_text().partition("<!-- bench -->\n")[2].partition("<!-- /bench -->")[0]
    assert part == report.summary(), AGAIN


def test_the_pictures_are_what_the_results_give_to_the_byte(tmp_path: Path) -> None:
    drawn = report.pictures(tmp_path)
    kept = ROOT / "docs" / report.PICTURES
    assert {path.name for path in drawn} == {path.name for path in kept.iterdir()}, AGAIN
    for path in drawn:
        assert path.read_bytes() == (kept / path.name).read_bytes(), f"{path.name}: {AGAIN}"


def test_the_page_shows_every_picture_and_names_no_other() -> None:
    shown = set(re.findall(r"\]\(bench/([a-z-]+\.svg)\)", report.page()))
    assert shown == {path.name for path in (ROOT / "docs" / report.PICTURES).iterdir()}


def test_every_question_says_one_sentence() -> None:
    for question in report.answered():
        sentence = question.says()
        assert sentence.endswith(".") and "\n" not in sentence and not re.search(r"[.!?] [A-Z]", sentence), sentence
