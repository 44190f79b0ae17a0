"""What one architecture's registers and system calls look like to a tracer."""

from __future__ import annotations


class Layout:
    """Base of the per-architecture classes: NT_PRSTATUS register blocks are bytes, as PTRACE_GETREGSET gives them."""

    MACHINE: str
    AUDIT_ARCH: int
    REGISTERS: int  # length of struct user_regs_struct in bytes; any other length is a task of another ABI
    INSTRUCTION: bytes  # the system call instruction

    # System call numbers.
    CAPSET: int
    MMAP: int
    MUNMAP: int
    PIDFD_OPEN: int
    PIDFD_SEND_SIGNAL: int
    PRCTL: int
    PROCESS_VM_READV: int
    PROCESS_VM_WRITEV: int
    PTRACE: int
    SECCOMP: int
    TGKILL: int

    ALIGNMENT = 1

    def with_call(self, registers: bytes, gadget: int, number: int, arguments: tuple[int, ...]) -> bytes:
        """Registers that make the call from the instruction at gadget when the task is resumed."""
        raise NotImplementedError

    def result(self, registers: bytes) -> int:
        """The signed result at a system call's exit stop."""
        raise NotImplementedError

    def gadget(self, image: bytes) -> int | None:
        """Offset of a system call instruction in an executable mapping's bytes."""
        at = image.find(self.INSTRUCTION)
        while at >= 0 and at % self.ALIGNMENT:
            at = image.find(self.INSTRUCTION, at + 1)
        return at if at >= 0 else None
