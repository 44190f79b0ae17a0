"""The BPF emulator by itself: decoding, the kernel's validity rules, every kind of instruction."""

from __future__ import annotations

import pytest

from fhir_hook.core import bpf

ARCH = bpf.ARCH["x86_64"]
ALLOW = bpf.RET_ALLOW
LOAD_NR = (0x20, 0, 0, 0)


def test_decoding_and_encoding_are_inverse() -> None:
    program = (LOAD_NR, (0x15, 0, 1, 39), (0x06, 0, 0, ALLOW), (0x06, 0, 0, 0x50001))
    assert bpf.decode(bpf.encode(program)) == program


def test_a_partial_instruction_is_no_program() -> None:
    with pytest.raises(bpf.BpfError, match="8-byte"):
        bpf.decode(b"\0" * 12)


REFUSED = {
    "empty": (),
    "longer than 4096": (LOAD_NR,) * 4096 + ((0x06, 0, 0, 0),),
    "no RET at the end": (LOAD_NR,),
    "load behind seccomp_data": ((0x20, 0, 0, 64), (0x06, 0, 0, 0)),
    "unaligned load": ((0x20, 0, 0, 2), (0x06, 0, 0, 0)),
    "byte load": ((0x30, 0, 0, 0), (0x06, 0, 0, 0)),
    "jump out": ((0x05, 0, 0, 1), (0x06, 0, 0, 0)),
    "conditional jump out": ((0x15, 0, 1, 0), (0x06, 0, 0, 0)),
    "division by zero": ((0x34, 0, 0, 0), (0x06, 0, 0, 0)),
    "shift by 32": ((0x64, 0, 0, 32), (0x06, 0, 0, 0)),
    "modulo": ((0x94, 0, 0, 2), (0x06, 0, 0, 0)),
    "scratch word 16": ((0x02, 0, 0, 16), (0x06, 0, 0, 0)),
    "scratch word read before it is stored": ((0x60, 0, 0, 3), (0x06, 0, 0, 0)),
    "scratch word stored on one path only": (
        (0x15, 0, 1, 0),
        (0x02, 0, 0, 3),
        (0x60, 0, 0, 3),
        (0x06, 0, 0, 0),
    ),
}


@pytest.mark.parametrize("program", REFUSED.values(), ids=REFUSED.keys())
def test_a_program_that_the_kernel_refuses_is_refused(program: bpf.Program) -> None:
    with pytest.raises(bpf.BpfError):
        bpf.check(program)


@pytest.mark.parametrize(
    ("code", "k", "expected"),
    [
        (0x04, 2, 12),
        (0x14, 11, 0xFFFFFFFF),
        (0x24, 0x40000000, 0x80000000),
        (0x34, 3, 3),
        (0x44, 5, 15),
        (0x54, 6, 2),
        (0xA4, 3, 9),
        (0x64, 30, 0x80000000),
        (0x74, 1, 5),
        (0x84, 0, 0xFFFFFFF6),
    ],
)
def test_arithmetic_is_unsigned_32_bit(code: int, k: int, expected: int) -> None:
    program = ((0x00, 0, 0, 10), (code, 0, 0, k), (0x16, 0, 0, 0))
    bpf.check(program)
    assert bpf.run(program, 0, ARCH, 0, ()) == expected


def test_division_by_a_zero_in_x_ends_the_program_with_0() -> None:
    program = ((0x01, 0, 0, 0), (0x00, 0, 0, 7), (0x3C, 0, 0, 0), (0x06, 0, 0, ALLOW))
    bpf.check(program)
    assert bpf.run(program, 0, ARCH, 0, ()) == 0


def test_scratch_memory_and_x_carry_values() -> None:
    program = (
        (0x00, 0, 0, 40),
        (0x02, 0, 0, 2),
        (0x61, 0, 0, 2),
        (0x00, 0, 0, 2),
        (0x0C, 0, 0, 0),
        (0x07, 0, 0, 0),
        (0x87, 0, 0, 0),
        (0x16, 0, 0, 0),
    )
    bpf.check(program)
    assert bpf.run(program, 0, ARCH, 0, ()) == 42


def test_arguments_are_read_as_two_little_endian_halves() -> None:
    low, high = ((0x20, 0, 0, 24), (0x16, 0, 0, 0)), ((0x20, 0, 0, 28), (0x16, 0, 0, 0))
    args = (0, 0x11223344_55667788)
    assert bpf.run(low, 0, ARCH, 0, args) == 0x55667788
    assert bpf.run(high, 0, ARCH, 0, args) == 0x11223344


def test_number_abi_and_instruction_pointer_are_read() -> None:
    for offset, expected in ((0, 39), (4, ARCH), (8, 0x1000), (12, 7)):
        assert bpf.run(((0x20, 0, 0, offset), (0x16, 0, 0, 0)), 39, ARCH, 7 << 32 | 0x1000, ()) == expected


def test_return_values_have_names() -> None:
    assert bpf.decision(0x00050026) == ("SCMP_ACT_ERRNO", 38)
    assert bpf.decision(0x7FFF0000) == ("SCMP_ACT_ALLOW", 0)
    assert bpf.decision(0) == ("SCMP_ACT_KILL_THREAD", 0)
    assert bpf.decision(0x80000000) == ("SCMP_ACT_KILL_PROCESS", 0)


def test_an_unknown_action_kills_the_process_as_in_the_kernel() -> None:
    assert bpf.decision(0x12340000) == ("SCMP_ACT_KILL_PROCESS", 0)


@pytest.mark.parametrize(
    "program",
    [
        ((0x20, 0, 0, 0), (0x15, 0, 2, 7), (0x20, 0, 0, 16), (0x16, 0, 0, 0), (0x06, 0, 0, ALLOW)),
        ((0x20, 0, 0, 4), (0x15, 0, 1, ARCH), (0x05, 0, 0, 1), (0x06, 0, 0, 0), (0x20, 0, 0, 24), (0x16, 0, 0, 0)),
        ((0x20, 0, 0, 0), (0x54, 0, 0, 3), (0x16, 0, 0, 0)),
        ((0x20, 0, 0, 0), (0x07, 0, 0, 0), (0x20, 0, 0, 16), (0x1D, 0, 1, 0), (0x06, 0, 0, 1), (0x06, 0, 0, 2)),
        ((0x06, 0, 0, 9),),
    ],
)
def test_a_run_from_the_common_start_of_a_number_answers_as_one_from_the_first_instruction(
    program: bpf.Program,
) -> None:
    bpf.check(program)
    for nr in (0, 7, 8):
        for arch in (ARCH, 0):
            start = bpf.common_start(program, nr, arch)
            for args in ((), (7,), (0, 7)):
                assert bpf.run(program, nr, arch, 0, args, start) == bpf.run(program, nr, arch, 0, args)
