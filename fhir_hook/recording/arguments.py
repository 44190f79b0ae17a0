"""Calls whose arguments matter to a filter: which arguments, how they read, how the kernel leaves out known ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from fhir_hook.recording import names

U32 = 0xFFFF_FFFF
POINTER = 0  # of a pointer only matters whether it is there
NEW_NAMESPACES = 0x7E02_0000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
PROT_EXEC = 4
LONGEST_FILTER = 3900  # the kernel takes less than a page

Values = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Shape:
    """`looked_at`: the arguments that count, as (index, mask); `text`: what people read, from all six arguments.

    `filtered`: whether a profile can be made of the values (few, stable ones), so that a proposal conditions on them.
    """

    looked_at: tuple[tuple[int, int], ...]
    text: Callable[[Sequence[int]], str]
    filtered: bool = False


def _mapping(text: Callable[[Sequence[int]], str]) -> Shape:
    """Only executable mappings count: of their protection, and whether there is a file behind."""
    return Shape(((2, 7),), text)


SHAPES: dict[str, Shape] = {
    "socket": Shape(((0, U32), (1, 0xF), (2, U32)), lambda a: names.socket(a[0], a[1] & 0xF, a[2]), True),
    "socketpair": Shape(((0, U32), (1, 0xF)), lambda a: names.socket(a[0], a[1] & 0xF), True),
    "clone": Shape(((0, U32),), lambda a: names.clone(a[0]), True),
    "unshare": Shape(((0, U32),), lambda a: names.clone(a[0] & ~0xFF), True),
    "setns": Shape(((1, U32),), lambda a: names.clone(a[1] & ~0xFF), True),
    "prctl": Shape(((0, U32),), lambda a: names.prctl(a[0]), True),
    "arch_prctl": Shape(((0, U32),), lambda a: names.arch_prctl(a[0]), True),
    "ioctl": Shape(((1, U32),), lambda a: names.ioctl(a[1]), True),
    "personality": Shape(((0, U32),), lambda a: hex(a[0] & U32), True),
    "ptrace": Shape(((0, U32),), lambda a: f"request {a[0] & U32}", True),
    "keyctl": Shape(((0, U32),), lambda a: f"operation {a[0] & U32}", True),
    "bpf": Shape(((0, U32),), lambda a: f"command {a[0] & U32}", True),
    "seccomp": Shape(((0, U32), (1, U32)), lambda a: f"operation {a[0] & U32}, flags {hex(a[1] & U32)}", True),
    "membarrier": Shape(((0, U32),), lambda a: f"command {a[0] & U32}"),
    "memfd_create": Shape(((1, U32),), lambda a: f"flags {hex(a[1] & U32)}"),
    "fcntl": Shape(((1, U32),), lambda a: names.fcntl(a[1])),
    "madvise": Shape(((2, U32),), lambda a: names.madvise(a[2])),
    "mmap": _mapping(lambda a: names.protection(a[2]) + (", anonymous" if a[3] & 0x20 else ", file")),
    "mprotect": _mapping(lambda a: names.protection(a[2])),
    "pkey_mprotect": _mapping(lambda a: names.protection(a[2])),
    "getsockopt": Shape(((1, U32), (2, U32)), lambda a: names.socket_option(a[1], a[2])),
    "setsockopt": Shape(((1, U32), (2, U32)), lambda a: names.socket_option(a[1], a[2])),
    "kill": Shape(((1, U32),), lambda a: names.signal(a[1])),
    "tkill": Shape(((1, U32),), lambda a: names.signal(a[1])),
    "tgkill": Shape(((2, U32),), lambda a: names.signal(a[2])),
    "rt_sigqueueinfo": Shape(((1, U32),), lambda a: names.signal(a[1])),
    "rt_tgsigqueueinfo": Shape(((2, U32),), lambda a: names.signal(a[2])),
    "pidfd_send_signal": Shape(((1, U32),), lambda a: names.signal(a[1])),
    "prlimit64": Shape(((1, U32), (2, POINTER)), lambda a: names.limit(a[1]) + (", sets" if a[2] else ", reads")),
    "setrlimit": Shape(((0, U32),), lambda a: names.limit(a[0])),
    "getrlimit": Shape(((0, U32),), lambda a: names.limit(a[0])),
}


def counts(call: str, arguments: Sequence[int]) -> bool:
    """Whether this use of the call is worth a line: of mappings only the executable ones are."""
    return call not in ("mmap", "mprotect", "pkey_mprotect") or bool(arguments[2] & PROT_EXEC)


def values(call: str, arguments: Sequence[int]) -> Values:
    """(index, value) of the arguments that count, masked; a pointer only when it is null."""
    found = []
    for index, mask in SHAPES[call].looked_at:
        if mask != POINTER:
            found.append((index, arguments[index] & mask))
        elif arguments[index] == 0:
            found.append((index, 0))
    return tuple(found)


def raw(call: str, arguments: Sequence[int]) -> tuple[int, ...]:
    """What the kernel's event filter is to compare: the unmasked arguments that count, a pointer as 0 or 1."""
    return tuple(
        arguments[index] if mask != POINTER else int(arguments[index] != 0) for index, mask in SHAPES[call].looked_at
    )


def kernel_filter(call: str, fields: Sequence[str], known: Iterable[tuple[int, ...]]) -> str | None:
    """The filter of syscalls/sys_enter_CALL that lets all but known arguments through; None when it is too long.

    fields: names of the call's arguments in that event, in their order. known: what raw() gave.
    """
    parts = []
    if call in ("mmap", "mprotect", "pkey_mprotect"):
        parts.append(f"{fields[2]} & {PROT_EXEC}")
    for combination in sorted(set(known)):
        tests = [
            f"{fields[index]} == {value}" if mask != POINTER else f"{fields[index]} {'!=' if value else '=='} 0"
            for (index, mask), value in zip(SHAPES[call].looked_at, combination, strict=True)
        ]
        parts.append(f"!({' && '.join(tests)})")
    text = " && ".join(parts)
    return text if len(text) <= LONGEST_FILTER else None
