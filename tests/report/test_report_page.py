"""fhir-hook report: what the page says, and how it looks on a screen and on paper."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.conftest import Bench
from fhir_hook.core.codes import CODES
from fhir_hook.report.collection import MOST_CLAIMED, MOST_ROWS
from fhir_hook.report.grouping import FURTHER
from report.conftest import Browser, Page, colours
from report.made_logs import Log, claims, hostile, month

HEADINGS = ("Timeline", "What ran, under which profile and policy", "Refusals", "Denied calls", "Coverage", "Changes",
            "The log", "What this report can't show")  # fmt: skip


@pytest.fixture
def reported(bench: Bench, written: Callable[..., Path]) -> Path:
    """The page of a busy host."""
    month(bench.log)
    return written()


def test_the_page_says_what_ran_what_was_refused_denied_and_changed(reported: Path) -> None:
    text = Page(reported.read_text("utf-8")).text
    assert all(heading in text for heading in HEADINGS)
    assert "184 starts confined 8 starts refused 2 started without, by decision 106 calls denied" in text
    assert "localhost/ postgresql: 15 postgresql 1.0.0" in text and "2c23e4f25c7f" in text
    assert CODES["FH101"].title[1:] in text and CODES["FH101"].hint in text
    assert "io_uring_setup" in text and "enforce → complain" in text
    assert "In complain mode" in text and "FH401" in text


def test_a_period_leaves_out_what_lies_before_and_after(bench: Bench, written: Callable[..., Path]) -> None:
    month(bench.log)
    text = Page(written("--since", "2026-11-05", "--until", "2026-11-06").read_text("utf-8")).text
    assert "2026-11-05 00:00:00 to 2026-11-06 23:59:59" in text
    assert "4 starts refused" in text and "0 calls denied" in text and "complain" not in text.split("Changes")[-1]


def test_an_unsigned_log_is_called_unsigned_and_a_signed_one_says_by_which_key(
    bench: Bench, written: Callable[..., Path]
) -> None:
    bench.append(3)
    assert "The log is not signed." in Page(written().read_text("utf-8")).text
    bench("log", "key", "new", "--origin", "test.example/log", check=True)
    bench.append(2)
    text = Page(written().read_text("utf-8")).text
    assert "The log is verified." in text and "4 of 6 records are signed as test.example/log" in text
    assert bench.key().rpartition("+")[0] in text and "2 newer ones are only chained" in text
    assert "whoever is root here could have signed anew" in text


def test_a_changed_log_is_called_so_and_the_record_is_named(bench: Bench, written: Callable[..., Path]) -> None:
    bench.append(5)
    bench("log", "key", "new", check=True)
    lines = bench.lines()
    lines[2] = lines[2].replace(b'"n":2', b'"n":9')
    bench.file.write_bytes(b"".join(lines))
    text = Page(written().read_text("utf-8")).text
    assert "The log is not what was signed." in text and "record 2:" in text


def test_a_copy_is_reported_on_with_the_verifier_key(
    bench: Bench, written: Callable[..., Path], tmp_path: Path
) -> None:
    bench.append(5)
    bench("log", "key", "new", check=True)
    copy, key = bench.copy(tmp_path / "copy"), bench.key()
    assert "no verifier key was given" in Page(written("--log", copy).read_text("utf-8")).text
    text = Page(written("--log", copy, "--key", key, "--checkpoint", bench.tree / "checkpoint").read_text("utf-8")).text
    assert "The log is verified." in text and "this report was made from a copy" in text


def test_the_page_goes_to_standard_output_or_as_json(bench: Bench) -> None:
    month(bench.log)
    assert bench("report", check=True).stdout.startswith("<!DOCTYPE html>")
    document = bench.json("report")
    assert document["decisions"] == {"confined": 185, "refused": 8, "exempt": 1}
    assert sum(bar["confined"] for bar in document["timeline"]) == 185
    assert {row["call"]: row["count"] for row in document["denials"]} == {"io_uring_setup": 100, "ptrace": 6}


def test_a_page_that_can_not_be_written_is_one_line(bench: Bench) -> None:
    bench.append(1)
    done = bench("report", "-o", "/nonexistent/report.html")
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 1


def test_the_page_can_be_read_by_ear_and_by_key(reported: Path) -> None:
    page = Page(reported.read_text("utf-8"))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == tags.count("main") == tags.count("header") == tags.count("footer") == 1
    assert tags.count("table") == tags.count("caption") > 5
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert ("html", {"lang": "en"}) in page.elements
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {str(a["href"])[1:] for tag, a in page.elements if tag == "a"} <= {str(id) for id in ids}


def _contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.1)."""

    def luminance(colour: str) -> float:
        digits = colour * 2 if len(colour) == 3 else colour
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_colour_of_text_has_enough_contrast_in_light_and_dark(reported: Path) -> None:
    themes = re.findall(r":root \{(.*?)\}", reported.read_text("utf-8"), re.DOTALL)
    assert len(themes) == 2
    for theme in themes:
        colour = dict(re.findall(r"--(\w+): #([0-9a-f]{3,6})", theme))
        for ground in ("paper", "wash"):
            for name in ("ink", "soft", "accent", "confined", "refused", "denial", "note"):
                assert _contrast(colour[name], colour[ground]) >= 4.5, (name, ground)


