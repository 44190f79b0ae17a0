"""The symbolic walk: what a program answers to a call whatever its arguments are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from authoring.seccomp_sections import ARGUMENT, sections
from fhir_hook.authoring import libseccomp
from fhir_hook.core import bpf, bpf_classify

ARCH = bpf.ARCH["x86_64"]
SECTION = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 0xFFFFFFFF, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}],
        },
    ],
}


def test_calls_are_allowed_denied_or_filtered() -> None:
    program = bpf.decode(libseccomp.compile_section(SECTION, "x86_64"))
    verdicts = bpf_classify.classify(program, ARCH, (0, 165, 41, 400))
    assert [verdicts[nr].kind for nr in (0, 165, 41, 400)] == ["allowed", "denied", "filtered", "denied"]
    assert verdicts[165].answers == (("SCMP_ACT_ERRNO", 1),)
    assert verdicts[400].answers == (("SCMP_ACT_ERRNO", 38),)
    assert verdicts[41].answers == (("SCMP_ACT_ALLOW", 0), ("SCMP_ACT_ERRNO", 38))


def test_a_foreign_abi_is_denied_by_killing() -> None:
    program = bpf.decode(libseccomp.compile_section(SECTION, "x86_64"))
    (verdict,) = bpf_classify.classify(program, bpf.ARCH["x86"], [0]).values()
    assert verdict.kind == "denied" and verdict.answers == (("SCMP_ACT_KILL_THREAD", 0),)


def test_a_call_that_is_only_logged_is_logged() -> None:
    program = ((0x06, 0, 0, 0x7FFC0000),)
    assert bpf_classify.classify(program, ARCH, [0])[0].kind == "logged"


def test_an_impossible_branch_is_not_followed() -> None:
    masked_away = (
        (0x20, 0, 0, 16),
        (0x54, 0, 0, 0),
        (0x15, 0, 1, 0),
        (0x06, 0, 0, 0x50001),
        (0x06, 0, 0, bpf.RET_ALLOW),
    )
    assert bpf_classify.answers(masked_away, ARCH, 0) == {0x50001}
    same_twice = (
        (0x20, 0, 0, 16),
        (0x15, 0, 3, 5),
        (0x20, 0, 0, 16),
        (0x15, 1, 0, 6),
        (0x06, 0, 0, 0x50001),
        (0x06, 0, 0, bpf.RET_ALLOW),
    )
    assert bpf_classify.answers(same_twice, ARCH, 0) == {0x50001, bpf.RET_ALLOW}


@settings(max_examples=80)
@given(section=sections(), args=st.lists(ARGUMENT, min_size=6, max_size=6))
def test_no_answer_is_missed(section: dict[str, object], args: list[int]) -> None:
    program = bpf.decode(libseccomp.compile_section(section, "x86_64"))
    assert bpf.run(program, 39, ARCH, 0, args) in bpf_classify.answers(program, ARCH, 39)
