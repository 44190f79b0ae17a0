"""The shipped profiles' programs in the kernel: a child loads one and tries calls; the errno is the emulator's."""

from __future__ import annotations

import base64
import platform
import signal
from typing import Any

import pytest

from authoring.sandbox import SHIPPED
from authoring.seccomp_child import answers
from fhir_hook.authoring import compile as compiling
from fhir_hook.authoring.expand import NUMBERS
from fhir_hook.authoring.source import load_sources
from fhir_hook.core import bpf

MACHINE = platform.machine()
NUMBER = NUMBERS[MACHINE]
SIGSYS = -int(signal.SIGSYS)
PROFILES = ("hapi", "fhirstarter", "fhir-jvm")
# Calls that end, block or disturb the child when they are let through.
LEFT_OUT = {
    "exit", "exit_group", "pause", "rt_sigsuspend", "rt_sigreturn", "sigreturn", "execve", "vfork", "fork", "clone",
    "kill", "tkill", "tgkill", "close", "close_range", "munmap", "mprotect", "mremap", "mmap", "brk", "arch_prctl",
    "rt_sigtimedwait", "select", "pselect6", "poll", "ppoll", "epoll_wait", "epoll_pwait", "wait4", "restart_syscall",
    "set_tid_address", "set_robust_list", "rseq", "read", "readv", "dup2", "dup3", "rt_sigprocmask", "rt_sigaction",
    "sigaltstack", "accept", "accept4", "futex", "setitimer", "prctl", "setpgid", "nanosleep", "clock_nanosleep",
    "write", "setresuid", "setresgid", "setuid", "setgid", "setgroups", "capset", "umask", "chdir", "fchdir",
}  # fmt: skip


@pytest.fixture(scope="module")
def programs() -> dict[str, dict[str, bytes]]:
    compiled, findings = compiling.compile_all(load_sources(SHIPPED))
    assert findings == []
    return {
        profile["name"]: {mode: base64.b64decode(data) for mode, data in profile["bpf"][MACHINE].items()}
        for profile in compiled
    }


def emulated(data: bytes, nr: int, args: Any) -> tuple[str, int]:
    return bpf.decision(bpf.run(bpf.decode(data), nr, bpf.ARCH[MACHINE], 0, args))


def refused(data: bytes, calls: list[tuple[int, list[int]]]) -> list[tuple[int, list[int]]]:
    return [call for call in calls if emulated(data, *call)[0] == "SCMP_ACT_ERRNO"]


@pytest.mark.parametrize("name", PROFILES)
def test_every_refused_call_is_refused_by_the_kernel_with_the_emulated_errno(
    programs: dict[str, dict[str, bytes]], name: str
) -> None:
    data = programs[name]["enforce"]
    numbers = [*NUMBER.values(), *range(451, 600), 1023]
    calls = refused(data, [(nr, [0] * 6) for nr in numbers])
    assert len(calls) > 300
    assert answers(data, calls) == [emulated(data, *call)[1] for call in calls]


@pytest.mark.parametrize("name", PROFILES)
def test_every_allowed_call_reaches_the_kernel(programs: dict[str, dict[str, bytes]], name: str) -> None:
    """With senseless arguments the kernel itself answers: never EPERM nor ENOSYS from the filter for these calls."""
    data = programs[name]["enforce"]
    bad = [(1 << 64) - 1] * 6
    calls = [(nr, bad) for call, nr in NUMBER.items() if call not in LEFT_OUT]
    calls = [call for call in calls if emulated(data, *call)[0] == "SCMP_ACT_ALLOW"]
    assert len(calls) > 40
    plain = answers(bpf.encode(((0x06, 0, 0, bpf.RET_ALLOW),)), calls)
    assert answers(data, calls) == plain


@pytest.mark.parametrize("name", PROFILES)
def test_filtered_arguments_are_answered_by_the_kernel_as_emulated(
    programs: dict[str, dict[str, bytes]], name: str
) -> None:
    data = programs[name]["enforce"]
    junk = 0xDEADBEEF << 32
    calls = [
        (NUMBER["socket"], [family | upper, kind, protocol, 0, 0, 0])
        for family in range(64)
        for kind in (1, 2, 3, 5, 0x80801)
        for protocol in (0, 6, 17, 132, 262)
        for upper in (0, junk)
    ]
    calls += [(NUMBER["clone"], [1 << bit | 17, 0, 0, 0, 0, 0]) for bit in (17, 25, 26, 27, 28, 29, 30)]
    calls += [(NUMBER["ioctl"], [0, request, 0, 0, 0, 0]) for request in (0x5412, 0x541C, 0x4B3A, 0x5412 | junk)]
    calls += [(NUMBER["prctl"], [option, 0, 0, 0, 0, 0]) for option in (22, 27, 35, 53, 62)]
    calls = refused(data, calls)
    assert answers(data, calls) == [emulated(data, *call)[1] for call in calls]


def test_allowed_sockets_open(programs: dict[str, dict[str, bytes]]) -> None:
    wanted = [(2, 1, 0), (2, 0x80801, 6), (2, 2, 17), (1, 1, 0), (16, 3, 0)]
    calls = [(NUMBER["socket"], [*args, 0, 0, 0]) for args in wanted]
    assert answers(programs["hapi"]["enforce"], calls) == [0] * len(calls)


def test_calls_through_int_0x80_end_the_process(programs: dict[str, dict[str, bytes]]) -> None:
    if MACHINE != "x86_64":
        assert "X86" not in MACHINE.upper()
        return
    i386_getpid, i386_socketcall = 20, 102
    for nr in (i386_getpid, i386_socketcall):
        assert answers(programs["hapi"]["enforce"], [(nr, [])], how="int80") == [SIGSYS]
    assert answers(programs["hapi"]["complain"], [(i386_getpid, [])], how="int80") == [0]


def test_x32_calls_end_the_process(programs: dict[str, dict[str, bytes]]) -> None:
    nr = NUMBER["getpid"] | bpf.X32_BIT
    expected = SIGSYS if MACHINE == "x86_64" else 38
    assert answers(programs["hapi"]["enforce"], [(nr, [0] * 6)]) == [expected]


def test_complaining_lets_everything_reach_the_kernel(programs: dict[str, dict[str, bytes]]) -> None:
    calls = [
        (NUMBER[name], [(1 << 64) - 1] * 6)
        for name in ("mount", "bpf", "unshare", "ptrace", "io_uring_setup", "keyctl")
    ]
    plain = answers(bpf.encode(((0x06, 0, 0, bpf.RET_ALLOW),)), calls)
    assert answers(programs["hapi"]["complain"], calls) == plain
