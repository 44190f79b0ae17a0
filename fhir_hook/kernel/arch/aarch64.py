"""aarch64: struct user_pt_regs of <asm/ptrace.h> (x0-x30, sp, pc, pstate), system call convention of syscall(2).

Take the saved registers at an event stop, never at a system call's stop: x7 carries the direction there
(Documentation/arch/arm64, tracehook_report_syscall). Written from the kernel's headers; only its pure parts are tested.
"""

from __future__ import annotations

from _struct import Struct

from fhir_hook.kernel.arch.layout import Layout

_REGISTERS = Struct("<34Q")
_RESULT = Struct("<q")
_X8, _PC, _PSTATE = 8, 32, 33
_MASK = 0xFFFFFFFFFFFFFFFF
# PSTATE.BTYPE: left over from an indirect branch it would fault at a `svc` that is no landing pad.
_BTYPE = 0b11 << 10


class Aarch64(Layout):
    MACHINE = "aarch64"
    AUDIT_ARCH = 0xC00000B7
    REGISTERS = 272
    INSTRUCTION = b"\x01\x00\x00\xd4"
    ALIGNMENT = 4
    CAPSET = 91
    MMAP = 222
    MUNMAP = 215
    PIDFD_OPEN = 434
    PIDFD_SEND_SIGNAL = 424
    PRCTL = 167
    PROCESS_VM_READV = 270
    PROCESS_VM_WRITEV = 271
    PTRACE = 117
    SECCOMP = 277
    TGKILL = 131

    def with_call(self, registers: bytes, gadget: int, number: int, arguments: tuple[int, ...]) -> bytes:
        fields = list(_REGISTERS.unpack(registers))
        for position, value in enumerate((*arguments, 0, 0, 0, 0, 0, 0)[:6]):
            fields[position] = value & _MASK
        fields[_X8] = number
        # A changed pc also tells the kernel not to restart the interrupted call (do_signal of arch/arm64).
        fields[_PC] = gadget
        fields[_PSTATE] &= ~_BTYPE
        return _REGISTERS.pack(*fields)

    def result(self, registers: bytes) -> int:
        return int(_RESULT.unpack_from(registers, 0)[0])
