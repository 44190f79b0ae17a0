"""A trace instance of one's own in tracefs, and its events in binary (Documentation/trace/ftrace.rst, events.rst).

An instance has buffers, events and filters apart from all others: nothing that the machine's owner traces is touched.
Where tracefs is not mounted a detached mount of it is used (fsopen(2), fsmount(2)); nobody else sees that one.
"""

from __future__ import annotations

import errno
import os
import re
import select
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from fhir_hook.kernel import libc

PREFIX = "fhir-hook-"
MOUNTED = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
# A recorder opens its buffers at once, and an instance with open buffers can't be removed; younger ones are let alone.
STALE_SECONDS = 5.0
# fsopen(2), fsconfig(2) and fsmount(2) have the same numbers on every architecture.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSCONFIG_CMD_CREATE, _CLOEXEC = 6, 1
_FIELD = re.compile(r"field:([^;]+);\s*offset:(\d+);\s*size:(\d+);\s*signed:(\d)")
_COMMITTED = 0xFFFFF  # the lower bits of a page's commit word; the upper ones flag events that were missed
_PADDING, _EXTEND, _STAMP = 29, 30, 31  # type_len of entries that are no events (include/linux/ring_buffer.h)
_WORD = struct.Struct("=I")
_PAGE = struct.Struct("=QQ")
_EVENT = struct.Struct("=HBBi")

# time (ns of the trace clock), event id, task, page, offset of the event in it
Event = tuple[int, int, int, bytes, int]


class TracefsError(Exception):
    """Tracing can't be used here; str() is one line: what is missing and what to do."""


class Format:
    """Where the fields of an event are: `fields` has (offset, size, signed) by name, in the order of the kernel."""

    def __init__(self, text: str) -> None:
        found = re.search(r"^ID: (\d+)", text, re.MULTILINE)
        self.id = int(found[1]) if found else -1
        self.fields: dict[str, tuple[int, int, bool]] = {}
        for match in _FIELD.finditer(text):
            name = match[1].split()[-1].partition("[")[0]
            self.fields[name] = (int(match[2]), int(match[3]), match[4] == "1")

    def number(self, name: str, page: bytes, at: int) -> int:
        """An integer field of the event at `at`."""
        offset, size, signed = self.fields[name]
        return int.from_bytes(page[at + offset : at + offset + size], "little", signed=signed)

    def text(self, name: str, page: bytes, at: int) -> str:
        """A __data_loc string field: its offset and length are in the event, its bytes behind the fields."""
        where = self.number(name, page, at)
        start, length = at + (where & 0xFFFF), where >> 16
        return page[start : start + length].rstrip(b"\0").decode("utf-8", "backslashreplace")


def find() -> str:
    """The path of a usable tracefs. Raises TracefsError when there is none or it may not be used."""
    if os.geteuid() != 0:
        raise TracefsError("tracing system calls needs root: run it with sudo")
    for path in MOUNTED:
        if os.path.isdir(f"{path}/instances"):
            return path
    name = bytearray(b"tracefs\0")
    try:
        context = libc.call("fsopen of tracefs", _FSOPEN, libc.address(name), _CLOEXEC)
        libc.call("fsconfig of tracefs", _FSCONFIG, context, _FSCONFIG_CMD_CREATE, 0, 0, 0)
        mounted = libc.call("fsmount of tracefs", _FSMOUNT, context, _CLOEXEC, 0)
        os.close(context)
    except libc.CallFailed as error:
        raise TracefsError(_why(error)) from None
    return f"/proc/self/fd/{mounted}"


def _why(error: libc.CallFailed) -> str:
    if error.errno == errno.ENODEV:
        return "this kernel has no tracefs (CONFIG_TRACING): record on a machine whose kernel has it, or with strace"
    if error.errno == errno.EPERM:
        return "tracefs may not be used here: in a container or under lockdown; record as root of the host itself"
    return f"tracefs can't be mounted: {error}; mount it with 'mount -t tracefs none /sys/kernel/tracing'"


def remove_stale(tracefs: str) -> list[str]:
    """Remove instances whose recorder is gone (the kernel keeps those that are in use); returns their names."""
    removed = []
    for path in Path(tracefs, "instances").glob(f"{PREFIX}*"):
        try:
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.rmdir()
                removed.append(path.name)
        except OSError:
            continue
    return removed


