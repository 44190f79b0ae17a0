"""Reading profiles and groups: strict JSON, the schema, local ones in the place of shipped ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from authoring.sandbox import SHIPPED, Folder
from fhir_hook.authoring.finding import errors
from fhir_hook.authoring.source import load_sources


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_the_shipped_documents_have_no_finding() -> None:
    sources = load_sources(SHIPPED)
    assert sources.findings == []
    assert {"hapi", "fhirstarter", "fhir-jvm"} <= set(sources.profiles)
    assert {"runtime-runc", "runtime-crun", "jvm", "threads"} <= set(sources.groups)


def test_no_local_folder_is_no_finding(tmp_path: Path) -> None:
    assert load_sources(SHIPPED, tmp_path / "nowhere").findings == []


def test_a_local_profile_replaces_the_shipped_one_by_name(folder: Folder) -> None:
    path = folder.profile("hapi")
    sources = folder.load()
    assert sources.profiles["hapi"].path == path and sources.profiles["hapi"].local
    assert not sources.profiles["fhirstarter"].local


def test_a_broken_local_profile_does_not_bring_the_shipped_one_back(folder: Folder) -> None:
    (folder.local / "hapi.json").write_text("{")
    sources = folder.load()
    assert "hapi" not in sources.profiles and errors(sources.findings)


def test_a_local_group_replaces_the_shipped_one_by_name(folder: Folder) -> None:
    folder.group("jvm", [{"names": ["times"]}])
    assert folder.load().groups["jvm"].document["syscalls"] == [{"names": ["times"]}]


BAD_JSON = {
    "nothing": b"",
    "a comment": b'{"name": "mine" /* here */}',
    "a key twice": b'{"name": "mine", "name": "other"}',
    "NaN": b'{"version": NaN}',
    "Infinity": b'{"version": Infinity}',
    "a number out of range": b'{"version": 1e999}',
    "UTF-16": '{"name": "mine"}'.encode("utf-16"),
    "not UTF-8": b'{"name": "\xff"}',
    "text behind": b"{} {}",
    "depth 30": b"[" * 30 + b"]" * 30,
    "depth 100,000": b"[" * 100_000 + b"]" * 100_000,
    "2 MiB": b'{"title": "' + b"x" * (2 << 20) + b'"}',
    "5,000 digits": b'{"version": ' + b"1" * 5000 + b"}",
}


@pytest.mark.parametrize("data", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_what_is_not_strict_json_is_refused(folder: Folder, data: bytes) -> None:
    (folder.local / "mine.json").write_bytes(data)
    finding = folder.only("P102")
    assert finding.file.endswith("mine.json") and finding.hint


def test_an_unreadable_file_is_named(folder: Folder) -> None:
    (folder.local / "mine.json").mkdir()
    assert folder.only("P101").message


SCHEMA_FAULTS = {
    "no version": ({"version": None}, "/version"),
    "an unknown member": ({"capabilites": {}}, ""),
    "an unknown mode": ({"mode": "audit"}, "/mode"),
    "an unknown action": (
        {"seccomp": {"syscalls": [{"names": ["read"], "action": "ALLOW"}]}},
        "/seccomp/syscalls/0/action",
    ),
    "no names": ({"seccomp": {"syscalls": [{"names": []}]}}, "/seccomp/syscalls/0/names"),
    "argument 6": (
        {"seccomp": {"syscalls": [{"names": ["read"], "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}},
        "/seccomp/syscalls/0/args/0/index",
    ),
    "a value of 65 bits": (
        {"seccomp": {"syscalls": [{"names": ["read"], "args": [{"index": 0, "value": 1 << 64, "op": "SCMP_CMP_EQ"}]}]}},
        "/seccomp/syscalls/0/args/0/value",
    ),
    "a selector without labels": ({"match": [{"labels": {}}]}, "/match/0/labels"),
    "a label value of the wrong type": ({"match": [{"labels": {"name": 1}}]}, "/match/0/labels/name"),
    "an errno of 0": ({"seccomp": {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}]}},
                      "/seccomp/syscalls/0/errnoRet"),
}  # fmt: skip


@pytest.mark.parametrize(("members", "pointer"), SCHEMA_FAULTS.values(), ids=SCHEMA_FAULTS.keys())
def test_what_the_schema_forbids_is_found_at_its_place(folder: Folder, members: dict[str, Any], pointer: str) -> None:
    folder.profile(**members)
    finding = folder.only("P103")
    assert finding.pointer == pointer


def test_a_misspelt_member_gets_a_suggestion(folder: Folder) -> None:
    folder.profile(capabilites={})
    assert "did you mean capabilities" in folder.only("P103").hint


def test_a_name_that_is_not_the_file_s_is_refused(folder: Folder) -> None:
    folder.profile("mine").rename(folder.local / "other.json")
    finding = folder.only("P204")
    assert finding.pointer == "/name" and "mine.json" in finding.hint


def test_a_missing_schema_is_an_error(folder: Folder) -> None:
    (folder.shipped / "schema" / "profile.schema.json").unlink()
    assert "P104" in {finding.code for finding in errors(folder.load().findings)}


@pytest.mark.parametrize("name", ["profile", "group"])
def test_a_published_schema_is_valid_and_describes_every_member(name: str) -> None:
    schema = json.loads((SHIPPED / "schema" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert all("title" in member for member in schema["properties"].values())


def test_both_schemas_say_the_same_about_rules() -> None:
    documents = [json.loads((SHIPPED / "schema" / f"{name}.schema.json").read_text()) for name in ("profile", "group")]
    assert all(documents[0]["$defs"][part] == documents[1]["$defs"][part] for part in ("rule", "condition", "callName"))
