"""Pages of the kernel's trace buffers, made by hand as header_page and header_event describe them."""

from __future__ import annotations

import struct

from fhir_hook.kernel.tracefs import Format, events

ENTER = """name: sys_enter
ID: 443
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:long id;\toffset:8;\tsize:8;\tsigned:1;
\tfield:unsigned long args[6];\toffset:16;\tsize:48;\tsigned:0;
\tfield:__data_loc char[] filename;\toffset:64;\tsize:4;\tsigned:0;
"""


def page(*entries: bytes, missed: bool = False, at: int = 1000) -> bytes:
    """A page of entries whose first time stamp is `at`."""
    data = b"".join(entries)
    return struct.pack("=QQ", at, len(data) | (1 << 31 if missed else 0)) + data + bytes(4080 - len(data))


def entry(task: int, delta: int, size: int = 8, id: int = 443) -> bytes:
    """An event of a size that is told in its header."""
    return struct.pack("=I", delta << 5 | size // 4) + struct.pack("=HBBi", id, 0, 0, task) + bytes(size - 8)


def seen(data: bytes) -> list[tuple[int, int]]:
    """(time, task) of all events."""
    return [(time, task) for time, _, task, _, _ in events(data)]


def test_times_add_up_over_extensions_padding_and_absolute_stamps() -> None:
    extension = struct.pack("=II", 5 << 5 | 30, 2)
    dropped = struct.pack("=II", 7 << 5 | 29, 4)
    absolute = struct.pack("=II", 9 << 5 | 31, 100)
    data = page(entry(1, 1), extension, entry(2, 1), dropped, entry(3, 1), absolute, entry(4, 2))
    later = 1000 + 1 + (2 << 27) + 5 + 1
    assert seen(data) == [(1001, 1), (later, 2), (later + 7 + 1, 3), ((100 << 27) + 9 + 2, 4)]


def test_events_longer_than_the_header_can_tell_carry_their_length() -> None:
    long = struct.pack("=III", 1 << 5, 4 + 200, 0)[:8] + struct.pack("=HBBi", 1, 0, 0, 5) + bytes(192)
    assert seen(page(long, entry(6, 1))) == [(1001, 5), (1002, 6)]


def test_the_rest_of_a_page_and_flags_of_missed_events_are_no_events() -> None:
    rest = struct.pack("=I", 29)
    assert seen(page(entry(1, 0), rest, missed=True)) == [(1000, 1)]
    assert seen(page()) == []


def test_a_page_that_was_cut_short_does_not_run_over() -> None:
    assert seen(page(entry(1, 0))[:30]) == [(1000, 1)]


def test_fields_are_found_by_the_kernels_description() -> None:
    layout = Format(ENTER)
    assert layout.id == 443
    assert layout.fields["args"] == (16, 48, False)
    body = bytearray(80)
    struct.pack_into("=q", body, 8, -5)
    struct.pack_into("=I", body, 64, 7 << 16 | 68)
    body[68:75] = b"/bin/\xff\0"
    assert layout.number("id", bytes(body), 0) == -5
    assert layout.text("filename", bytes(body), 0) == "/bin/\\xff"
