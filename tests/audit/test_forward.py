"""Delivering records elsewhere: to a real syslog receiver over TLS and to a socket that speaks journald's protocol."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from audit.conftest import Bench, killing, written
from fhir_hook.audit import cursor, deliver
from fhir_hook.store import segments
from support.sandbox import ROOT

MESSAGE = re.compile(
    rb'<(\d+)>1 (\S+) (\S+) fhir-hook - (\S+) '
    rb'(?:-|\[fhir-hook@\d+ seq="(\d+)" sha256="([0-9a-f]{64})"\]) (.*)',
    re.DOTALL,
)


def certificate(directory: Path, name: str) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.utcnow()
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = directory / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain) + made.public_bytes(encoding)
    )
    return path


class Receiver:
    """A syslog server over TLS that keeps every message."""

    def __init__(self, pem: Path) -> None:
        self.messages: list[bytes] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))
        self.port = self._server.getsockname()[1]
        self._open: list[ssl.SSLSocket] = []
        threading.Thread(target=self._accept, args=[self._server], daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self._open:
            connection.close()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                plain, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._receive, args=[plain], daemon=True).start()

    def _receive(self, plain: socket.socket) -> None:
        try:
            with self._context.wrap_socket(plain, server_side=True) as connection:
                self._open.append(connection)
                data = connection.makefile("rb")
                while True:
                    length = b""
                    while (byte := data.read(1)) not in (b" ", b""):
                        length += byte
                    if not length:
                        return
                    message = data.read(int(length))
                    if len(message) == int(length):
                        self.messages.append(message)
        except (OSError, ValueError):
            return

    def records(self) -> list[tuple[int, str, bytes]]:
        """seq, digest and text of what came; checkpoints are left out."""
        found = [MESSAGE.fullmatch(message) for message in self.messages]
        assert all(found), self.messages
        return [(int(m[5]), m[6].decode(), m[7]) for m in found if m and m[5]]


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    return certificate(tmp_path, "receiver")


@pytest.fixture
def receiver(pem: Path) -> Iterator[Receiver]:
    found = Receiver(pem)
    yield found
    found.stop()


def options(receiver: Receiver, pem: Path) -> tuple[str | Path, ...]:
    return ("log", "forward", "--syslog", f"127.0.0.1:{receiver.port}", "--ca", pem)


def lines(host: Bench) -> list[bytes]:
    paths = [path for _, path in segments.closed(host.log)] + [host.file]
    return [line for path in paths for line in path.read_bytes().splitlines()]


def test_every_record_and_checkpoint_comes_once_in_order_across_runs_and_rotation(
    signed: Bench, receiver: Receiver, pem: Path
) -> None:
    assert signed.json(*options(receiver, pem)) == {"delivered": 20}
    assert signed.json(*options(receiver, pem)) == {"delivered": 0}
    signed.append(3)
    signed("log", "rotate", "--now", check=True)
    signed.append(1)
    signed("log", "checkpoint", check=True)
    assert signed.json(*options(receiver, pem)) == {"delivered": 5}
    found = receiver.records()
    assert [seq for seq, _, _ in found] == list(range(25)) and [text for _, _, text in found] == lines(signed)
    checkpoints = [message for message in receiver.messages if b" checkpoint - " in message]
    assert len(checkpoints) == 2 and checkpoints[-1].endswith((signed.tree / "checkpoint").read_bytes())


def test_a_receiver_that_is_away_gets_everything_when_it_is_back(signed: Bench, receiver: Receiver, pem: Path) -> None:
    signed(*options(receiver, pem), check=True)
    receiver.stop()
    for _ in range(2):
        signed.append(10)
        done = signed(*options(receiver, pem))
        assert done.returncode == 3 and "stays for the next time" in done.stderr and len(done.stderr.splitlines()) == 1
    receiver.start()
    assert signed.json(*options(receiver, pem)) == {"delivered": 20}
    assert [seq for seq, _, _ in receiver.records()] == list(range(40))


def test_a_receiver_with_another_certificate_gets_nothing(
    signed: Bench, receiver: Receiver, tmp_path: Path
) -> None:
    done = signed(*options(receiver, certificate(tmp_path, "other")))
    assert done.returncode == 3 and "certificate verify failed" in done.stderr
    done = signed("log", "forward", "--syslog", f"127.0.0.1:{receiver.port}")
    assert done.returncode == 3 and receiver.messages == []


@pytest.mark.parametrize("call", ["sendto", "write", "rename", "fsync"])
def test_kill_9_while_forwarding_loses_nothing_and_a_repetition_can_be_told(
    signed: Bench, receiver: Receiver, pem: Path, call: str
) -> None:
    for argv in killing(call, signed.argv(*options(receiver, pem))):
        signed.append(1)
        done = signed.sandbox.run(argv, env={"PYTHONPATH": str(ROOT)})
        if done.returncode == 0:
            break
    signed(*options(receiver, pem), check=True)
    found = receiver.records()
    expected = lines(signed)
    assert {seq for seq, _, _ in found} == set(range(len(expected)))
    assert len({(seq, digest) for seq, digest, _ in found}) == len(expected), "a repetition has the same seq and digest"


def test_a_log_that_was_cut_off_behind_the_cursor_is_told_and_nothing_is_skipped(
    signed: Bench, receiver: Receiver, pem: Path
) -> None:
    signed(*options(receiver, pem), check=True)
    signed.file.write_bytes(b"".join(signed.lines()[:15]))
    signed.append(10)
    done = signed(*options(receiver, pem))
    assert done.returncode == 3 and "record 19 is not the one that was forwarded" in done.stderr


def test_a_following_forwarder_delivers_what_comes_and_survives_a_receiver_s_restart(
    signed: Bench, receiver: Receiver, pem: Path
) -> None:
    argv = signed.sandbox.command(signed.argv(*options(receiver, pem), "--follow"))
    process = subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    try:
        for expected in (20, 25, 30):
            end = time.monotonic() + 40
            while len({seq for seq, _, _ in receiver.records()}) < expected and time.monotonic() < end:
                time.sleep(0.1)
            assert {seq for seq, _, _ in receiver.records()} == set(range(expected))
            if expected == 25:
                receiver.stop()
                signed.append(5)
                time.sleep(2.5)
                receiver.start()
            elif expected == 20:
                signed.append(5)
    finally:
        process.kill()
        process.wait()


def fields(data: bytes) -> dict[str, str]:
    """What a datagram of journald's native protocol says."""
    found = {}
    while data:
        name, _, data = data.partition(b"\n")
        length = int.from_bytes(data[:8], "little")
        found[name.decode()] = data[8 : 8 + length].decode()
        assert data[8 + length : 9 + length] == b"\n"
        data = data[9 + length :]
    return found


