"""The meaning of linux.seccomp: each rule of runc and crun, and agreement with libseccomp itself."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from authoring.seccomp_sections import ANY_OPERATOR, ARGUMENT, CALL, sections
from fhir_hook.authoring import libseccomp
from fhir_hook.core import bpf, oci_seccomp
from fhir_hook.core.oci_seccomp import Meaning, evaluate

ALLOWED, EPERM, ENOSYS = ("SCMP_ACT_ALLOW", 0), ("SCMP_ACT_ERRNO", 1), ("SCMP_ACT_ERRNO", 38)
HIGH = 1 << 63


def section(*rules: dict[str, Any], default: str = "SCMP_ACT_ERRNO", errno: int | None = 38) -> dict[str, Any]:
    found: dict[str, Any] = {"defaultAction": default, "syscalls": list(rules)}
    if errno is not None:
        found["defaultErrnoRet"] = errno
    return found


def rule(action: str = "SCMP_ACT_ALLOW", errno: int | None = None, *args: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"names": [CALL], "action": action}
    if errno is not None:
        found["errnoRet"] = errno
    if args:
        found["args"] = list(args)
    return found


def arg(index: int, op: str, value: int, two: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": two}


def test_a_call_without_a_rule_gets_the_default() -> None:
    assert evaluate(section(), "x86_64", "mount", ()) == ENOSYS


def test_errno_is_eperm_when_it_is_left_out() -> None:
    assert evaluate(section(errno=None), "x86_64", CALL, ()) == EPERM
    assert evaluate(section(rule("SCMP_ACT_ERRNO")), "x86_64", CALL, ()) == EPERM


def test_kill_is_kill_thread() -> None:
    assert evaluate(section(rule("SCMP_ACT_KILL")), "x86_64", CALL, ()) == ("SCMP_ACT_KILL_THREAD", 0)


@pytest.mark.parametrize(
    ("op", "value", "two", "true", "false"),
    [
        ("EQ", 5, 0, 5, HIGH | 5),
        ("NE", 5, 0, 6, 5),
        ("LT", 5, 0, 4, HIGH),
        ("LE", 5, 0, 5, 6),
        ("GE", HIGH, 0, HIGH, HIGH - 1),
        ("GT", 5, 0, HIGH, 5),
        ("MASKED_EQ", 0xF, 3, 0xF3, 0xF4),
        ("MASKED_EQ", 0xF, 0xF3, 3, 4),
    ],
)
def test_operators_compare_unsigned_64_bit(op: str, value: int, two: int, true: int, false: int) -> None:
    rules = section(rule("SCMP_ACT_ALLOW", None, arg(1, op, value, two)))
    assert evaluate(rules, "x86_64", CALL, (0, true)) == ALLOWED
    assert evaluate(rules, "x86_64", CALL, (0, false)) == ENOSYS


def test_conditions_on_different_arguments_are_anded() -> None:
    rules = section(rule("SCMP_ACT_ALLOW", None, arg(0, "EQ", 1), arg(1, "EQ", 2)))
    assert evaluate(rules, "x86_64", CALL, (1, 2)) == ALLOWED
    assert evaluate(rules, "x86_64", CALL, (1, 3)) == ENOSYS


def test_an_index_twice_makes_every_condition_of_the_rule_a_rule_of_its_own() -> None:
    rules = section(rule("SCMP_ACT_ALLOW", None, arg(0, "EQ", 1), arg(0, "EQ", 2), arg(1, "EQ", 9)))
    assert [evaluate(rules, "x86_64", CALL, args) for args in ((1, 0), (2, 0), (7, 9), (7, 0))] == [
        ALLOWED,
        ALLOWED,
        ALLOWED,
        ENOSYS,
    ]


def test_a_rule_that_equals_the_default_is_dropped_even_when_it_would_have_replaced_another() -> None:
    rules = section(rule("SCMP_ACT_ALLOW", None, arg(0, "EQ", 1)), rule("SCMP_ACT_ERRNO", 38))
    assert evaluate(rules, "x86_64", CALL, (1,)) == ALLOWED
    assert evaluate(rules, "x86_64", CALL, (2,)) == ENOSYS


def test_an_unconditional_rule_replaces_conditional_ones_wherever_it_stands() -> None:
    conditional = rule("SCMP_ACT_ALLOW", None, arg(0, "EQ", 1))
    for rules in (section(conditional, rule("SCMP_ACT_ERRNO", 1)), section(rule("SCMP_ACT_ERRNO", 1), conditional)):
        assert evaluate(rules, "x86_64", CALL, (1,)) == EPERM
        assert compiled(rules, (1,)) == EPERM


def test_the_first_unconditional_rule_wins() -> None:
    rules = section(rule(), rule("SCMP_ACT_ERRNO", 1))
    assert evaluate(rules, "x86_64", CALL, ()) == ALLOWED == compiled(rules, ())


def test_contradicting_conditions_give_the_strictest_answer_and_are_ambiguous() -> None:
    rules = section(rule("SCMP_ACT_ALLOW", None, arg(0, "EQ", 1)), rule("SCMP_ACT_KILL_PROCESS", None, arg(1, "EQ", 1)))
    meaning = Meaning(rules)
    assert meaning.answer(CALL, (1, 1)) == ("SCMP_ACT_KILL_PROCESS", 0)
    assert meaning.ambiguous(CALL, (1, 1)) and not meaning.ambiguous(CALL, (1, 2))
    assert not meaning.exact(CALL)


def test_a_foreign_abi_is_killed_unless_the_section_names_it() -> None:
    rules = section(rule())
    assert evaluate(rules, "x86", CALL, (), native="x86_64") == ("SCMP_ACT_KILL_THREAD", 0)
    rules["architectures"] = ["SCMP_ARCH_X86"]
    assert evaluate(rules, "x86", CALL, (), native="x86_64") == ALLOWED
    assert evaluate(rules, "x86_64", CALL, ()) == ALLOWED


def test_strictness_is_ordered_as_in_the_kernel() -> None:
    order = sorted(oci_seccomp.RANK, key=lambda name: oci_seccomp.RANK[name], reverse=True)
    values = {name: value for value, name in bpf.ACTIONS.items()}
    signed = [values[name] - (1 << 32) if values[name] >> 31 else values[name] for name in order]
    assert signed == sorted(signed)
    assert oci_seccomp.stricter(ALLOWED, EPERM) == EPERM and oci_seccomp.stricter(EPERM, ENOSYS) == EPERM


@pytest.mark.parametrize(
    "bad",
    [
        {"defaultAction": "SCMP_ACT_NOTHING"},
        {"defaultAction": None},
        section(rule("ALLOW")),
        section(rule("SCMP_ACT_ALLOW", None, arg(6, "EQ", 0))),
        section(rule("SCMP_ACT_ALLOW", None, arg(0, "XX", 0))),
        section(rule("SCMP_ACT_ALLOW", None, arg(0, "EQ", -1))),
        section(rule("SCMP_ACT_ERRNO", -1)),
    ],
)
def test_a_section_that_runtimes_refuse_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Meaning(bad)


def test_complaining_denies_nothing_and_covers_the_other_abis() -> None:
    loose = oci_seccomp.complain(section(rule(), {"names": ["mount"], "action": "SCMP_ACT_ERRNO"}), "x86_64")
    assert evaluate(loose, "x86_64", CALL, ()) == ALLOWED
    assert evaluate(loose, "x86_64", "mount", ()) == ("SCMP_ACT_LOG", 0)
    assert evaluate(loose, "x86", "mount", (), native="x86_64") == ("SCMP_ACT_LOG", 0)


def test_the_module_loads_nothing_that_the_hot_path_must_not_load() -> None:
    banned = ("json", "re", "os", "typing", "dataclasses", "enum", "pathlib", "struct", "hashlib")
    code = (
        "import sys; sys.path.insert(0, '.'); import fhir_hook.core.oci_seccomp, fhir_hook.core.syscalls_x86_64;"
        f"print([name for name in {banned!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-ISc", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def compiled(rules: dict[str, Any], args: tuple[int, ...] | list[int]) -> tuple[str, int]:
    program = bpf.decode(libseccomp.compile_section(rules, "x86_64"))
    bpf.check(program)
    return bpf.decision(bpf.run(program, 110, bpf.ARCH["x86_64"], 0, args))


def vacuous_rule(entry: dict[str, Any]) -> bool:
    return all(oci_seccomp.vacuous(oci_seccomp.condition(cond)) for cond in entry["args"])


@settings(max_examples=150, deadline=None)
@given(rules=sections(actions=3), args=st.lists(ARGUMENT, min_size=3, max_size=3))
def test_libseccomp_agrees_on_exact_rules(rules: dict[str, Any], args: list[int]) -> None:
    meaning = Meaning(rules)
    # libseccomp may refuse, as a runtime then does, a rule without conditions beside one that contradicts it.
    assume(meaning.exact(CALL) and not (len(rules["syscalls"]) > 1 and any(map(vacuous_rule, rules["syscalls"]))))
    near = [condition["value"] for entry in rules["syscalls"] for condition in entry["args"]]
    for values in (args, [*near, 0, 0, 0][:3], [*(value + 1 for value in near), 0, 0, 0][:3]):
        assert compiled(rules, values) == meaning.answer(CALL, values)


@settings(max_examples=150, deadline=None)
@given(rules=sections(operators=ANY_OPERATOR, most_rules=1), args=st.lists(ARGUMENT, min_size=3, max_size=3))
def test_libseccomp_agrees_on_a_single_rule_with_any_operators(rules: dict[str, Any], args: list[int]) -> None:
    assert compiled(rules, args) == Meaning(rules).answer(CALL, args)


def test_libseccomp_is_looser_than_the_rules_when_ranges_stand_beside_each_other() -> None:
    """Why `exact` exists: should this fail one day, libseccomp was repaired and `exact` may become wider."""
    rules = section(
        rule("SCMP_ACT_ALLOW", None, arg(0, "NE", 0)),
        rule("SCMP_ACT_ALLOW", None, arg(0, "NE", 2), arg(2, "NE", 15)),
    )
    assert Meaning(rules).answer(CALL, (0, 15, 15)) == ENOSYS
    assert compiled(rules, (0, 15, 15)) == ALLOWED
    assert not Meaning(rules).exact(CALL)
