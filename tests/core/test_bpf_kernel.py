"""The emulator against the kernel: the same programs, the same calls, the same answers."""

from __future__ import annotations

import platform
import signal

from hypothesis import given, settings
from hypothesis import strategies as st

from authoring.seccomp_child import answers
from authoring.seccomp_sections import ANY_OPERATOR, ARGUMENT, CALL, sections
from fhir_hook.authoring import libseccomp
from fhir_hook.core import bpf

MACHINE = platform.machine()
NR = {"x86_64": 110, "aarch64": 173}[MACHINE]  # getppid, which ignores its arguments
SIGSYS = -int(signal.SIGSYS)
RETURNS = st.sampled_from([bpf.RET_ALLOW, 0x50000, 0x50001, 0x50026, 0x50FFF, 0x5FFFF, 0x7FFC0000])


def expected(program: bpf.Program, args: list[int]) -> int:
    """The errno a caller sees; the kernel caps it at MAX_ERRNO, 4095."""
    action, data = bpf.decision(bpf.run(program, NR, bpf.ARCH[MACHINE], 0, args))
    return min(data, 4095) if action == "SCMP_ACT_ERRNO" else 0


@st.composite
def instructions(draw: st.DrawFn) -> bpf.Program:
    """A valid program that lets every call but getppid through and does anything with getppid's arguments."""
    length = draw(st.integers(1, 25))
    body: list[bpf.Instruction] = []
    for place in range(length):
        left = length - place  # instructions behind this one, the final RETs included
        word = draw(st.integers(0, 0xFFFFFFFF))
        kind = draw(st.sampled_from(["load", "alu", "jump", "ja", "ret", "move"]))
        if kind == "load":
            body.append((0x20, 0, 0, draw(st.sampled_from([0, 4, *range(16, 64, 4)]))))
        elif kind == "alu":
            code = draw(st.sampled_from(sorted(bpf.ALU)))
            body.append((code, 0, 0, word % 31 + 1 if code in (0x64, 0x74) else word | 1))
        elif kind == "jump":
            code = draw(st.sampled_from(sorted(bpf.JUMPS))) | draw(st.sampled_from([0, 8]))
            body.append((code, draw(st.integers(0, left)), draw(st.integers(0, left)), word))
        elif kind == "ja":
            body.append((0x05, 0, 0, draw(st.integers(0, left))))
        elif kind == "ret":
            body.append((0x06, 0, 0, draw(RETURNS)))
        else:
            body.append((draw(st.sampled_from([0x07, 0x87, 0x84, 0x80, 0x81, 0x00, 0x01])), 0, 0, word))
    tail = ((0x06, 0, 0, draw(RETURNS)), (0x06, 0, 0, draw(RETURNS)))
    head = ((0x20, 0, 0, 0), (0x15, 1, 0, NR), (0x06, 0, 0, bpf.RET_ALLOW))
    return (*head, *body, *tail)


@settings(max_examples=40)
@given(program=instructions(), calls=st.lists(st.lists(ARGUMENT, min_size=6, max_size=6), min_size=1, max_size=8))
def test_the_kernel_answers_as_the_emulator_does(program: bpf.Program, calls: list[list[int]]) -> None:
    bpf.check(program)
    got = answers(bpf.encode(program), [(NR, args) for args in calls])
    assert got == [expected(program, args) for args in calls]


@settings(max_examples=30)
@given(section=sections(operators=ANY_OPERATOR), calls=st.lists(st.lists(ARGUMENT, min_size=6, max_size=6), min_size=1))
def test_the_kernel_answers_what_libseccomp_compiled_as_the_emulator_does(
    section: dict[str, object], calls: list[list[int]]
) -> None:
    # Everything else must be allowed for the child to work, so the default is turned round.
    section = {**section, "defaultAction": "SCMP_ACT_ALLOW"}
    section.pop("defaultErrnoRet")
    section["syscalls"] = [
        {"names": [CALL], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": entry["args"]}
        for entry in section["syscalls"]  # type: ignore[attr-defined]
    ]
    data = libseccomp.compile_section(section, MACHINE)
    program = bpf.decode(data)
    assert answers(data, [(NR, args) for args in calls]) == [expected(program, args) for args in calls]


def test_a_program_the_emulator_refuses_is_refused_by_the_kernel() -> None:
    for program in (((0x20, 0, 0, 0),), ((0x05, 0, 0, 1), (0x06, 0, 0, 0)), ((0x94, 0, 0, 2), (0x06, 0, 0, 0))):
        try:
            answers(bpf.encode(program), [])
        except AssertionError as error:
            assert "errno 22" in str(error)
        else:
            raise AssertionError("the kernel took the program")


def test_killing_answers_end_the_process() -> None:
    for value in (0x00000000, 0x80000000, 0x12340000):
        program = ((0x20, 0, 0, 0), (0x15, 0, 1, NR), (0x06, 0, 0, value), (0x06, 0, 0, bpf.RET_ALLOW))
        assert answers(bpf.encode(program), [(NR, [0] * 6)]) == [SIGSYS]
