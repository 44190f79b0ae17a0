"""ceiling.py and lint.py: what is said about which profile, and that all that ships is below the ceiling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from authoring.sandbox import SHIPPED, Folder
from fhir_hook.authoring import expand
from fhir_hook.authoring.finding import ERROR, Finding
from fhir_hook.authoring.source import Sources
from fhir_hook.review import ceiling, codes, evidence, kernel_data, lint
from fhir_hook.review.subject import of_profile
from review.support import WORD, allow, args, finder, run, subject

BASE = ("process", "files-read", "files-write", "threads", "fall-backs")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def findings(sources: Sources, name: str = "mine") -> list[Finding]:
    linter = lint.Linter(sources, SHIPPED, evidence.load(SHIPPED))
    return linter.profile(sources.profiles[name])


def found(folder: Folder, *rules: dict[str, Any], include: tuple[str, ...] = BASE, **members: Any) -> list[str]:
    folder.profile(seccomp={"include": list(include), "syscalls": list(rules)}, **members)
    return [finding.code for finding in findings(folder.load())]


def test_everything_shipped_is_below_the_ceiling_on_both_architectures() -> None:
    assert ceiling.refusals(finder().sources, SHIPPED) == []


def test_the_ceiling_names_only_calls_that_exist_and_gives_each_a_reason() -> None:
    known = set().union(*expand.NUMBERS.values()) | {"vm86", "vm86old", "stime"}
    for entry in kernel_data.load(SHIPPED, "ceiling")["calls"]:
        assert set(entry["calls"]) <= known and entry["reason"] and entry["severity"] in ("error", "warning")


FORBIDDEN = (  # noqa: SIM905 - a list would be 19 lines
    "ptrace mount unshare setns bpf perf_event_open userfaultfd kexec_load init_module keyctl add_key request_key "
    "io_uring_setup open_by_handle_at process_vm_readv pidfd_getfd clone3 pivot_root reboot"
).split()


@pytest.mark.parametrize("call", FORBIDDEN)
def test_attack_a_call_above_the_ceiling_is_an_error_whoever_allows_it(folder: Folder, call: str) -> None:
    assert "P601" in found(folder, allow(call, reason="please"))


@pytest.mark.parametrize(
    ("call", "condition"),
    [
        ("socket", (0, "MASKED_EQ", WORD, 17)),
        ("socket", (0, "MASKED_EQ", WORD, 38)),
        ("socket", (0, "MASKED_EQ", WORD, 16)),  # every netlink protocol
        ("socket", (0, "MASKED_EQ", WORD, 2)),  # SOCK_RAW and SOCK_PACKET among its types
        ("socket", (0, "GT", 40)),
        ("socket", (0, "NE", 1)),
        ("socket", (0, "MASKED_EQ", 0xF, 1)),  # AF_UNIX, and AF_PACKET too
        ("clone", (0, "MASKED_EQ", 0x10000000, 0x10000000)),
        ("clone", (0, "MASKED_EQ", 0x6E020000, 0)),  # all namespaces but the user's
        ("ioctl", (1, "MASKED_EQ", WORD, 0x5412)),
        ("ioctl", (1, "LT", 0x5413)),
        ("personality", (0, "MASKED_EQ", WORD, 0x400000)),
        ("prctl", (0, "GE", 30)),
        ("socketpair", (0, "NE", 2)),
    ],
)
def test_attack_arguments_above_the_ceiling_are_found_in_whatever_form(
    folder: Folder, call: str, condition: tuple[Any, ...]
) -> None:
    assert "P601" in found(folder, allow(call, reason="please", args=args(condition)))


@pytest.mark.parametrize(
    ("call", "conditions"),
    [
        ("socket", ((0, "MASKED_EQ", WORD, 1),)),
        ("socket", ((0, "MASKED_EQ", WORD, 16), (2, "MASKED_EQ", WORD, 0))),
        ("socket", ((0, "EQ", 10), (1, "MASKED_EQ", 15, 1), (2, "EQ", 6))),
        ("clone", ((0, "MASKED_EQ", 0x7E020000, 0),)),
        ("personality", ((0, "EQ", 0xFFFFFFFF),)),
        ("ioctl", ((1, "MASKED_EQ", WORD, 0x5401),)),
    ],
)
def test_arguments_below_the_ceiling_are_fine(folder: Folder, call: str, conditions: tuple[Any, ...]) -> None:
    assert "P601" not in found(folder, allow(call, reason="fine", args=args(*conditions)))


def test_attack_a_group_of_the_administrators_does_not_hide_it(folder: Folder) -> None:
    folder.group("handy", [allow("ptrace")])
    assert "P601" in found(folder, include=(*BASE, "handy"))


@pytest.mark.parametrize(("capability", "code"), [("CAP_SYS_ADMIN", "P603"), ("CAP_CHOWN", "P604")])
def test_capabilities_are_under_the_ceiling_too(folder: Folder, capability: str, code: str) -> None:
    assert code in found(folder, capabilities={"keep": [capability]})
    assert not {"P603", "P604"} & set(found(folder, capabilities={"keep": ["CAP_NET_BIND_SERVICE"]}))


def test_new_privileges_are_an_error(folder: Folder) -> None:
    assert "P605" in found(folder, noNewPrivileges=False)


def test_a_policy_with_a_profile_above_the_ceiling_is_refused(folder: Folder) -> None:
    folder.profile(seccomp={"include": list(BASE), "syscalls": [allow("bpf", reason="x")]})
    refused = ceiling.refusals(folder.load(), SHIPPED)
    assert [finding.code for finding in refused] == ["P601"] and refused[0].severity == ERROR
    assert "bpf is allowed" in refused[0].message and refused[0].pointer == "/seccomp/syscalls/0"


def test_a_rule_that_groups_imply_under_its_conditions_has_no_effect(folder: Folder) -> None:
    narrower = allow("clone", reason="again", args=args((0, "MASKED_EQ", 0x7E02FFFF, 0x11)))
    assert "P701" in found(folder, narrower)
    assert "P701" in found(folder, {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "reason": "denied anyway"})
    assert "P701" not in found(folder, allow("getitimer", reason="needed"))


def test_what_policy_check_says_is_not_said_again(folder: Folder) -> None:
    assert "P701" not in found(folder, allow("openat", reason="again"))


def test_a_group_inside_another_adds_nothing(folder: Folder) -> None:
    folder.group("less", [allow("openat", "read")])
    assert "P702" in found(folder, include=(*BASE, "less"))


def test_a_group_of_whose_calls_no_recording_saw_any_is_noted(folder: Folder) -> None:
    folder.group("odd", [allow("getitimer", "sync")])
    provenance = {"recordings": [{"server": "x", "recording": "hapi-plain-8.8.0"}]}
    assert "P703" in found(folder, include=(*BASE, "odd"), provenance=provenance)
    assert "P703" not in found(folder, include=(*BASE, "odd"))


def test_rules_that_spell_out_a_group_are_noted_with_its_name(folder: Folder) -> None:
    folder.group("pair", [allow("getitimer", "sync")])
    folder.profile(seccomp={"include": list(BASE), "syscalls": [allow("getitimer", "sync", "alarm", reason="x")]})
    said = [finding for finding in findings(folder.load()) if finding.code == "P704"]
    assert len(said) == 1 and "pair" in said[0].message


def test_a_rule_without_a_reason_and_a_profile_without_provenance_are_warned_of(folder: Folder) -> None:
    assert {"P705", "P707"} <= set(found(folder, allow("getitimer")))
    full = {"recordings": [{"server": "x", "recording": "hapi-plain-8.8.0"}]}
    assert not {"P705", "P707", "P708"} & set(found(folder, allow("getitimer", reason="x"), provenance=full))
    gone = {"recordings": [{"server": "x", "recording": "not-there"}]}
    assert "P708" in found(folder, provenance=gone)


def test_calls_that_nobody_saw_and_no_rule_explains_are_noted(folder: Folder) -> None:
    folder.group("bare", [allow("getitimer")])
    provenance = {"recordings": [{"server": "x", "recording": "hapi-plain-8.8.0"}]}
    assert "P706" in found(folder, include=(*BASE, "bare"), provenance=provenance)


def test_clone3_denied_with_anything_but_enosys_stops_threads() -> None:
    linter = lint.Linter(finder().sources, SHIPPED, evidence.load(SHIPPED))
    eperm = subject(allow("clone", args=args((0, "MASKED_EQ", 0x7E020000, 0))))
    assert "P709" in [finding.code for finding in linter.subject(eperm)]
    enosys = subject(
        allow("clone", args=args((0, "MASKED_EQ", 0x7E020000, 0))),
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    )
    assert "P709" not in [finding.code for finding in linter.subject(enosys)]


def test_a_newer_twin_denied_with_eperm_is_warned_of(folder: Folder) -> None:
    without = tuple(name for name in BASE if name != "fall-backs")
    assert "P710" in found(folder, include=without)
    assert "P710" not in found(folder)


def test_taking_away_what_the_runtimes_call_is_an_error(folder: Folder) -> None:
    folder.profile(seccomp={"include": list(BASE), "syscalls": [{"names": ["setgroups"], "action": "SCMP_ACT_ERRNO"}]})
    assert [f.severity for f in findings(folder.load()) if f.code == "P711"] == ["error"] * 2
    denial = {"names": ["setgroups"], "action": "SCMP_ACT_ERRNO", "reason": "root alone runs here"}
    folder.profile(seccomp={"include": list(BASE), "syscalls": [denial]})
    assert [f.severity for f in findings(folder.load()) if f.code == "P711"] == ["warning"] * 2


def test_the_engines_defaults_are_linted_as_filters() -> None:
    linter = lint.Linter(finder().sources, SHIPPED, evidence.load(SHIPPED))
    for name in ("docker", "podman"):
        listed = linter.subject(finder().find(name))
        assert {"P601", "P712"} <= {finding.code for finding in listed}
    packet = [f for f in linter.subject(finder().find("docker")) if "AF_PACKET" in f.message]
    assert len(packet) == 1


def test_every_code_has_a_title_and_every_finding_of_the_shipped_profiles_has_a_known_one() -> None:
    sources = finder().sources
    for name in sources.profiles:
        for finding in findings(sources, name):
            assert finding.code in codes.TITLES and finding.severity in codes.LEVELS


def test_lint_of_all_profiles_ends_well_and_json_says_the_same() -> None:
    done = run("lint", "--json")
    document = json.loads(done.stdout)
    assert [finding for finding in document["findings"] if finding["severity"] == "error"] == []
    assert document["ok"] is True and done.returncode == 0


def test_lint_exits_with_1_on_errors_and_with_3_on_what_is_not_there(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}))
    assert run("lint", bad).returncode == 1
    assert run("lint", "no-such-profile").returncode == 3
    assert run("lint", "no-such-profile").stderr.count("\n") == 1


def test_breaches_name_the_arguments(folder: Folder) -> None:
    folder.profile(seccomp={"include": list(BASE), "syscalls": [allow("socket", reason="x", args=args((0, "NE", 1)))]})
    sources = folder.load()
    texts = [b.text for b in ceiling.breaches(of_profile(sources, sources.profiles["mine"], "x86_64"), SHIPPED)]
    assert any("socket(AF_PACKET)" in text and "SOCK_RAW" in text for text in texts)