@pytest.mark.parametrize("width", [1280, 800, 500])
def test_the_page_fits_into_a_window_and_loads_nothing(reported: Path, browser: Browser, width: int) -> None:
    measured = browser.measured(reported, width)
    assert measured["window"] >= width and measured["wide"] <= measured["window"], measured
    assert measured["loaded"] == measured["scripts"] == measured["images"] == 0


def test_the_page_is_drawn_in_light_and_in_dark(reported: Path, browser: Browser) -> None:
    light = colours(browser.screenshot(reported, 1280, 1000))
    dark = colours(browser.screenshot(reported, 1280, 1000, "--force-dark-mode"))
    # paper, ink, confined, refused, denial: what is on the page is on the picture
    for drawn, wanted in ((light, "ffffff 17212b 1f7a63 b3261e 6b3fa0"), (dark, "10161c e7ecf1 4fc3a1 ff8a80 c3a1f0")):
        assert {bytes.fromhex(each) for each in wanted.split()} <= drawn


@pytest.mark.parametrize("made", [month, hostile], ids=["month", "hostile"])
def test_on_paper_it_is_a4_with_margins_and_no_page_is_blank(
    bench: Bench, written: Callable[..., Path], browser: Browser, tmp_path: Path, made: Callable[[Path], object]
) -> None:
    made(bench.log)
    pdf = browser.paper(written())
    about = subprocess.run(["pdfinfo", pdf], capture_output=True, text=True, check=True).stdout
    pages = int(re.findall(r"Pages: +(\d+)", about)[0])
    assert "(A4)" in about and 2 <= pages <= (8 if made is month else 80), about
    subprocess.run(["pdftoppm", "-r", "30", "-gray", "-l", "12", pdf, tmp_path / "page"], check=True)
    for picture in sorted(tmp_path.glob("page-*.pgm")):
        width, rows = _gray(picture)
        inked = {at for row in rows for at, value in enumerate(row) if value < 200}
        assert inked, f"{picture.name} is blank"
        # 14 mm margins of 210 mm: nothing is cut off at the right edge
        assert min(inked) >= width * 12 / 210 and max(inked) <= width * 198 / 210, picture.name


def _gray(picture: Path) -> tuple[int, list[bytes]]:
    """Width and rows of a PGM file (P5)."""
    head = re.match(rb"P5\s(\d+)\s(\d+)\s255\s", data := picture.read_bytes())
    assert head
    width, body = int(head[1]), data[head.end() :]
    return width, [body[at : at + width] for at in range(0, len(body), width)]


def test_what_users_sent_of_their_own_logs_is_marked_and_is_no_evidence(bench: Bench) -> None:
    log = Log(bench.log)
    log.started("host")
    sent = {"log": "rootless", "uid": 1000, "seq": 5, "time": "2026-11-01T00:00:00Z"}
    log.decision(name="theirs", image="localhost/theirs:1", user={"uid": 1000, "login": None}, **{"from": sent})
    log.add(event="outcome", seen="count", **{"from": {**sent, "seq": 6, "decided_by": 5}})
    log.add(event="collect", what="other", **{"from": {**sent, "seq": 7}})
    document = bench.json("report")
    row = next(row for row in document["ran"] if row["containers"] == ["theirs"])
    assert row["image"] == "localhost/theirs:1 (as uid 1000 says)"
    assert document["unseen"] == 0 and document["collected"]["count"] == 3
    assert "collect" not in {event["kind"] for event in document["changes"]["events"]}
    pack = bench.json("report", "--for", "cis-docker")
    named = {each["id"]: each for each in pack["safeguards"]}["5.22"]["records"]
    assert named[0]["count"] == 1 and pack["left_out"].startswith("3 records")


