"""Register blocks of each architecture, as bytes."""

from __future__ import annotations

import struct

import pytest

from fhir_hook.kernel.arch.aarch64 import Aarch64
from fhir_hook.kernel.arch.layout import Layout
from fhir_hook.kernel.arch.x86_64 import X86_64

LAYOUTS = [X86_64(), Aarch64()]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.MACHINE)
def test_a_call_changes_only_the_registers_that_it_needs(layout: Layout) -> None:
    count = layout.REGISTERS // 8
    before = tuple(range(1000, 1000 + count))
    made = layout.with_call(struct.pack(f"<{count}Q", *before), 0x7FFF0000, 42, (1, 2, 3, 4, 5, 6))
    after = struct.unpack(f"<{count}Q", made)
    changed = {index for index in range(count) if before[index] != after[index]}
    expected = {7, 8, 9, 10, 12, 13, 14, 15, 16} if layout.MACHINE == "x86_64" else {0, 1, 2, 3, 4, 5, 8, 32}
    assert changed <= expected | {33}
    assert len(made) == layout.REGISTERS


def test_x86_64_passes_number_arguments_and_no_call_to_restart() -> None:
    after = struct.unpack("<27Q", X86_64().with_call(bytes(216), 0x1234, 317, (1, 2, 3, 4, 5, 6)))
    named = {"rax": 10, "rdi": 14, "rsi": 13, "rdx": 12, "r10": 7, "r8": 9, "r9": 8, "orig_rax": 15, "rip": 16}
    assert {name: after[at] for name, at in named.items()} == {
        "rax": 317, "rdi": 1, "rsi": 2, "rdx": 3, "r10": 4, "r8": 5, "r9": 6, "orig_rax": 2**64 - 1, "rip": 0x1234,
    }  # fmt: skip


def test_aarch64_passes_number_and_arguments_and_clears_btype() -> None:
    block = struct.pack("<34Q", *([0] * 33), 0x60000C00)
    after = struct.unpack("<34Q", Aarch64().with_call(block, 0x1234, 277, (1, 2, 3, 4, 5, 6)))
    assert after[:6] == (1, 2, 3, 4, 5, 6)
    assert (after[8], after[32], after[33]) == (277, 0x1234, 0x60000000)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.MACHINE)
def test_absent_arguments_are_zero_and_negative_ones_wrap(layout: Layout) -> None:
    ones = b"\xff" * layout.REGISTERS
    after = struct.unpack(f"<{layout.REGISTERS // 8}Q", layout.with_call(ones, 0, 0, (-1,)))
    first, second = (14, 13) if layout.MACHINE == "x86_64" else (0, 1)
    assert (after[first], after[second]) == (2**64 - 1, 0)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.MACHINE)
def test_results_are_signed(layout: Layout) -> None:
    at = 80 if layout.MACHINE == "x86_64" else 0
    block = bytearray(layout.REGISTERS)
    struct.pack_into("<q", block, at, -38)
    assert layout.result(bytes(block)) == -38


def test_the_gadget_is_found_where_the_architecture_can_execute_it() -> None:
    assert X86_64().gadget(b"\x90\x90\x90\x0f\x05\xc3") == 3
    assert X86_64().gadget(b"\x90\x90") is None
    svc = b"\x01\x00\x00\xd4"
    assert Aarch64().gadget(b"\x00\x00" + svc + b"\x00\x00" + svc) == 8
    assert Aarch64().gadget(b"\x00\x00" + svc) is None