class Instance:
    """One trace instance, removed when the context ends; its clock is CLOCK_MONOTONIC."""

    def __init__(self, tracefs: str, name: str, buffer_kib: int) -> None:
        """Raises TracefsError when the kernel can't make one."""
        self.path = f"{tracefs}/instances/{PREFIX}{name}"
        self._buffers: list[int] = []
        self.horizon = 0
        try:
            os.mkdir(self.path)
        except OSError as error:
            raise TracefsError(f"a trace instance can't be made: {error.strerror} ({self.path})") from None
        try:
            self._open_buffers()
            self.write("trace_clock", "mono")
            self.write("options/overwrite", "0")
            self.write("buffer_size_kb", str(buffer_kib))
            self._page_size = self._read_page_size()
        except OSError as error:
            self.close()
            raise TracefsError(f"the trace instance can't be set up: {error.strerror} ({error.filename})") from None

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_buffers(self) -> None:
        for path in sorted(Path(self.path, "per_cpu").iterdir(), key=lambda path: int(path.name[3:])):
            self._buffers.append(os.open(path / "trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))

    def _read_page_size(self) -> int:
        header = Format(self.read("events/header_page"))
        offset, size, _ = header.fields["data"]
        if offset != _PAGE.size:
            raise TracefsError("this kernel's trace pages are laid out in a way that this version does not know")
        return offset + size

    def close(self) -> None:
        """Stop tracing and remove the instance."""
        for descriptor in self._buffers:
            os.close(descriptor)
        self._buffers = []
        for _ in range(50):
            try:
                os.rmdir(self.path)
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.02)

    def read(self, name: str) -> str:
        """A file of the instance; events/ falls back on the tracefs' own."""
        path = Path(self.path, name)
        if not path.exists():
            path = Path(self.path, "..", "..", name)
        return path.read_text()

    def write(self, name: str, text: str) -> None:
        """Write a file of the instance in one write(2); raises OSError."""
        path = f"{self.path}/{name}"
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode() or b"\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(descriptor)

    def follow(self, tasks: list[int]) -> None:
        """Add tasks (numbers of the first pid namespace) to those whose events are recorded."""
        self._append("set_event_pid", tasks)

    def ignore(self, tasks: list[int]) -> None:
        """Add tasks to those whose events, and whose children's, are not recorded."""
        self._append("set_event_notrace_pid", tasks)

    def _append(self, name: str, tasks: list[int]) -> None:
        for first in range(0, len(tasks), 100):
            descriptor = os.open(f"{self.path}/{name}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                os.write(descriptor, " ".join(str(task) for task in tasks[first : first + 100]).encode() + b"\n")
            finally:
                os.close(descriptor)

    def has(self, event: str) -> bool:
        """Whether the kernel has an event, by its path below events/."""
        return os.path.isdir(f"{self.path}/events/{event}")

    def format(self, event: str) -> Format:
        """The layout of an event; raises TracefsError when the kernel has none of that name."""
        if not self.has(event):
            raise TracefsError(f"this kernel has no trace event {event} (CONFIG_FTRACE_SYSCALLS): record elsewhere")
        return Format(self.read(f"events/{event}/format"))

    def enable(self, event: str, on: bool = True) -> None:
        """Switch an event on or off."""
        self.write(f"events/{event}/enable", "1" if on else "0")

    def filter(self, event: str, expression: str) -> None:
        """Record only what the expression holds for; an empty one: everything. At most 4095 characters."""
        self.write(f"events/{event}/filter", expression or "0")

    def wait(self, seconds: float) -> None:
        """Sleep until a buffer is filled to a part (buffer_percent), at most so long."""
        poll = select.poll()
        for descriptor in self._buffers:
            poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)

    def drain(self, pages: int = 1 << 30) -> list[Event]:
        """What is in the buffers, in the order of each processor, at most so many pages of each.

        `horizon` is then the time up to which everything has been read.
        """
        found: list[Event] = []
        self.horizon = 1 << 63
        for descriptor in self._buffers:
            for _ in range(pages):
                try:
                    page = os.read(descriptor, self._page_size)
                except BlockingIOError:
                    break
                if not page:
                    break
                found.extend(events(page))
            else:
                self.horizon = min(self.horizon, found[-1][0])
        return found

    def lost(self) -> int:
        """How many events the kernel dropped since the start, on all processors."""
        count = 0
        for path in Path(self.path, "per_cpu").glob("cpu*/stats"):
            for line in path.read_text().splitlines():
                key, _, value = line.partition(": ")
                if key in ("overrun", "commit overrun", "dropped events"):
                    count += int(value)
        return count


def events(page: bytes) -> Iterator[Event]:
    """The events of one page of a ring buffer, as header_page and header_event describe it."""
    time_, commit = _PAGE.unpack_from(page)
    at, end = _PAGE.size, min(_PAGE.size + (commit & _COMMITTED), len(page))
    word, event = _WORD.unpack_from, _EVENT.unpack_from
    while at + 4 <= end:
        (head,) = word(page, at)
        kind, delta = head & 31, head >> 5
        at += 4
        if kind in (_EXTEND, _STAMP):
            (upper,) = word(page, at)
            time_ = (0 if kind == _STAMP else time_) + (upper << 27) + delta
            at += 4
            continue
        time_ += delta
        length, body = kind * 4, at
        if kind == 0 or kind == _PADDING:
            if kind and not delta:
                return
            (length,) = word(page, at)
            body += 4
        at += length
        if kind != _PADDING:
            id, _, _, task = event(page, body)
            yield time_, id, task, page, body


def is_outermost(instance: Instance) -> bool:
    """Whether process numbers here are those of the trace: whether this is the machine's first pid namespace."""
    instance.write("trace_marker", "fhir-hook")
    return any(task == threading.get_native_id() for _, _, task, _, _ in instance.drain())


OOM = "oom/oom_score_adj_update"


def outermost(instance: Instance, tasks: list[int]) -> dict[int, int]:
    """The numbers that tasks have in the machine's first pid namespace, by theirs here; missing: they are gone.

    A process in another pid namespace has no way to ask for them. But the trace says them: writing a task's
    oom_score_adj as it is changes nothing and is an event with the task's number.
    """
    if is_outermost(instance):
        return {task: task for task in tasks}
    layout = instance.format(OOM)
    instance.enable(OOM)
    found = {}
    try:
        for task in tasks:
            try:
                path = Path(f"/proc/{task}/oom_score_adj")
                path.write_text(path.read_text())
            except OSError:
                continue
            numbers = [layout.number("pid", page, at) for _, id, _, page, at in instance.drain() if id == layout.id]
            if numbers:
                found[task] = numbers[-1]
    finally:
        instance.enable(OOM, False)
        instance.drain()
    return found