def test_the_journal_gets_native_fields_that_no_text_can_forge_and_records_of_any_length(tmp_path: Path) -> None:
    hostile = "x\nPRIORITY=0\n\x1b[2J\u2028\U0001f4a9"
    record = {"seq": 0, "event": "decision", "decision": "refused", "reasons": [{"code": "FH101"}]}
    record["container"] = {"id": "a" * 64, "name": hostile}
    long = {**record, "seq": 1, "x": "y" * 65_000}
    sent = [cursor.Line(n, json.dumps(each).encode() + b"\n") for n, each in enumerate((record, long))]
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        sender = threading.Thread(target=deliver.Journal(path).send, args=[sent, "checkpoint text\n"])
        sender.start()
        got = []
        for _ in range(3):
            data, fds, _, _ = socket.recv_fds(journal, 1 << 20, 1)
            for fd in fds:
                data = os.pread(fd, 1 << 20, 0)
                os.close(fd)
            got.append(fields(data))
        sender.join()
    assert got[0]["CONTAINER_NAME"] == hostile and got[0]["PRIORITY"] == "4" and got[0]["FHIR_HOOK_SEQ"] == "0"
    assert got[0]["MESSAGE"].startswith("refused x") and got[0]["MESSAGE"].endswith("FH101")
    assert [json.loads(each["FHIR_HOOK_RECORD"]) for each in got[:2]] == [record, long]
    assert got[0]["FHIR_HOOK_SHA256"] == sent[0].digest and got[2]["FHIR_HOOK_CHECKPOINT"] == "checkpoint text\n"


def test_attack_a_user_who_says_that_the_host_refused_raises_no_warning(tmp_path: Path) -> None:
    refused = {"event": "decision", "decision": "refused", "container": {"name": "theirs"}}
    claims = [{**refused, "from": {"log": "rootless", "uid": 1000}}, {**refused, "from": "odd"},
              {"event": "recovery", "from": {"uid": 1000}}]  # fmt: skip
    assert [deliver.severity(each) for each in (refused, *claims)] == [4, 6, 6, 6]
    assert deliver.summary(claims[0]) == "user 1000 says: refused theirs"
    got = journalled(tmp_path, claims[:1])[0]
    assert got["PRIORITY"] == "6" and got["FHIR_HOOK_SENDER"] == "1000" and "FHIR_HOOK_DECISION" not in got
    assert got["MESSAGE"].startswith("user 1000 says: ")


@pytest.mark.parametrize("wrong", [None, 7, "text", [], [7], [[]], {}, {"name": []}, True, 1e300])
def test_attack_members_of_other_types_are_forwarded_as_they_are(tmp_path: Path, wrong: object) -> None:
    members = ("event", "decision", "container", "image", "reasons", "findings", "from", "profile", "time")
    got = journalled(tmp_path, [dict.fromkeys(members, wrong), {"image": {"names": wrong}, "reasons": [wrong]}])
    assert json.loads(got[0]["FHIR_HOOK_RECORD"])["image"] == wrong and got[0]["MESSAGE"] and got[1]["MESSAGE"]


def journalled(directory: Path, records: list[dict[str, object]]) -> list[dict[str, str]]:
    """The fields that a journal gets of records."""
    path = str(directory / "journal")
    lines = [cursor.Line(n, json.dumps(each).encode() + b"\n") for n, each in enumerate(records)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        sender = threading.Thread(target=deliver.Journal(path).send, args=[lines, ""])
        sender.start()
        got = [fields(journal.recv(1 << 20)) for _ in lines]
        sender.join()
    return got


def test_a_cursor_reads_every_record_once_whatever_the_portions(tmp_path: Path) -> None:
    written(tmp_path / "made", 500, "x" * 900)
    made = (tmp_path / "made").read_bytes().splitlines(keepends=True)
    top = tmp_path / "log"
    top.mkdir()
    for first, end in ((0, 100), (100, 101), (101, 400)):
        (top / segments.name_of(first)).write_bytes(b"".join(made[first:end]))
    (top / "decisions.jsonl").write_bytes(b"".join(made[400:]))
    found: list[cursor.Line] = []
    while True:
        stands = cursor.Cursor(tmp_path / "cursor")
        lines = stands.lines(top, 7 + len(found) % 90)
        if not lines:
            break
        stands.keep()
        found += lines
    assert [line.data for line in found] == made and [line.seq for line in found] == list(range(500))
