"""Calls that seccomp denied or would deny, as the kernel logs them: audit records of type 1326 (AUDIT_SECCOMP).

Two ways lead to them, and both are read, since a record has a number by which a second copy is known. The audit
multicast group (AUDIT_NLGRP_READLOG, audit(8)) gets every record whether or not an audit daemon runs, but only in the
machine's first network namespace. The kernel log gets them when no daemon runs, ten in five seconds by default.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import select
import socket
from types import TracebackType

from fhir_hook.core.syscalls_aarch64 import NUMBERS as AARCH64
from fhir_hook.core.syscalls_x86_64 import NUMBERS as X86_64

LOG, ERRNO = 0x7FFC0000, 0x00050000
ACTIONS_LOGGED = "/proc/sys/kernel/seccomp/actions_logged"
NETLINK_AUDIT, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, READLOG, SO_RCVBUFFORCE = 9, 270, 1, 1, 33
RECEIVE_BYTES = 16 << 20
MOST_AT_ONCE = 20_000
MOST_LOST = 1000
HEADER = 16  # struct nlmsghdr
SECCOMP = 1326
_NAMES = {
    0xC000003E: {number: name for name, number in X86_64.items()},
    0xC00000B7: {number: name for name, number in AARCH64.items()},
}
# The kernel prints names that anybody chooses, too (of a directory that overlayfs can't find), so only a line that
# audit begins is audit's. Others than the kernel write there under another facility than its own (printk, kmsg).
_KERNEL = r"[0-7],[^;]*;"
_RECORD = re.compile(
    rf"(?:{_KERNEL}audit: type={SECCOMP} )?"
    r"audit\((?P<when>\d{1,11}\.\d{1,9}):(?P<serial>\d+)\):.*? uid=(?P<uid>\d+) .*?ses=(?P<session>\d+) "
    r".*?pid=(?P<pid>\d+) "
    r'comm=(?P<comm>"[^"]*"|\S+) exe=(?P<exe>"[^"]*"|\S+) .*?arch=(?P<arch>[0-9a-f]+) syscall=(?P<number>\d+) '
    r".*?code=0x(?P<code>[0-9a-f]+)"
)
_LOST = re.compile(
    rf"{_KERNEL}(?:audit: (?:audit_lost=|[^']*backlog limit exceeded|[^']*hold queue overflow)"
    r"|k?audit\w*: \d+ callbacks suppressed)"
)


@dataclasses.dataclass(frozen=True)
class Denial:
    """One record: the call, the process (`pid` is the machine's), its audit session, and what the filter did.

    `code` is LOG (would be denied), ERRNO (was denied) or one of the kernel's other actions. comm and exe are what a
    process calls itself: they may hold anything. `when` is the kernel's time of it, in seconds since the epoch.
    """

    serial: int
    call: str
    comm: str
    exe: str
    pid: int
    uid: int
    session: int
    code: int
    when: float = 0.0


def parse(text: str) -> Denial | None:
    """The record in a line of the kernel log or the text of an audit message; None when it is no seccomp record."""
    found = _RECORD.match(text)
    if not found:
        return None
    names = _NAMES.get(int(found["arch"], 16))
    number = int(found["number"])
    call = names.get(number, f"syscall_{number}") if names else f"syscall_{number} of another ABI"
    return Denial(
        serial=int(found["serial"]),
        call=call,
        comm=_text(found["comm"]),
        exe=_text(found["exe"]),
        pid=int(found["pid"]),
        uid=int(found["uid"]),
        session=int(found["session"]),
        code=int(found["code"], 16) & 0xFFFF0000,
        when=float(found["when"]),
    )


def loses(text: str) -> bool:
    """Whether audit says in a line of the kernel log that records got lost."""
    return bool(_LOST.match(text))


def _text(value: str) -> str:
    """A string as audit writes it: in quotes, or as hexadecimal digits when it holds anything odd."""
    if value.startswith('"'):
        return value[1:-1]
    try:
        return bytes.fromhex(value).decode("utf-8", "backslashreplace")
    except ValueError:
        return value


class Reader:
    """A context that reads records from now on. `lost` says what got lost, in words, `ways` which ways work here.

    With `earlier` it begins with those that the kernel log still holds.
    """

    def __init__(self, earlier: bool = False) -> None:
        """Raises OSError when neither way may be read."""
        self.lost: list[str] = []
        self.ways: list[str] = []
        self._seen: set[int] = set()
        self._before: set[int] = set()
        self._by_audit = False
        self._kmsg = self._open_kmsg(os.SEEK_SET if earlier else os.SEEK_END)
        self._audit = self._open_audit()
        if self._kmsg < 0 and self._audit is None:
            raise PermissionError(errno.EPERM, "neither the kernel log nor the audit records may be read")

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading."""
        if self._kmsg >= 0:
            os.close(self._kmsg)
            self._kmsg = -1
        if self._audit is not None:
            self._audit.close()
            self._audit = None

    def _open_kmsg(self, whence: int) -> int:
        try:
            descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(descriptor, 0, whence)
        except OSError:
            return -1
        self.ways.append("kernel log")
        return descriptor

    def _open_audit(self) -> socket.socket | None:
        try:
            audit = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_AUDIT)
        except OSError:
            return None
        try:
            with contextlib.suppress(PermissionError):  # without CAP_NET_ADMIN the usual room has to do
                audit.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
            audit.bind((0, 0))
            audit.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, READLOG)
            audit.setblocking(False)
        except OSError:
            audit.close()
            return None
        self.ways.append("audit records")
        return audit

    def read(self, seconds: float) -> list[Denial]:
        """Wait for records, at most so long, and return those that are new: MOST_AT_ONCE of each way at most."""
        descriptors = [self._kmsg] if self._kmsg >= 0 else []
        if self._audit is not None:
            descriptors.append(self._audit.fileno())
        select.select(descriptors, [], [], seconds)
        found = [parse(text) for text in [*self._from_audit(), *self._from_kmsg()]]
        new = []
        for denial in found:
            if denial is not None and denial.serial not in self._seen and denial.serial not in self._before:
                self._seen.add(denial.serial)
                new.append(denial)
        if len(self._seen) > 4 * MOST_AT_ONCE:
            self._before, self._seen = self._seen, set()
        return new

    def _lose(self, what: str) -> None:
        if len(self.lost) < MOST_LOST:
            self.lost.append(what)

    def _from_audit(self) -> list[str]:
        texts: list[str] = []
        while self._audit is not None and len(texts) < MOST_AT_ONCE:
            try:
                message = self._audit.recv(65536)
            except BlockingIOError:
                break
            except OSError as error:
                self._lose(f"audit records overran: {error.strerror}")
                continue
            if len(message) > HEADER and int.from_bytes(message[4:6], "little") == SECCOMP:
                texts.append(message[HEADER:].decode(errors="replace"))
                self._by_audit = True
        return texts

    def _from_kmsg(self) -> list[str]:
        texts: list[str] = []
        while self._kmsg >= 0 and len(texts) < MOST_AT_ONCE:
            try:
                text = os.read(self._kmsg, 8192).decode(errors="replace")
            except BlockingIOError:
                break
            except BrokenPipeError:
                if not self._by_audit:  # else all of it came that way
                    self._lose("the kernel log was overwritten before it was read")
                continue
            if loses(text) and not (self._by_audit and "suppressed" in text):
                self._lose(text.partition(";")[2].strip() or text)
            if f"type={SECCOMP} " in text:
                texts.append(text)
        return texts


def actions_logged() -> set[str]:
    """The actions that the kernel logs at all (kernel.seccomp.actions_logged); empty when that can't be read."""
    try:
        with open(ACTIONS_LOGGED) as file:
            return set(file.read().split())
    except OSError:
        return set()
