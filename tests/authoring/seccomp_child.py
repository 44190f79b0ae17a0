"""Run system calls under a filter in a child process and report what the kernel answered.

`answers(program, calls)` starts this file as a script of its own, which loads the filter (seccomp(2) through prctl) and
makes the calls: filters can't be removed, so the test process never loads one.
"""

from __future__ import annotations

import base64
import ctypes
import json
import mmap
import subprocess
import sys
from collections.abc import Sequence

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2

Call = tuple[int, Sequence[int]]


def answers(program: bytes, calls: Sequence[Call], how: str = "syscall") -> list[int]:
    """Errno of each call (0: it succeeded), all made by one process; -N as the last when signal N ended the process.

    how: "syscall", or "int80" for the i386 gate (numbers are then i386's, arguments are not passed).
    """
    order = {
        "program": base64.b64encode(program).decode(),
        "calls": [[nr, list(args)] for nr, args in calls],
        "how": how,
    }
    done = subprocess.run(
        [sys.executable, "-I", __file__],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = [int(line) for line in done.stdout.split()]
    if done.returncode < 0:
        return [*found, done.returncode]
    if done.returncode != 0 or len(found) != len(calls):
        raise AssertionError(f"the child failed ({done.returncode}): {done.stderr}")
    return found


class _Fprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _load(libc: ctypes.CDLL, program: bytes) -> None:
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = _Fprog(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(fprog), 0, 0
    ):
        raise SystemExit(f"the kernel refused the filter: errno {ctypes.get_errno()}")


def _gate() -> tuple[mmap.mmap, ctypes._FuncPointer]:
    """mov eax, edi; int 0x80; ret as a function; the first value keeps the memory alive."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\x53\x89\xf8\x31\xdb\xcd\x80\x5b\xc3")
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return code, ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(address)


def main() -> None:
    order = json.load(sys.stdin)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    keep, gate = _gate() if order["how"] == "int80" else (None, None)
    prepared = [(ctypes.c_long(nr), [ctypes.c_ulong(arg) for arg in args]) for nr, args in order["calls"]]
    _load(libc, base64.b64decode(order["program"]))
    for nr, args in prepared:
        ctypes.set_errno(0)
        if gate is not None:
            result = gate(nr.value)
            errno = -result if result < 0 else 0
        else:
            errno = ctypes.get_errno() if libc.syscall(nr, *args) == -1 else 0
        print(errno, flush=True)
    del keep


if __name__ == "__main__":
    main()