def test_a_start_that_was_refused_at_the_last_step_does_not_count_as_confined(bench: Bench) -> None:
    log = Log(bench.log)
    log.started()
    seq = log.decision()
    log.add(event="outcome", decision="refused", decided_by=seq, reasons=[{"code": "FH107", "text": "gone"}])
    document = bench.json("report")
    assert document["seen"] == {"config": 1, "refused": 1} and document["unseen"] == 0
    assert [row["key"] for row in document["refusals"]] == ["FH107"]
    page = Page(bench("report", check=True).stdout).text
    assert "1 starts confined 1 starts refused" in page and "1 were refused at the last step" in page


def test_denials_that_can_not_be_observed_are_told_apart_from_none(bench: Bench) -> None:
    log = Log(bench.log)
    log.started()
    log.add(event="watch", what="unobservable", container={"id": "c" * 64, "name": "fhir"},
            findings=[{"code": "FH213", "text": "native filter"}])  # fmt: skip
    log.denial("", what="others", count=12)
    document = bench.json("report")
    assert document["unobservable"][0]["containers"] == ["fhir"]
    assert [(row["call"], row["count"]) for row in document["denials"]] == [("(others)", 12)]
    assert "can't be observed" in Page(bench("report", check=True).stdout).text


def test_attack_a_user_who_says_that_the_host_refused_or_exempted_changes_no_figure_of_the_host(bench: Bench) -> None:
    log = Log(bench.log)
    log.started("host", findings=[])
    before = bench.json("report")
    claims(log)
    after = bench.json("report")
    assert after["collected"]["count"] == 5
    assert after["collected"]["says"] == {"refused": 2, "other": 1, "confined": 1}
    for member in ("decisions", "seen", "unseen", "timeline", "complain", "refusals", "findings", "denials", "users"):
        assert after[member] == before[member], member
    assert after["changes"] == before["changes"] and after["about"]["policy"] == before["about"]["policy"]
    rows = [*after["ran"], *after["without"]]
    assert [row["image"] for row in rows if row not in before["ran"]] == ["localhost/theirs:1 (as uid 1000 says)"] * 2
    text = Page(bench("report", check=True).stdout).text
    assert "1 starts confined 0 starts refused 0 started without, by decision 0 calls denied" in text
    assert "5 records were sent by users from their own logs: 1 confined, 1 other, 2 refused" in text


def test_attack_a_user_with_many_images_takes_no_row_from_the_host(bench: Bench) -> None:
    log = Log(bench.log)
    at = {"log": "rootless", "uid": 1000}
    for seq in range(MOST_ROWS + 1):
        log.decision(image=f"localhost/theirs:{seq}", **{"from": {**at, "seq": seq}})
    log.started(image="localhost/host:1")
    rows = {row["image"]: row["count"] for row in bench.json("report")["ran"]}
    assert len(rows) == MOST_CLAIMED + 2
    assert rows["localhost/host:1"] == 1 and rows[FURTHER] == MOST_ROWS + 1 - MOST_CLAIMED


def test_attack_root_among_the_senders_is_no_host_either(bench: Bench) -> None:
    log = Log(bench.log)
    claims(log, uid=0)
    document = bench.json("report")
    assert document["decisions"] == {} and document["refusals"] == []
    named = {each["id"]: each for each in bench.json("report", "--for", "cis-docker")["safeguards"]}["5.22"]["records"]
    assert [each["count"] for each in named] == [0] * len(named)


def test_a_users_word_in_a_denial_and_in_what_can_not_be_observed_is_marked(bench: Bench) -> None:
    log = Log(bench.log)
    log.denial("ptrace", owner=1000)
    log.add(event="watch", what="unobservable", owner=1000, image={"names": ["localhost/theirs:1"]})
    document = bench.json("report")
    assert [row["image"] for row in document["denials"]] == ["localhost/hapi:8.8.0 (as uid 1000 says)"]
    assert [row["image"] for row in document["unobservable"]] == ["localhost/theirs:1 (as uid 1000 says)"]
    records = {each["kind"]: each["count"] for safeguard in bench.json("report", "--for", "hipaa")["safeguards"]
               for each in safeguard["records"]}  # fmt: skip
    assert records["denial"] == 0
