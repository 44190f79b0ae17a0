"""Tightening a config.json: the meet of filter and capability sets, annotations, and what the gate compares."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.test_meet import sections
from fhir_hook.core import jsonio, oci_seccomp, tighten
from fhir_hook.core.capabilities import NAMES
from fhir_hook.core.spec import CAPABILITY_SETS, Spec, SpecError

Document = dict[str, Any]
CAPABILITIES = st.lists(st.sampled_from((*NAMES[:14], "CAP_SYS_ADMIN", "cap_kill", "CAP_99")), unique=True)
SETS = st.fixed_dictionaries({}, optional=dict.fromkeys(CAPABILITY_SETS, CAPABILITIES))


def profile(section: Document, keep: list[str] | None = None, **more: Any) -> Document:
    """A compiled profile, as far as tightening looks at it."""
    return {"seccomp": {"x86_64": section}, "capabilities": keep or [], **more}


ALLOWS = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [
        {"names": ["read", "write", "clone", "socket"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["mount", "ptrace"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
    ],
}
ENGINE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "syscalls": [
        {"names": ["read", "mount", "unshare"], "action": "SCMP_ACT_ALLOW"},
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}],
        },
    ],
}


def config(capabilities: Document | None = None, seccomp: Document | None = None, **more: Any) -> Document:
    process: Document = {"args": ["/x"], "user": {"uid": 1}, "vendor": [1, {"\ud800": None}]}
    if capabilities is not None:
        process["capabilities"] = capabilities
    document: Document = {
        "ociVersion": "1.0.2",
        "process": process,
        "linux": {"resources": {"x": 1}},
        "vendor": {"a": 1.5},
    }
    if seccomp is not None:
        document["linux"]["seccomp"] = seccomp
    return {**document, **more}


def tightened(document: Document, *profiles: Document, complain: bool = False) -> tuple[tighten.Tightened, Document]:
    spec = Spec(document)
    plan = tighten.tighten(spec, list(profiles), "x86_64", complain)
    return plan, tighten.apply(spec, plan)


@given(SETS, CAPABILITIES, CAPABILITIES)
@settings(deadline=None)
def test_each_of_the_five_sets_keeps_what_the_config_and_every_profile_have(
    sets: Document, keep: list[str], other: list[str]
) -> None:
    plan, result = tightened(config(sets), profile(ALLOWS, keep), profile(ALLOWS, other))
    for name in CAPABILITY_SETS:
        assert set(result["process"]["capabilities"][name]) == set(sets.get(name, ())) & set(keep) & set(other)
    asked = {capability for names in sets.values() for capability in names}
    assert set(plan.dropped) == asked - (set(keep) & set(other))


@pytest.mark.parametrize("given_flag", [None, False, True, "true"])
def test_no_new_privileges_is_on_whatever_was_asked(given_flag: Any) -> None:
    document = config()
    if given_flag is not None:
        document["process"]["noNewPrivileges"] = given_flag
    assert tightened(document, profile(ALLOWS))[1]["process"]["noNewPrivileges"] is True


def test_a_config_without_a_filter_gets_the_profiles_and_without_capabilities_five_empty_sets() -> None:
    result = tightened(config(), profile(ALLOWS, ["CAP_KILL"]))[1]
    assert result["process"]["capabilities"] == {name: [] for name in CAPABILITY_SETS}
    found = oci_seccomp.Meaning(result["linux"]["seccomp"])
    assert (found.answer("read", ()), found.answer("mount", ())) == (("SCMP_ACT_ALLOW", 0), ("SCMP_ACT_ERRNO", 1))
    assert found.answer("open", ()) == ("SCMP_ACT_ERRNO", 38)


def test_the_filter_is_what_engine_and_profile_both_allow_for_one_architecture() -> None:
    section = tightened(config(seccomp=ENGINE), profile(ALLOWS))[1]["linux"]["seccomp"]
    assert section["architectures"] == ["SCMP_ARCH_X86_64"]
    found = oci_seccomp.Meaning(section)
    allowed = [
        n
        for n in ("read", "write", "clone", "mount", "unshare", "socket")
        if found.answer(n, (0,))[0] == "SCMP_ACT_ALLOW"
    ]
    assert allowed == ["read", "clone"]
    assert found.answer("clone", (0x10000000,))[0] == "SCMP_ACT_ERRNO"


@pytest.mark.parametrize(
    ("key", "removed", "noticed"),
    [
        ("run.oci.seccomp_bpf_data", True, False),
        ("run.oci.seccomp.plugins", True, False),
        ("run.oci.seccomp_fail_unknown_syscall", True, False),
        ("run.oci.handler", True, False),
        ("run.oci.hooks.stdout", True, False),
        ("krun.ram_mib", True, False),
        ("module.wasm.image/variant", True, False),
        ("run.oci.systemd.subgroup", False, True),
        ("run.oci.keep_original_groups", False, False),
        ("io.container.manager", False, False),
        ("xrun.oci.handler", False, False),
    ],
)
def test_annotations_that_replace_the_filter_are_removed_and_others_of_the_family_noticed(
    key: str, removed: bool, noticed: bool
) -> None:
    plan, result = tightened(config(annotations={key: "x", "kept": "y"}), profile(ALLOWS))
    assert (plan.removed == [key], plan.noticed == [key]) == (removed, noticed)
    assert (key in result["annotations"]) is not removed
    assert result["annotations"]["kept"] == "y"


def test_attack_an_annotation_whose_value_is_no_text_is_removed_all_the_same() -> None:
    plan, result = tightened(config(annotations={"run.oci.handler": 1}), profile(ALLOWS))
    assert plan.removed == ["run.oci.handler"] and result["annotations"] == {}


def test_everything_the_plan_is_not_about_stays_and_the_given_document_is_not_changed() -> None:
    document = config({"bounding": ["CAP_KILL"]}, ENGINE, hooks={"poststop": [{"path": "/x"}]}, mounts=[{"a": 1}])
    before = copy.deepcopy(document)
    result = tightened(document, profile(ALLOWS))[1]
    assert document == before
    for changed in (result, document):
        changed["process"].pop("capabilities")
        changed["process"].pop("noNewPrivileges", None)
        changed["linux"].pop("seccomp")
    assert result == document


def test_complain_mode_denies_and_drops_nothing_that_the_engine_allows() -> None:
    asked = {name: ["CAP_KILL", "CAP_SYS_ADMIN"] for name in CAPABILITY_SETS}
    plan, result = tightened(config(asked, ENGINE), profile(ALLOWS, ["CAP_KILL"]), complain=True)
    assert result["process"]["capabilities"] == asked
    assert "noNewPrivileges" not in result["process"]
    assert plan.dropped == ["CAP_SYS_ADMIN"]
    section = result["linux"]["seccomp"]
    assert section["architectures"] == ENGINE["architectures"]
    engine, found = oci_seccomp.Meaning(ENGINE), oci_seccomp.Meaning(section)
    for name in ("read", "mount", "unshare", "clone", "open"):
        for args in ((0,), (0x10000000,)):
            passes = oci_seccomp.RANK[engine.answer(name, args)[0]] < 4
            assert (oci_seccomp.RANK[found.answer(name, args)[0]] < 4) == passes, name
    assert found.answer("read", ())[0] == "SCMP_ACT_ALLOW"
    assert found.answer("unshare", ())[0] == "SCMP_ACT_LOG"


@pytest.mark.parametrize("bad", [
    {},
    {"defaultAction": "SCMP_ACT_NICE"},
    {"defaultAction": None},
    {"defaultAction": ["SCMP_ACT_ALLOW"]},
    {"defaultAction": {}},
    {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {"a": 1}},
    {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [1]},
    {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 7},
    {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": "read", "action": "SCMP_ACT_ERRNO"}]},
    {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [1], "action": "SCMP_ACT_ERRNO"}]},
    {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"]}]},
    {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": "1"},
    {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": -1},
    *[
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": args}]}
        for args in ([1], {"a": 1}, [{"index": 6, "op": "SCMP_CMP_EQ"}], [{"index": -1, "op": "SCMP_CMP_EQ"}],
                     [{"index": 0, "op": "=="}], [{"index": 0, "op": []}], [{"index": "0", "op": "SCMP_CMP_EQ"}],
                     [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1.5}])
    ],
], ids=json.dumps)  # fmt: skip
def test_a_malformed_filter_is_an_error_and_no_other_exception(bad: Document) -> None:
    with pytest.raises(SpecError):
        tightened(config(seccomp=bad), profile(ALLOWS))
    with pytest.raises(SpecError):
        tighten.essence(config(seccomp=bad))


@given(sections(), sections(), SETS, CAPABILITIES)
@settings(max_examples=150, deadline=None)
def test_what_was_tightened_carries_the_plan_and_tightening_it_again_changes_nothing(
    engine: Document, own: Document, sets: Document, keep: list[str]
) -> None:
    one = profile(own, keep)
    result = tightened(config(sets, engine), one)[1]
    plan, again = tightened(result, one)
    assert tighten.carries(Spec(result), plan)
    assert jsonio.canonical(again) == jsonio.canonical(result)


LOOSER = {
    "another capability": lambda d: d["process"]["capabilities"]["ambient"].append("CAP_SYS_ADMIN"),
    "no_new_privs off": lambda d: d["process"].update(noNewPrivileges=False),
    "no_new_privs of another type": lambda d: d["process"].update(noNewPrivileges=1),
    "no_new_privs gone": lambda d: d["process"].pop("noNewPrivileges"),
    "no filter": lambda d: d["linux"].pop("seccomp"),
    "another default": lambda d: d["linux"]["seccomp"].update(defaultAction="SCMP_ACT_ALLOW"),
    "another errno": lambda d: d["linux"]["seccomp"].update(defaultErrnoRet=11),
    "another call": lambda d: d["linux"]["seccomp"]["syscalls"].append(
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW"}
    ),
    "a rule before the others": lambda d: d["linux"]["seccomp"]["syscalls"].insert(
        0, {"names": ["mount"], "action": "SCMP_ACT_LOG"}
    ),
    "another architecture": lambda d: d["linux"]["seccomp"]["architectures"].append("SCMP_ARCH_X86"),
    "no architectures": lambda d: d["linux"]["seccomp"].pop("architectures"),
    "an annotation that replaces the filter": lambda d: d.update(annotations={"run.oci.seccomp_bpf_data": "AAAA"}),
}


@pytest.mark.parametrize("how", LOOSER)
def test_a_config_that_is_looser_than_the_plan_in_any_way_does_not_carry_it_and_differs_for_the_gate(how: str) -> None:
    one = profile(ALLOWS, ["CAP_KILL"])
    result = tightened(config({name: ["CAP_KILL"] for name in CAPABILITY_SETS}, ENGINE), one)[1]
    looser = copy.deepcopy(result)
    LOOSER[how](looser)
    assert not tighten.carries(Spec(looser), tightened(looser, one)[0])
    assert tighten.essence(looser) != tighten.essence(result)


def test_a_config_never_carries_a_plan_of_complain_mode() -> None:
    plan, result = tightened(config(seccomp=ENGINE), profile(ALLOWS), complain=True)
    assert not tighten.carries(Spec(result), tightened(result, profile(ALLOWS), complain=True)[0])


def as_go_marshals(value: Any) -> Any:
    """runtime-spec's Go structs leave out what is empty, and write members in an order of their own."""
    if isinstance(value, dict):
        kept = {k: as_go_marshals(v) for k, v in sorted(value.items(), reverse=True)}
        return {
            k: v
            for k, v in kept.items()
            if k in ("value", "index", "path") or v not in (0, False, "", None) and v != [] and v != {}
        }
    return [as_go_marshals(v) for v in value] if isinstance(value, list) else value


@given(sections(), sections(), SETS)
@settings(max_examples=150, deadline=None)
def test_the_gate_sees_the_same_after_podman_has_written_the_config_with_gos_structures(
    engine: Document, own: Document, sets: Document
) -> None:
    result = tightened(config(sets, engine), profile(own, ["CAP_KILL", "CAP_CHOWN"]))[1]
    assert tighten.essence(as_go_marshals(result)) == tighten.essence(result)


def test_an_unknown_architecture_is_no_plan() -> None:
    with pytest.raises(KeyError):
        tighten.tighten(Spec(config()), [profile(ALLOWS)], "riscv64", False)
