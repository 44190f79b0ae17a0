"""Where records and checkpoints are delivered to: the journal with its own fields, and syslog over TLS (RFC 5424, RFC
5425).

A delivery that returns was taken: by journald, or by the receiving host's kernel. Syslog has no acknowledgement of its
own, so a receiver that dies with records in its buffers loses them (RFC 5425, section 4.4); a witness or an archive
tells.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
import ssl
import termios
import time
from collections.abc import Iterable
from typing import Any, Protocol

from fhir_hook.audit.cursor import Line
from fhir_hook.audit.selection import items, names_of, part, text

JOURNAL = "/run/systemd/journal/socket"
SECONDS = 20.0
_FACILITY, _WARNING, _NOTICE, _INFO = 10, 4, 5, 6  # authpriv (RFC 5424, section 6.2.1)
_NUMBER = 32473  # the enterprise number for examples and documentation (RFC 5612); this project has none of its own


class DeliveryError(Exception):
    """Nothing more can be delivered now; str() is one line."""


class Delivery(Protocol):
    """Something that takes records."""

    def send(self, lines: Iterable[Line], checkpoint: str) -> None:
        """Deliver records, and the newest checkpoint unless it is empty; raises DeliveryError."""


def severity(record: dict[str, Any]) -> int:
    """Refused and damaged: warning; what concerns the hook or the log itself: notice; anything else: informational.

    So is all that a user sent of a log that this user may write as they like.
    """
    if "from" in record:
        return _INFO
    if record.get("decision") == "refused" or record.get("event") == "recovery":
        return _WARNING
    return _INFO if record.get("event") in ("decision", "outcome") else _NOTICE


def parsed(line: Line) -> dict[str, Any]:
    """The record, or {} when the line is none."""
    try:
        record = json.loads(line.data)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def summary(record: dict[str, Any]) -> str:
    """One line for people."""
    container = part(record, "container")
    name = text(container, "name") or text(container, "id")[:12]
    codes = [text(each, "code") for each in items(record, "reasons")]
    claim = f"user {part(record, 'from').get('uid')} says:" if "from" in record else ""
    what = text(record, "decision") or text(record, "event") or "unreadable record"
    said = [claim, what, name, *codes]
    return " ".join(filter(None, said)).encode("ascii", "backslashreplace").decode()


class Journal:
    """journald's native protocol: one datagram for each record (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

    def __init__(self, path: str = JOURNAL) -> None:
        self._path = path

    def send(self, lines: Iterable[Line], checkpoint: str) -> None:
        """Deliver to the journal of this host."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as journal:
                journal.settimeout(SECONDS)
                journal.connect(self._path)
                for line in lines:
                    self._send(journal, self._record(line))
                if checkpoint:
                    fields = {"MESSAGE": "checkpoint", "PRIORITY": str(_NOTICE), "FHIR_HOOK_CHECKPOINT": checkpoint}
                    self._send(journal, fields)
        except OSError as error:
            raise DeliveryError(f"{self._path}: {error.strerror or error}") from None

    def _record(self, line: Line) -> dict[str, str]:
        record = parsed(line)
        container, image = part(record, "container"), part(record, "image")
        fields = {
            "MESSAGE": summary(record),
            "PRIORITY": str(severity(record)),
            "FHIR_HOOK_SEQ": str(line.seq),
            "FHIR_HOOK_SHA256": line.digest,
            "FHIR_HOOK_EVENT": record.get("event"),
            "FHIR_HOOK_DECISION": None if "from" in record else record.get("decision"),
            "FHIR_HOOK_SENDER": part(record, "from").get("uid"),
            "FHIR_HOOK_RECORD": line.data.decode("utf-8", "backslashreplace").rstrip("\n"),
            "CONTAINER_ID_FULL": container.get("id"),
            "CONTAINER_NAME": container.get("name"),
            "IMAGE_NAME": next(iter(names_of(image)), None),
        }
        return {name: str(value) for name, value in fields.items() if value}

    def _send(self, journal: socket.socket, fields: dict[str, str]) -> None:
        data = b"".join(_field(name, value) for name, value in {**fields, "SYSLOG_IDENTIFIER": "fhir-hook"}.items())
        try:
            journal.sendall(data)
        except OSError as error:
            if error.errno not in (90, 105):  # EMSGSIZE, ENOBUFS: too large for a datagram, goes by a sealed file
                raise
            self._send_file(journal, data)

    def _send_file(self, journal: socket.socket, data: bytes) -> None:
        fd = os.memfd_create("fhir-hook", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            os.write(fd, data)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
            socket.send_fds(journal, [], [fd])
        finally:
            os.close(fd)


def _field(name: str, value: str) -> bytes:
    """One field; always with its length, so that no text can begin another."""
    data = value.encode("utf-8", "backslashreplace")
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


class Syslog:
    """RFC 5424 messages over TLS, framed by octet counting (RFC 5425); the server's certificate is always verified."""

    def __init__(self, host: str, port: int, authority: str | None, certificate: str | None) -> None:
        self._address = (host, port)
        try:
            self._context = ssl.create_default_context(cafile=authority)
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2
            if certificate:
                self._context.load_cert_chain(certificate)
        except (OSError, ssl.SSLError) as error:
            raise DeliveryError(f"{authority or certificate}: {error}") from None
        self._socket: ssl.SSLSocket | None = None

    def send(self, lines: Iterable[Line], checkpoint: str) -> None:
        """Deliver to the server, and wait until its kernel has all of it."""
        try:
            messages = [self._message(line) for line in lines]
            if checkpoint:
                messages.append(_message(_NOTICE, "checkpoint", "-", checkpoint))
            connection = self._connected()
            connection.sendall(b"".join(b"%d %b" % (len(message), message) for message in messages))
            _wait_until_taken(connection)
        except (OSError, ssl.SSLError) as error:
            self.close()
            host, port = self._address
            raise DeliveryError(f"{host}:{port}: {getattr(error, 'strerror', None) or error}") from None

    def _message(self, line: Line) -> bytes:
        record = parsed(line)
        data = f'[fhir-hook@{_NUMBER} seq="{line.seq}" sha256="{line.digest}"]'
        text = line.data.decode("utf-8", "backslashreplace").rstrip("\n")
        return _message(severity(record), str(record.get("event", "-"))[:32], data, text, str(record.get("time", "-")))

    def _connected(self) -> ssl.SSLSocket:
        if self._socket is not None and not _alive(self._socket):
            self.close()
        if self._socket is None:
            plain = socket.create_connection(self._address, SECONDS)
            try:
                self._socket = self._context.wrap_socket(plain, server_hostname=self._address[0])
            except BaseException:
                plain.close()
                raise
        return self._socket

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _message(level: int, kind: str, data: str, text: str, when: str = "-") -> bytes:
    """One RFC 5424 message; header fields hold nothing but printable ASCII without spaces."""
    host = _printable(socket.gethostname(), 255)
    head = f"<{_FACILITY * 8 + level}>1 {_printable(when, 32)} {host} fhir-hook - {_printable(kind, 32)} {data} "
    return head.encode() + text.encode("utf-8", "backslashreplace")


def _printable(text: str, longest: int) -> str:
    return "".join(c for c in text if "!" <= c <= "~")[:longest] or "-"


def _alive(connection: ssl.SSLSocket) -> bool:
    """Whether the server still listens; it has nothing to say, so anything but silence is the end."""
    connection.setblocking(False)
    try:
        return bool(connection.recv(1))
    except ssl.SSLWantReadError:
        return True
    except OSError:
        return False
    finally:
        connection.settimeout(SECONDS)


def _wait_until_taken(connection: ssl.SSLSocket) -> None:
    """Until the receiving kernel has acknowledged every byte (SIOCOUTQ, tcp(7)), or the peer has gone."""
    end = time.monotonic() + SECONDS
    left = array.array("i", [1])
    while True:
        fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, left, True)
        if not left[0]:
            break
        if time.monotonic() > end:
            raise TimeoutError(110, "the server does not take what it is sent")
        time.sleep(0.002)
    error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
