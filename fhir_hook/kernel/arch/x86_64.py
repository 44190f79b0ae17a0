"""x86_64: struct user_regs_struct of <sys/user.h>, system call convention of syscall(2)."""

from __future__ import annotations

from _struct import Struct

from fhir_hook.kernel.arch.layout import Layout

_REGISTERS = Struct("<27Q")
_RESULT = Struct("<q")
# Positions in user_regs_struct, in units of 8 bytes.
_R10, _R9, _R8, _RAX, _RDX, _RSI, _RDI, _ORIG_RAX, _RIP = 7, 8, 9, 10, 12, 13, 14, 15, 16
_ARGUMENTS = (_RDI, _RSI, _RDX, _R10, _R8, _R9)
_NO_CALL = 0xFFFFFFFFFFFFFFFF
_MASK = 0xFFFFFFFFFFFFFFFF


class X86_64(Layout):
    MACHINE = "x86_64"
    AUDIT_ARCH = 0xC000003E
    REGISTERS = 216
    INSTRUCTION = b"\x0f\x05"
    CAPSET = 126
    MMAP = 9
    MUNMAP = 11
    PIDFD_OPEN = 434
    PIDFD_SEND_SIGNAL = 424
    PRCTL = 157
    PROCESS_VM_READV = 310
    PROCESS_VM_WRITEV = 311
    PTRACE = 101
    SECCOMP = 317
    TGKILL = 234

    def with_call(self, registers: bytes, gadget: int, number: int, arguments: tuple[int, ...]) -> bytes:
        fields = list(_REGISTERS.unpack(registers))
        fields[_RAX] = number
        # Else the kernel takes rax for the result of an interrupted call and restarts that one.
        fields[_ORIG_RAX] = _NO_CALL
        fields[_RIP] = gadget
        for position, value in zip(_ARGUMENTS, (*arguments, 0, 0, 0, 0, 0, 0), strict=False):
            fields[position] = value & _MASK
        return _REGISTERS.pack(*fields)

    def result(self, registers: bytes) -> int:
        return int(_RESULT.unpack_from(registers, _RAX * 8)[0])
