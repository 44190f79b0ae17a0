"""Semantic checks: each finding by its code, at its place, with a hint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from authoring.sandbox import Folder
from fhir_hook.authoring.checks import check_sources
from fhir_hook.authoring.finding import TITLES


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def arg(index: int, value: int = 0xFFFFFFFF, two: int = 0, op: str = "MASKED_EQ") -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": two, "op": f"SCMP_CMP_{op}"}


def allow(name: str, *args: dict[str, Any]) -> dict[str, Any]:
    return {"names": [name], "args": list(args)} if args else {"names": [name]}


def deny(name: str, errno: int = 1, *args: dict[str, Any]) -> dict[str, Any]:
    return {**allow(name, *args), "action": "SCMP_ACT_ERRNO", "errnoRet": errno}


def test_the_shipped_profiles_have_no_finding(folder: Folder) -> None:
    assert check_sources(folder.load()) == []


def test_an_unknown_call_gets_a_suggestion(folder: Folder) -> None:
    folder.rules(allow("opneat"))
    finding = folder.only("P201")
    assert finding.pointer == "/seccomp/syscalls/0/names/0" and "openat" in finding.hint


def test_a_call_of_the_other_architecture_is_no_unknown_call(folder: Folder) -> None:
    folder.rules(allow("rename"), allow("renameat"))
    assert folder.findings() == []


def test_a_call_that_its_architectures_do_not_have_is_a_warning(folder: Folder) -> None:
    folder.rules({"names": ["rename"], "arches": ["aarch64"]})
    assert folder.only("P205").severity == "warning"


def test_a_missing_group_gets_a_suggestion(folder: Folder) -> None:
    folder.profile(seccomp={"include": ["process", "theads"]})
    finding = folder.only("P202")
    assert finding.pointer == "/seccomp/include/1" and "threads" in finding.hint


def test_a_missing_base_set_is_an_error(folder: Folder) -> None:
    (folder.shipped / "groups" / "runtime-crun.json").unlink()
    assert "runtime-crun" in folder.only("P202").message


def test_an_unknown_capability_gets_a_suggestion(folder: Folder) -> None:
    folder.profile(capabilities={"keep": ["CAP_CHOWN", "CAP_NET_BIND_SERVCE"]})
    finding = folder.only("P203")
    assert finding.pointer == "/capabilities/keep/1" and "CAP_NET_BIND_SERVICE" in finding.hint


def test_an_argument_index_twice_in_a_rule_is_an_error(folder: Folder) -> None:
    folder.rules(allow("socket", arg(0, two=2), arg(0, two=10)))
    finding = folder.only("P301")
    assert finding.pointer == "/seccomp/syscalls/0/args/1/index" and finding.severity == "error"


def test_allowed_and_denied_in_one_document_contradict(folder: Folder) -> None:
    folder.rules(allow("mount"), deny("mount"))
    assert folder.only("P302").pointer == "/seccomp/syscalls/1"


def test_two_errnos_for_one_call_contradict(folder: Folder) -> None:
    folder.rules(deny("mount", 1), deny("mount", 38))
    assert folder.only("P302").severity == "error"


def test_a_condition_beside_an_unconditional_rule_has_no_effect(folder: Folder) -> None:
    folder.rules(allow("personality"), allow("personality", arg(0)))
    assert folder.only("P303").severity == "warning"


def test_a_condition_on_what_a_group_allows_has_no_effect(folder: Folder) -> None:
    folder.rules(allow("madvise", arg(2, two=4)))
    assert "process" in folder.only("P303").message


def test_value_bits_outside_the_mask_are_a_warning(folder: Folder) -> None:
    folder.rules(allow("personality", arg(0, 0xF, 0x1F)))
    assert folder.only("P303").pointer.endswith("/args/0/valueTwo")


def test_overlapping_rules_with_different_actions_are_an_error(folder: Folder) -> None:
    folder.rules(allow("socket", arg(0, two=2)), deny("socket", 1, arg(1, 0xF, 3)))
    assert folder.only("P304").severity == "error"


def test_disjoint_rules_with_different_actions_are_fine(folder: Folder) -> None:
    folder.rules(allow("socket", arg(0, two=2)), deny("socket", 97, arg(0, two=17)))
    assert folder.findings() == []


def test_ranges_beside_other_rules_are_an_error(folder: Folder) -> None:
    folder.rules(allow("mlock", arg(1, 4096, op="LT")), allow("mlock", arg(0, 5, op="EQ")))
    assert folder.only("P305").severity == "error"


def test_a_32_bit_argument_without_a_mask_is_a_warning(folder: Folder) -> None:
    folder.rules(allow("personality", arg(0, 8, op="EQ")))
    assert folder.only("P306").severity == "warning"


def test_clone3_beside_filtered_clone_is_an_error(folder: Folder) -> None:
    folder.rules(allow("clone3"), include=("process", "threads"))
    assert folder.only("P307").severity == "error"


def test_an_errno_on_allow_is_an_error(folder: Folder) -> None:
    folder.rules({"names": ["mlock"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1})
    assert folder.only("P308").pointer == "/seccomp/syscalls/0/errnoRet"


def test_allowing_what_a_group_allows_is_a_warning(folder: Folder) -> None:
    folder.rules(allow("mmap"))
    assert folder.only("P309").severity == "warning"


def test_two_generic_profiles_for_one_kind_are_an_error(folder: Folder) -> None:
    folder.profile("my-jvm", generic=True, kind="jvm")
    assert folder.only("P401").file.endswith("my-jvm.json")


def test_a_generic_profile_needs_a_kind(folder: Folder) -> None:
    folder.profile(generic=True)
    assert folder.only("P402").pointer == "/kind"


@pytest.mark.parametrize("pattern", ["*", "**", "?*"])
def test_a_pattern_that_matches_everything_is_a_warning(folder: Folder, pattern: str) -> None:
    folder.profile(match=[{"labels": {"org.opencontainers.image.title": {"pattern": pattern}}}])
    assert folder.only("P403").pointer == "/match/0/labels/org.opencontainers.image.title/pattern"


def test_a_local_group_that_nobody_includes_is_a_warning(folder: Folder) -> None:
    folder.group("spare", [allow("mlock")])
    assert folder.only("P404").severity == "warning"


def test_a_base_set_included_by_hand_is_a_warning(folder: Folder) -> None:
    folder.profile(seccomp={"include": ["process", "runtime-runc"]})
    assert folder.only("P405").severity == "warning"


def test_every_code_has_a_title() -> None:
    assert all(code.startswith("P") and title for code, title in TITLES.items())
