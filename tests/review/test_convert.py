"""exporting.py and importing.py: other tools' formats, there and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from authoring.sandbox import SHIPPED
from fhir_hook.authoring import expand, libseccomp, verify
from fhir_hook.core.oci_seccomp import Meaning
from fhir_hook.review import exporting, importing
from fhir_hook.review.difference import ANSWER, NEWER, ONLY_B, differences
from fhir_hook.review.subject import Subject, make, of_profile
from review.support import allow, args, finder, run, section, subject

SOURCES = finder().sources
PROFILES = sorted(SOURCES.profiles)


def written(tmp_path: Path, profile: str, kind: str, *options: str) -> Path:
    path = tmp_path / f"{profile}.{'yaml' if kind == 'spo' else 'json'}"
    done = run("export", profile, "--format", kind, "-o", path, *options)
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.parametrize("arch", expand.ARCHITECTURES)
@pytest.mark.parametrize("profile", PROFILES)
def test_an_exported_profile_means_the_same(profile: str, arch: str) -> None:
    source = SOURCES.profiles[profile]
    original = of_profile(SOURCES, source, arch)
    exported = make("exported", "oci", arch, exporting.oci(SOURCES, source, arch))
    assert differences(original, exported) == []


def test_oci_and_docker_files_mean_the_same_as_their_profile(tmp_path: Path) -> None:
    assert run("diff", written(tmp_path, "hapi", "oci"), "hapi").returncode == 0
    docker = written(tmp_path, "hapi", "docker")
    for arch in expand.ARCHITECTURES:
        assert run("diff", docker, "hapi", "--arch", arch).returncode == 0


def test_a_docker_document_has_no_rule_without_an_architecture(tmp_path: Path) -> None:
    document = json.loads(written(tmp_path, "hapi", "docker").read_text())
    assert {rule["includes"]["arches"][0] for rule in document["syscalls"]} == {"amd64", "arm64"}
    assert "architectures" not in document and document["defaultErrnoRet"] == 38


def test_an_spo_document_allows_the_same_and_only_its_default_errno_differs(tmp_path: Path) -> None:
    path = written(tmp_path, "hapi", "spo")
    document = yaml.safe_load(path.read_text())
    assert document["apiVersion"] == "security-profiles-operator.x-k8s.io/v1beta1"
    assert document["kind"] == "SeccompProfile" and document["metadata"]["name"] == "hapi"
    assert all(entry["action"].startswith("SCMP_ACT_") and entry["names"] for entry in document["spec"]["syscalls"])
    assert "clone3" in {n for e in document["spec"]["syscalls"] if e.get("errnoRet") == 38 for n in e["names"]}
    found = json.loads(run("diff", path, "hapi", "--json").stdout)["differences"]
    assert {entry["kind"] for entry in found} <= {ANSWER}
    assert NEWER in {entry["call"] for entry in found}
    later = yaml.safe_load(written(tmp_path, "hapi", "spo", "--api", "v1").read_text())
    assert later["apiVersion"].endswith("/v1")


def test_a_value_that_kubernetes_can_not_store_is_refused_in_one_line() -> None:
    mine = SOURCES.profiles["hapi"]
    big = allow("getitimer", args=args((0, "EQ", 1 << 63)))
    document = {**mine.document, "seccomp": {"include": ["process"], "syscalls": [big]}}
    with pytest.raises(exporting.ExportError, match="getitimer"):
        exporting.spo(SOURCES, type(mine)("mine", mine.path, document, True), "x86_64")


@pytest.mark.parametrize("profile", PROFILES)
def test_importing_an_export_gives_the_same_meaning_back(profile: str) -> None:
    source = SOURCES.profiles[profile]
    meanings = {arch: Meaning(exporting.oci(SOURCES, source, arch)) for arch in expand.ARCHITECTURES}
    document = importing.propose(meanings, SOURCES, "back", "a test").document
    back = type(source)("back", Path("back.json"), document, True)
    for arch in expand.ARCHITECTURES:
        one = make("before", "oci", arch, exporting.oci(SOURCES, source, arch))
        two = make("after", "oci", arch, exporting.oci(SOURCES, back, arch))
        for entry in differences(one, two):
            assert entry.call in BASES and entry.kind == ONLY_B, (arch, entry, document["seccomp"])
    assert document["seccomp"]["include"]


def imported(*rules: dict[str, Any], **members: Any) -> tuple[dict[str, Any], tuple[str, ...], Subject]:
    """The proposal, its notes, and what it means."""
    proposal = importing.propose({"x86_64": Meaning(section(*rules, **members))}, SOURCES, "mine", "a test")
    source = type(SOURCES.profiles["hapi"])("mine", Path("mine.json"), proposal.document, True)
    filter_ = make("imported", "oci", "x86_64", exporting.oci(SOURCES, source, "x86_64"))
    return proposal.document, proposal.notes, filter_


BASES = {
    name
    for base in ("runtime-runc", "runtime-crun")
    for rule in SOURCES.groups[base].document["syscalls"]
    for name in rule["names"]
}


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_an_imported_engines_default_is_never_looser_but_for_the_runtimes_calls(name: str) -> None:
    original = finder().find(name)
    proposal = importing.propose({"x86_64": original.meaning}, SOURCES, "mine", name)
    source = type(SOURCES.profiles["hapi"])("mine", Path("mine.json"), proposal.document, True)
    section_ = exporting.oci(SOURCES, source, "x86_64")
    mine = make("imported", "oci", "x86_64", section_)
    for entry in differences(original, mine):
        assert (entry.kind != ONLY_B and not entry.only_b) or entry.call in BASES, entry
    assert verify.differences(section_, "x86_64", libseccomp.compile_section(section_, "x86_64")) == []


def test_ranges_become_blocks_of_the_values_there_are() -> None:
    document, notes, filter_ = imported(
        *(allow("socket", args=args((0, *condition))) for condition in (("LT", 38), ("EQ", 39), ("GT", 40)))
    )
    assert any("blocks" in note for note in notes)
    families = {f for f in range(64) if filter_.meaning.answer("socket", (f, 1, 0))[0] == "SCMP_ACT_ALLOW"}
    assert families == set(range(64)) - {38, 40}
    assert filter_.meaning.answer("socket", (38 | 1 << 32, 1, 0))[0] != "SCMP_ACT_ALLOW"


def test_attack_what_can_not_be_expressed_is_left_out_and_said_never_widened() -> None:
    _, notes, filter_ = imported(allow("setsockopt", args=args((1, "NE", 6), (2, "NE", 31))))
    assert any("setsockopt" in note for note in notes)
    assert filter_.meaning.answer("setsockopt", (3, 6, 31))[0] != "SCMP_ACT_ALLOW"


def test_a_list_of_denials_becomes_a_list_of_what_is_left() -> None:
    _, notes, filter_ = imported({"names": ["mount", "ptrace"], "action": "SCMP_ACT_ERRNO"}, default="SCMP_ACT_ALLOW")
    assert "mount" not in filter_.allowed() and "getitimer" in filter_.allowed()
    assert any("does not name" in note for note in notes)


def test_killing_and_supervising_become_denials_and_are_said() -> None:
    supervised = {"names": ["bpf"], "action": "SCMP_ACT_NOTIFY"}
    _, notes, filter_ = imported(allow("read"), supervised, default="SCMP_ACT_KILL")
    assert "bpf" not in filter_.allowed()
    assert any("SCMP_ACT_NOTIFY" in note for note in notes) and any("SCMP_ACT_KILL" in note for note in notes)


def test_groups_are_chosen_only_where_the_document_holds_them_whole() -> None:
    document, _, _ = imported(allow("read", "write"))
    assert document["seccomp"]["include"] == []
    assert subject(allow("read")).allowed() == {"read"}


def test_the_command_writes_a_proposal_in_complain_mode(tmp_path: Path) -> None:
    source = written(tmp_path, "hapi", "oci")
    target = tmp_path / "mine.json"
    done = run("import", source, "--name", "mine", "-o", target)
    assert done.returncode == 0 and "nothing is in force" in done.stdout
    document = json.loads(target.read_text())
    assert (document["name"], document["mode"], document["nameable"]) == ("mine", "complain", False)
    assert run("diff", target, "hapi").returncode == 0


def test_attack_a_name_that_is_a_path_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path, "hapi", "oci")
    for name in ("../../etc/cron.d/x", "a/b", "UPPER", "", "a" * 65, "x\n"):
        done = run("import", source, "--name", name, "-o", tmp_path / "out.json")
        assert done.returncode == 3 or (name == "" and done.returncode == 0), name
    assert sorted(path.name for path in tmp_path.iterdir()) in (["hapi.json", "out.json"], ["hapi.json"])


def test_the_shipped_copy_of_dockers_default_says_where_it_is_from() -> None:
    document = json.loads((SHIPPED / "kernel" / "docker-default.json").read_text())
    assert "moby/profiles/seccomp v" in document["source"] and set(document["seccomp"]) == set(expand.ARCHITECTURES)
