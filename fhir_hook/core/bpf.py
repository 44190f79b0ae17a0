"""Classic BPF as seccomp runs it: decode, check, emulate, classify (Linux kernel/seccomp.c, net/core/filter.c).

A program is an array of struct sock_filter: 16-bit code, 8-bit jump offsets jt and jf, 32-bit k. It reads struct
seccomp_data (int nr; u32 arch; u64 instruction_pointer; u64 args[6]) in 32-bit words and returns a 32-bit value.
"""

from __future__ import annotations

from _struct import iter_unpack, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

Instruction = tuple[int, int, int, int]
Program = tuple[Instruction, ...]

MAX_LENGTH = 4096  # BPF_MAXINSNS
DATA_SIZE = 64  # sizeof(struct seccomp_data)
WORD = 0xFFFF_FFFF
ARCH = {"x86_64": 0xC000_003E, "x86": 0x4000_0003, "aarch64": 0xC000_00B7, "arm": 0x4000_0028}
X32_BIT = 0x4000_0000

ACTIONS = {
    0x8000_0000: "SCMP_ACT_KILL_PROCESS",
    0x0000_0000: "SCMP_ACT_KILL_THREAD",
    0x0003_0000: "SCMP_ACT_TRAP",
    0x0005_0000: "SCMP_ACT_ERRNO",
    0x7FC0_0000: "SCMP_ACT_NOTIFY",
    0x7FF0_0000: "SCMP_ACT_TRACE",
    0x7FFC_0000: "SCMP_ACT_LOG",
    0x7FFF_0000: "SCMP_ACT_ALLOW",
}
RET_ALLOW = 0x7FFF_0000

# seccomp_check_filter() knows these codes and no other.
LD_ABS, LD_LEN, LDX_LEN, LD_IMM, LDX_IMM, LD_MEM, LDX_MEM = 0x20, 0x80, 0x81, 0x00, 0x01, 0x60, 0x61
ST, STX, TAX, TXA, RET_K, RET_A, JA, NEG = 0x02, 0x03, 0x07, 0x87, 0x06, 0x16, 0x05, 0x84
AND_K = 0x54
ALU = {0x04: "+", 0x14: "-", 0x24: "*", 0x34: "/", 0x44: "|", AND_K: "&", 0x64: "<<", 0x74: ">>", 0xA4: "^"}
JEQ = 0x15
JUMPS = {JEQ: "==", 0x25: ">", 0x35: ">=", 0x45: "&"}
X_SOURCE = 0x08
MEMORY_WORDS = 16
SIMPLE = (LD_ABS, LD_LEN, LDX_LEN, LD_IMM, LDX_IMM, LD_MEM, LDX_MEM, ST, STX, TAX, TXA, RET_K, RET_A, JA, NEG)


class BpfError(ValueError):
    """The bytes are no program, or one that the kernel would refuse; str() says which instruction and why."""


def decode(data: bytes) -> Program:
    """Read an array of struct sock_filter in this machine's byte order; raises BpfError on a partial one."""
    if len(data) % 8:
        raise BpfError(f"{len(data)} bytes are no whole number of 8-byte instructions")
    return tuple(iter_unpack("=HBBI", data))


def encode(program: Program) -> bytes:
    """The bytes of a program, as the kernel takes them."""
    return b"".join(pack("=HBBI", *instruction) for instruction in program)


def check(program: Program) -> None:
    """Raise BpfError where the kernel answers EINVAL (bpf_check_classic() and seccomp_check_filter())."""
    if not 1 <= len(program) <= MAX_LENGTH:
        raise BpfError(f"{len(program)} instructions, not 1 to {MAX_LENGTH}")
    for pc, (code, jt, jf, k) in enumerate(program):
        left = len(program) - pc - 1
        base = code & ~X_SOURCE
        if code in (RET_K, RET_A, TAX, TXA, LD_LEN, LDX_LEN, LD_IMM, LDX_IMM, NEG):
            continue
        if code == LD_ABS:
            if k >= DATA_SIZE or k & 3:
                raise BpfError(f"instruction {pc} loads from offset {k}")
        elif code in (LD_MEM, LDX_MEM, ST, STX):
            if k >= MEMORY_WORDS:
                raise BpfError(f"instruction {pc} uses memory word {k}")
        elif code == JA:
            if k >= left:
                raise BpfError(f"instruction {pc} jumps out of the program")
        elif base in JUMPS:
            if jt >= left or jf >= left:
                raise BpfError(f"instruction {pc} jumps out of the program")
        elif base in ALU:
            _check_alu(pc, code, k)
        else:
            raise BpfError(f"instruction {pc} has code {code:#x}, which seccomp doesn't take")
    if program[-1][0] not in (RET_K, RET_A):
        raise BpfError("the last instruction is no RET")
    _check_memory(program)


