"""A program of a few instructions that makes one system call and ends: its denial must show before others are missed.

It is an ELF executable made here (elf(5)), without any library, so that it runs in every image.
"""

from __future__ import annotations

import struct

from fhir_hook.authoring.expand import NUMBERS
from fhir_hook.core.oci_seccomp import ALLOW, Meaning

PATH = "/fhir-hook-canary"
# Harmless with zeros as arguments, whether or not they are denied.
CALLS = ("keyctl", "add_key", "request_key", "bpf", "userfaultfd", "perf_event_open", "ptrace")
_BASE = 0x400000
_HEADERS = 64 + 56
_MACHINE = {"x86_64": 62, "aarch64": 183}


def choose(meaning: Meaning) -> str:
    """A call that the section denies whatever its arguments are; "" when it denies none of these."""
    for call in CALLS:
        if not any(rule.answer[0] == ALLOW for rule in meaning.rules.get(call, ())) and meaning.default[0] != ALLOW:
            return call
    return ""


def program(call: str, arch: str) -> bytes:
    """The executable that makes the call with zeros as arguments, then ends with exit code 0."""
    numbers = NUMBERS[arch]
    code = _CODE[arch](numbers[call], numbers["exit_group"])
    size = _HEADERS + len(code)
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, _MACHINE[arch], 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return ident + header + segment + code


def _x86_64(call: int, end: int) -> bytes:
    zeros = b"\x31\xff\x31\xf6\x31\xd2\x4d\x31\xd2\x4d\x31\xc0\x4d\x31\xc9"  # edi esi edx r10 r8 r9
    first, last = (b"\xb8" + struct.pack("<I", number) for number in (call, end))
    return zeros + first + b"\x0f\x05" + b"\x31\xff" + last + b"\x0f\x05"


def _aarch64(call: int, end: int) -> bytes:
    zeros = [0xD280_0000 | register for register in range(6)]
    calls = [0xD280_0008 | call << 5, 0xD400_0001, 0xD280_0000, 0xD280_0008 | end << 5, 0xD400_0001]
    return b"".join(struct.pack("<I", word) for word in [*zeros, *calls])


_CODE = {"x86_64": _x86_64, "aarch64": _aarch64}
