"""Arguments that matter: their text, their values, and the kernel's filters for them."""

from __future__ import annotations

import pytest

from fhir_hook.authoring.expand import NUMBERS
from fhir_hook.recording import arguments


@pytest.mark.parametrize(
    ("call", "args", "text", "values"),
    [
        ("socket", (16, 0x80003, 0), "AF_NETLINK, SOCK_RAW, NETLINK_ROUTE", ((0, 16), (1, 3), (2, 0))),
        ("clone", (0x10000000 | 17,), "NEWUSER|SIGCHLD", ((0, 0x10000011),)),
        ("prctl", (15,), "PR_SET_NAME", ((0, 15),)),
        ("ioctl", (1, 0xFFFFFFFF00005401), "TCGETS", ((1, 0x5401),)),
        ("fcntl", (3, 4), "F_SETFL", ((1, 4),)),
        ("mmap", (0, 4096, 7, 0x22, 2**64 - 1), "PROT_READ|PROT_WRITE|PROT_EXEC, anonymous", ((2, 7),)),
        ("prlimit64", (0, 7, 0, 99), "RLIMIT_NOFILE, reads", ((1, 7), (2, 0))),
        ("prlimit64", (0, 7, 99, 0), "RLIMIT_NOFILE, sets", ((1, 7),)),
        ("tgkill", (1, 2, 62), "SIGRT_30", ((2, 62),)),
        ("setsockopt", (3, 6, 1), "SOL_TCP, TCP_NODELAY", ((1, 6), (2, 1))),
        ("setsockopt", (3, 1, 9), "SOL_SOCKET, SO_KEEPALIVE", ((1, 1), (2, 9))),
        ("ioctl", (1, 0xBADC0DE), "0xbadc0de", ((1, 0xBADC0DE),)),
    ],
)
def test_values_are_masked_to_what_the_kernel_looks_at(
    call: str, args: tuple[int, ...], text: str, values: arguments.Values
) -> None:
    padded = (*args, 0, 0, 0, 0, 0, 0)[:6]
    assert arguments.SHAPES[call].text(padded) == text
    assert arguments.values(call, padded) == values
    assert arguments.counts(call, padded)


def test_only_executable_mappings_count() -> None:
    assert not arguments.counts("mmap", (0, 4096, 3, 0x22, 0, 0))
    assert arguments.counts("mprotect", (0, 4096, 5, 0, 0, 0))


def test_every_shape_is_of_a_call() -> None:
    for call, shape in arguments.SHAPES.items():
        assert call in NUMBERS["x86_64"] and all(0 <= index < 6 for index, _ in shape.looked_at)


def test_the_kernels_filter_leaves_out_what_is_known() -> None:
    fields = ["family", "type", "protocol"]
    assert (
        arguments.kernel_filter("socket", fields, [(2, 1, 0), (10, 1, 0), (2, 1, 0)])
        == "!(family == 2 && type == 1 && protocol == 0) && !(family == 10 && type == 1 && protocol == 0)"
    )
    assert arguments.kernel_filter("prlimit64", ["pid", "resource", "new_rlim", "old_rlim"], [(7, 0), (7, 1)]) == (
        "!(resource == 7 && new_rlim == 0) && !(resource == 7 && new_rlim != 0)"
    )
    assert arguments.kernel_filter("mprotect", ["start", "len", "prot"], []) == "prot & 4"


def test_a_filter_that_the_kernel_would_not_take_is_not_made() -> None:
    assert arguments.kernel_filter("ioctl", ["fd", "cmd"], [(request,) for request in range(1000)]) is None