def _check_alu(pc: int, code: int, k: int) -> None:
    if code == 0x34 and k == 0:
        raise BpfError(f"instruction {pc} divides by zero")
    if code in (0x64, 0x74) and k >= 32:
        raise BpfError(f"instruction {pc} shifts by {k}")


def _check_memory(program: Program) -> None:
    """A scratch word must be stored on every path before it is loaded (check_load_and_stores())."""
    every = (1 << MEMORY_WORDS) - 1
    masks = [every] * len(program)
    valid = 0
    for pc, (code, jt, jf, k) in enumerate(program):
        valid &= masks[pc]
        if code in (ST, STX):
            valid |= 1 << k
        elif code in (LD_MEM, LDX_MEM):
            if not valid & 1 << k:
                raise BpfError(f"instruction {pc} loads memory word {k} before it is stored")
        elif code == JA:
            masks[pc + 1 + k] &= valid
            valid = every
        elif code & ~X_SOURCE in JUMPS:
            masks[pc + 1 + jt] &= valid
            masks[pc + 1 + jf] &= valid
            valid = every


def _alu(code: int, a: int, operand: int) -> int | None:
    """The new accumulator; None for a division by zero, which ends the program with 0."""
    op = ALU[code & ~X_SOURCE]
    if op == "/":
        return a // operand if operand else None
    if op in ("<<", ">>"):
        operand &= 31
        return (a << operand if op == "<<" else a >> operand) & WORD
    results = {"+": a + operand, "-": a - operand, "*": a * operand, "|": a | operand, "&": a & operand}
    return results.get(op, a ^ operand) & WORD


def _taken(code: int, a: int, operand: int) -> bool:
    op = JUMPS[code & ~X_SOURCE]
    if op == "==":
        return a == operand
    if op == ">":
        return a > operand
    if op == ">=":
        return a >= operand
    return bool(a & operand)


def common_start(program: Program, nr: int, arch: int) -> int:
    """Where `run` may start for every call of this number: the first instruction that depends on anything else."""
    words = (nr & WORD, arch)
    a = pc = 0
    while True:
        code, jt, jf, k = program[pc]
        if code == LD_ABS and k >> 2 < len(words):
            a = words[k >> 2]
            pc += 1
        elif code == JA:
            pc += 1 + k
        elif code in JUMPS:
            pc += 1 + (jt if _taken(code, a, k) else jf)
        else:
            # What needs the accumulator as it is here can't be started at.
            return pc if code in (LD_ABS, RET_K) else 0


def run(program: Program, nr: int, arch: int, ip: int, args: Sequence[int], start: int = 0) -> int:
    """The 32-bit value the program returns for one call; `decision` reads it.

    arch: an AUDIT_ARCH value (`ARCH`); args: up to six unsigned 64-bit numbers. The program must pass `check`. `start`
    is 0, or what common_start says for nr and arch.
    """
    words = (nr & WORD, arch, ip & WORD, ip >> 32 & WORD, *_halves(args))
    a = x = 0
    pc = start
    memory = [0] * MEMORY_WORDS
    while True:
        code, jt, jf, k = program[pc]
        pc += 1
        if code == JEQ:
            pc += jt if a == k else jf
        elif code == LD_ABS:
            a = words[k >> 2]
        elif code == AND_K:
            a &= k
        elif code == RET_K:
            return k
        elif code == RET_A:
            return a
        elif code == JA:
            pc += k
        elif code & ~X_SOURCE in JUMPS:
            pc += jt if _taken(code, a, x if code & X_SOURCE else k) else jf
        elif code & ~X_SOURCE in ALU:
            result = _alu(code, a, x if code & X_SOURCE else k)
            if result is None:
                return 0
            a = result
        else:
            a, x = _move(code, k, a, x, memory)


def _move(code: int, k: int, a: int, x: int, memory: list[int]) -> tuple[int, int]:
    """Loads other than from the call's data, stores, transfers, NEG: the new (A, X)."""
    if code == LD_IMM:
        return k, x
    if code == LDX_IMM:
        return a, k
    if code == LD_LEN:
        return DATA_SIZE, x
    if code == LDX_LEN:
        return a, DATA_SIZE
    if code == LD_MEM:
        return memory[k], x
    if code == LDX_MEM:
        return a, memory[k]
    if code == TAX:
        return a, a
    if code == TXA:
        return x, x
    if code == NEG:
        return -a & WORD, x
    memory[k] = a if code == ST else x
    return a, x


def _halves(args: Sequence[int]) -> list[int]:
    words: list[int] = []
    for index in range(6):
        value = args[index] if index < len(args) else 0
        words += (value & WORD, value >> 32 & WORD)
    return words


def decision(value: int) -> tuple[str, int]:
    """(action, data) of a return value; data is the errno of SCMP_ACT_ERRNO. An unknown action kills the process."""
    name = ACTIONS.get(value & 0xFFFF_0000, "SCMP_ACT_KILL_PROCESS")
    return name, value & 0xFFFF if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP") else 0
