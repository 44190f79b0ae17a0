"""surface.py, plot.py, catalogue.py, sarif.py: reports that people and CI read."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree
from pathlib import Path

import jsonschema
import pytest

from authoring.sandbox import SHIPPED, Folder
from fhir_hook.authoring.finding import Finding
from fhir_hook.review import catalogue, codes, evidence, positions, reach, sarif, surface
from review.support import ROOT, finder, run

EVIDENCE = evidence.load(SHIPPED)


def test_the_lines_agree_with_the_filters() -> None:
    found = finder()
    for line in surface.lines(found, EVIDENCE):
        subject = found.find(line.name)
        assert line.allowed == len(subject.allowed()) and line.known == 362
        assert line.closed == reach.counts(reach.judge(subject, reach.load(SHIPPED)))["closed"]
        assert line.serving is None or line.serving <= line.allowed
        assert line.serving_closed is None or line.serving_closed >= line.closed


def test_serving_is_what_the_profiles_recordings_saw_and_it_allows(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    provenance = {"recordings": [{"server": "x", "recording": "hapi-plain-8.8.0"}]}
    folder.profile(seccomp={"include": ["process", "files-read"]}, provenance=provenance)
    subject = surface.Finder(folder.load(), SHIPPED).find("mine")
    serving = surface.serving_subject(subject, EVIDENCE)
    assert serving is not None
    seen = EVIDENCE.recordings["hapi-plain-8.8.0"].phases["serve"]
    assert serving.allowed() == subject.allowed() & seen


def test_the_table_lists_the_engines_first_and_every_profile(tmp_path: Path) -> None:
    document = json.loads(run("surface", "--json").stdout)
    names = [line["name"] for line in document]
    assert names[:3] == ["unconfined", "podman", "docker"] and set(finder().sources.profiles) == set(names[3:])
    markdown = run("surface", "--markdown").stdout
    assert markdown.count("\n") == len(names) + 2 and all(f"| {name} |" in markdown for name in names)
    text = run("surface", "hapi", "docker").stdout
    assert "not enforced" in text and "hapi" in text


def test_confines_images_are_beaten_on_their_own_footing() -> None:
    compared = json.loads(run("surface", "--confine", "--json").stdout)
    assert compared and all(entry["universe"] == 326 for entry in compared)
    assert all(entry["denied"] > entry["theirs"] for entry in compared)


def test_the_plot_is_an_svg_with_every_name_in_it(tmp_path: Path) -> None:
    path = tmp_path / "surface.svg"
    assert run("surface", "--plot", path).returncode == 0
    root = xml.etree.ElementTree.fromstring(path.read_text())
    assert root.tag.endswith("svg")
    assert all(name in path.read_text() for name in ("docker", "podman", *finder().sources.profiles))
    again = tmp_path / "again.svg"
    run("surface", "--plot", again)
    assert again.read_bytes() == path.read_bytes()


def test_a_plot_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    done = run("surface", "docker", "--plot", tmp_path / "no" / "x.svg")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)


def test_the_page_of_calls_is_the_generated_one() -> None:
    written = (ROOT / "docs" / "calls.md").read_text()
    assert written == catalogue.markdown(finder().sources, SHIPPED), "fhir-hook profile list --markdown > docs/calls.md"


def test_the_page_of_calls_has_every_group_and_every_call_of_it() -> None:
    page = catalogue.markdown(finder().sources, SHIPPED)
    for entry in catalogue.groups(finder().sources):
        assert f"\n## {entry['name']}\n" in page
        section = page.partition(f"\n## {entry['name']}\n")[2].partition("\n## ")[0]
        assert all(f"`{call}`" in section for call in entry["calls"])


def test_list_names_where_each_profile_is_from() -> None:
    document = json.loads(run("list", "--json").stdout)
    assert {entry["origin"] for entry in document} == {"shipped"}
    assert all(len(entry["sha256"]) == 64 for entry in document)


def test_positions_are_those_of_an_editor() -> None:
    text = '{\n  "a": [1, {"b/c": "x:,{"}],\n  "d": {}\n}\n'
    found = positions.positions(text)
    assert found[""] == (1, 1) and found["/a"] == (2, 8) and found["/a/0"] == (2, 9)
    assert found["/a/1"] == (2, 12) and found["/a/1/b~1c"] == (2, 20) and found["/d"] == (3, 8)
    assert positions.find(found, "/a/1/b~1c/deeper") == (2, 20) and positions.find({}, "/x") == (1, 1)
    for junk in ("", "{", "]]}}", '{"a" "b"', "\0", '{"a": tru'):
        positions.positions(junk)


# The parts of the SARIF 2.1.0 schema that code scanning relies on (OASIS sarif-schema-2.1.0, "run" and "result").
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "required": ["tool", "results"],
                "properties": {
                    "results": {
                        "items": {
                            "required": ["ruleId", "level", "message", "locations"],
                            "properties": {
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": {"required": ["text"]},
                                "locations": {
                                    "items": {
                                        "required": ["physicalLocation"],
                                        "properties": {
                                            "physicalLocation": {
                                                "required": ["artifactLocation", "region"],
                                                "properties": {
                                                    "region": {"properties": {"startLine": {"minimum": 1}}},
                                                    "artifactLocation": {"properties": {"uri": {"format": "uri"}}},
                                                },
                                            }
                                        },
                                    }
                                },
                            },
                        }
                    }
                },
            },
        },
    },
}


def test_sarif_points_to_the_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{\n "seccomp": {\n  "syscalls": [\n   {"names": ["bpf"]}\n  ]\n }\n}\n')
    finding = Finding("P601", "error", str(path), "/seccomp/syscalls/0", "bpf is allowed", "remove it")
    log = sarif.log([finding], "1", tmp_path)
    jsonschema.validate(log, SARIF)
    (result,) = log["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place["region"]["startLine"] == 4 and place["artifactLocation"]["uri"] == "mine.json"
    assert log["runs"][0]["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == "P601"


def test_the_command_writes_sarif_for_all_profiles(tmp_path: Path) -> None:
    path = tmp_path / "lint.sarif"
    run("lint", "--sarif", path)
    log = json.loads(path.read_text())
    jsonschema.validate(log, SARIF)
    for result in log["runs"][0]["results"]:
        rules = log["runs"][0]["tool"]["driver"]["rules"]
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


PAGE = (ROOT / "docs" / "review-a-profile.md").read_text()


def test_every_code_of_lint_is_on_the_officers_page_and_no_other() -> None:
    named = set(re.findall(r"P[67]\d\d", PAGE))
    assert named == {code for code in codes.TITLES if code[1] in "67"}


def test_the_commands_of_the_officers_page_work_as_written(tmp_path: Path) -> None:
    lines = re.findall(r"^    fhir-hook profile (.+)$", PAGE, re.MULTILINE)
    assert len(lines) > 12
    for line in lines:
        words = line.split()
        if words[0] in ("install", "remove") or "@policy" in line:
            assert run(words[0], "--help", folder=Path()).returncode == 0
            continue
        if words[0] == "import":
            source = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}
            (tmp_path / "seccomp.json").write_text(json.dumps(source))
        done = run(*words, cwd=tmp_path)
        assert done.returncode in (0, 1), (line, done.stderr)
        assert done.stdout or "-o" in words, line


@pytest.mark.parametrize(("name", "words"), [("surface", ["surface"]), ("confine", ["surface", "--confine"])])
def test_the_tables_of_the_readme_are_what_the_command_prints(name: str, words: list[str]) -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]
    assert table == run(*words, "--markdown").stdout, "run make docs"
