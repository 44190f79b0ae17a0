"""Delivering to an audit record repository: HAPI's JPA server, and one that has faults and speaks TLS."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from fhir.resources.R4B.auditevent import AuditEvent

from audit.conftest import Bench, killing
from audit.test_forward import certificate
from exports.conftest import KINDS
from fhir_hook.exports import fhir, repository
from host.machine import Host
from support.sandbox import ROOT

ENV = {"PYTHONPATH": str(ROOT)}


class Kept:
    """A repository over TLS that keeps resources as FHIR says: by id, or conditionally by tag. `fault` comes first."""

    def __init__(self, pem: Path, client: Path | None = None) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.requests = 0
        self.fault: Callable[[list[Any]], tuple[int, Any] | None] = lambda entries: None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        if client:
            self._context.load_verify_locations(client)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self.port = 0
        self.start()

    @property
    def records(self) -> list[dict[str, Any]]:
        """All but the checkpoints."""
        return [event for event in self.kept.values() if not event["outcomeDesc"].startswith("the log was signed")]

    def start(self) -> None:
        here = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = here.answer(self.path, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *args: None  # type: ignore[method-assign]
        self._server.socket = self._context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, bundle: dict[str, Any]) -> tuple[int, Any]:
        self.requests += 1
        assert (path, bundle["resourceType"], bundle["type"]) == ("/fhir", "Bundle", "batch")
        faulty = self.fault(bundle["entry"])
        if faulty:
            return faulty
        said = [{"response": {"status": self.keep(entry)}} for entry in bundle["entry"]]
        return 200, {"resourceType": "Bundle", "type": "batch-response", "entry": said}

    def keep(self, entry: dict[str, Any]) -> str:
        request, resource = entry["request"], entry["resource"]
        if request["method"] == "PUT":
            assert request["url"] == f"AuditEvent/{resource['id']}"
            key = resource["id"]
        else:
            tag = resource["meta"]["tag"][0]
            assert (request["method"], request["url"]) == ("POST", "AuditEvent") and "id" not in resource
            assert unquote(request["ifNoneExist"]) == f"_tag={tag['system']}|{tag['code']}"
            key = tag["code"]
        new = key not in self.kept
        assert new or self.kept[key] == resource
        self.kept[key] = resource
        return "201 Created" if new else "200 OK"


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    return certificate(tmp_path, "repository")


@pytest.fixture
def kept(pem: Path) -> Iterator[Kept]:
    made = Kept(pem)
    yield made
    made.stop()


def options(kept: Kept, pem: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return ("log", "deliver", "--to", f"https://127.0.0.1:{kept.port}/fhir", "--ca", pem, *more)


@pytest.mark.parametrize("create", [(), ("--create",)], ids=["update", "create"])
def test_every_record_is_kept_once_across_runs_and_rotation(
    full: Bench, kept: Kept, pem: Path, create: tuple[str, ...]
) -> None:
    count = len(full.lines())
    assert full.json(*options(kept, pem, *create)) == {"delivered": count, "left_out": 0}
    assert full.json(*options(kept, pem, *create)) == {"delivered": 0, "left_out": 0}
    full("log", "rotate", "--now", check=True)
    full.append(250)
    assert full.json(*options(kept, pem, *create)) == {"delivered": 251, "left_out": 0}
    assert len(kept.records) == count + 251
    for resource in kept.records[: count + 3]:
        AuditEvent.model_validate(resource)


@pytest.mark.parametrize("create", [(), ("--create",)], ids=["update", "create"])
@pytest.mark.parametrize("call", ["connect", "write", "rename", "fsync"])
def test_kill_9_at_any_call_loses_nothing_and_keeps_nothing_twice(
    full: Bench, kept: Kept, pem: Path, call: str, create: tuple[str, ...]
) -> None:
    kills = 0
    for argv in killing(call, full.argv(*options(kept, pem, *create))):
        full.append(1)
        if full.sandbox.run(argv, env=ENV).returncode == 0 or kills > 25:
            break
        kills += 1
    assert kills
    full(*options(kept, pem, *create), check=True)
    assert len(kept.records) == len(full.lines())


def test_a_repository_that_is_away_gets_everything_when_it_is_back(full: Bench, kept: Kept, pem: Path) -> None:
    kept.stop()
    for _ in range(2):
        full.append(60)
        done = full(*options(kept, pem))
        assert done.returncode == 3 and len(done.stderr.splitlines()) == 1 and "stays for the next time" in done.stderr
    kept.start()
    full(*options(kept, pem), check=True)
    assert len(kept.records) == len(full.lines())


def test_answers_that_are_lost_on_the_way_make_nothing_twice(full: Bench, kept: Kept, pem: Path) -> None:
    full.append(300)
    lost = 0

    def lose(entries: list[Any]) -> None:
        nonlocal lost
        if lost < 3:
            lost += 1
            for entry in entries:
                kept.keep(entry)
            raise ConnectionResetError

    kept.fault = lose
    while full(*options(kept, pem)).returncode != 0:
        assert lost < 4
    assert lost == 3 and len(kept.records) == len(full.lines())


def away(status: int) -> Callable[[list[Any]], tuple[int, Any]]:
    return lambda entries: (status, {"issue": [{"diagnostics": "come back \x1b[31mlater"}]})


def third_refused(entries: list[Any]) -> tuple[int, Any]:
    said = [{"response": {"status": "201 Created"}} for _ in entries]
    outcome = {"issue": [{"diagnostics": "not wanted"}]}
    said[3] = {"response": {"status": "422 Unprocessable", "outcome": outcome}}
    return 200, {"entry": said}


FAULTS: dict[str, Callable[[list[Any]], tuple[int, Any]]] = {
    **{f"HTTP {status}": away(status) for status in (301, 400, 401, 404, 429, 500, 503)},
    "one entry refused": third_refused,
    "fewer answers than entries": lambda entries: (200, {"entry": [{"response": {"status": "201"}}]}),
    "no bundle": lambda entries: (200, [1]),
    "no JSON at all": lambda entries: (200, "x" * 100),
    "entries that are none": lambda entries: (200, {"entry": [7] * len(entries)}),
    "a transaction's silence": lambda entries: (200, {"entry": [{}] * len(entries)}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_accepted_is_not_taken_for_delivered_and_comes_again(
    full: Bench, kept: Kept, pem: Path, fault: str
) -> None:
    kept.fault = FAULTS[fault]
    done = full(*options(kept, pem))
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 1 and done.stderr.isascii()
    assert "\x1b" not in done.stderr
    assert "record 3 is not accepted: 422 Unprocessable not wanted" in done.stderr or fault != "one entry refused"
    kept.fault = lambda entries: None
    full(*options(kept, pem), check=True)
    assert len(kept.records) == len(full.lines())


def test_a_following_sender_survives_the_repositorys_restart(full: Bench, kept: Kept, pem: Path) -> None:
    argv = full.sandbox.command(full.argv(*options(kept, pem, "--follow")))
    process = subprocess.Popen(argv, env={**os.environ, **ENV}, stderr=subprocess.DEVNULL)
    try:
        for restart in (False, True):
            if restart:
                kept.stop()
            full.append(5)
            if restart:
                time.sleep(2)
                kept.start()
            end = time.monotonic() + 40
            while len(kept.records) < len(full.lines()) and time.monotonic() < end:
                time.sleep(0.1)
            assert len(kept.records) == len(full.lines())
    finally:
        process.kill()
        process.wait()


def test_a_line_that_is_no_record_is_said_and_does_not_hold_up_the_others(full: Bench, kept: Kept, pem: Path) -> None:
    full.file.write_bytes(full.file.read_bytes() + b"damaged\n")
    full.append(1)
    done = full(*options(kept, pem))
    assert done.returncode == 0 and "is no record, and was left out" in done.stderr
    assert len(kept.records) == len(full.lines()) - 1


def test_attack_a_server_with_another_certificate_gets_nothing(full: Bench, kept: Kept, tmp_path: Path) -> None:
    done = full(*options(kept, certificate(tmp_path, "other")))
    assert done.returncode == 3 and "certificate verify failed" in done.stderr
    done = full("log", "deliver", "--to", f"https://127.0.0.1:{kept.port}/fhir")
    assert done.returncode == 3 and kept.kept == {} and kept.requests == 0


def test_the_client_shows_its_certificate_where_the_server_wants_one(full: Bench, pem: Path, tmp_path: Path) -> None:
    own = certificate(tmp_path, "client")
    strict = Kept(pem, own)
    try:
        assert full(*options(strict, pem)).returncode == 3 and strict.kept == {}
        full(*options(strict, pem, "--certificate", own), check=True)
        assert len(strict.records) == len(full.lines())
    finally:
        strict.stop()


@pytest.mark.parametrize(
    "base",
    ["http://audit.example/fhir", "ftp://x/", "https://", "x", "https://u:p@host/", "https://h/?q=1", "https://h:x/",
     "https://h/ HTTP/1.1\r\nX: y", "http://localhost.evil.example/", "https://h/\u00e9"],
)  # fmt: skip
def test_attack_an_address_that_is_none_or_leaves_the_host_in_the_clear(full: Bench, base: str) -> None:
    with pytest.raises(repository.AddressError):
        repository.address(base)
    done = full("log", "deliver", "--to", base)
    assert done.returncode == 2 and not (full.sandbox.state / "forward").exists()


@pytest.mark.timeout(600)
def test_a_real_fhir_server_validates_and_keeps_each_record_once_whoever_kills_the_sender(
    bare_host: Host, full: Bench
) -> None:
    """HAPI's JPA server: $validate finds nothing, and its own count is that of the log, after kills and repetition."""
    server = bare_host.start(bare_host.load("hapi:jpa"), hooks=False)
    try:
        bare_host.wait_http(server, "http://127.0.0.1:8080/fhir/metadata", 240)
        inside = ["nsenter", "-n", "-t", str(bare_host.pid(server))]
        deliver = full.argv("log", "deliver", "--to", "http://127.0.0.1:8080/fhir")
        full.append(40)
        killed = 0
        for call, at in (("sendto", 1), ("sendto", 2), ("recvfrom", 1), ("recvfrom", 2), ("rename", 1)):
            spec = f"inject={call}:signal=KILL:when={at}"
            traced = [*inside, "strace", "-f", "-qq", "-o", "/dev/null", "-e", spec, *deliver]
            killed += full.sandbox.run(traced, env=ENV).returncode != 0
        assert killed == 5
        for _ in range(2):
            done = full.sandbox.run([*inside, *deliver], env=ENV)
            assert done.returncode == 0, done.stderr
        whole = len(full.lines()) + 1  # and the checkpoint
        assert count(bare_host, server) == whole
        (full.sandbox.state / "forward").rename(full.sandbox.state / "forward-lost")
        done = full.sandbox.run([*inside, *deliver], env=ENV)
        assert done.returncode == 0 and count(bare_host, server) == whole

        conditional = full.sandbox.run([*inside, *deliver, "--create"], env=ENV)
        assert conditional.returncode == 0 and b"delivered 0" in conditional.stdout
        (full.sandbox.state / "forward").rename(full.sandbox.state / "forward-lost-too")
        for _ in range(2):
            done = full.sandbox.run([*inside, *deliver, "--create"], env=ENV)
            assert done.returncode == 0, done.stderr
            assert count(bare_host, server) == 2 * whole, "one more of each: ids and tags are two ways"
            for path in (full.sandbox.state / "forward").iterdir():
                path.unlink()
        validate(bare_host, server, full)
    finally:
        bare_host.podman("rm", "-f", "-t", "0", server)


def count(host: Host, server: str) -> int:
    said = host.http(server, "http://127.0.0.1:8080/fhir/AuditEvent?_summary=count", "-H", "Cache-Control: no-cache")
    total: int = json.loads(said.stdout)["total"]
    return total


def validate(host: Host, server: str, bench: Bench) -> None:
    """One record of each kind, and a checkpoint, by the server's own validator."""
    events = bench("log", "export", "--format", "fhir-ndjson", check=True).stdout.splitlines()[: len(KINDS)]
    signed = fhir.checkpoint_event((bench.tree / "checkpoint").read_text(), datetime.now(UTC), "node1")
    for event in [*events, json.dumps(signed)]:
        said = host.http(
            server, "http://127.0.0.1:8080/fhir/AuditEvent/$validate", "-X", "POST", "-H",
            "Content-Type: application/fhir+json", "-d", event,
        )  # fmt: skip
        issues = json.loads(said.stdout)["issue"]
        assert not [issue for issue in issues if issue["severity"] in ("error", "fatal")], (issues, event)


def test_names_are_hidden_on_the_way_where_the_settings_say_so(full: Bench, kept: Kept, pem: Path) -> None:
    (full.sandbox.etc / "config.toml").write_text('[log]\nnames = "hashed"\n')
    full.sandbox.python("from fhir_hook.store import names\nnames.token('x')")  # from now on there is a key
    full(*options(kept, pem), check=True)
    names = {entity.get("name") for each in kept.kept.values() for entity in each["entity"]}
    assert "fhir" not in names and any(str(name).startswith("name-") for name in names)


@pytest.mark.parametrize("create", [(), ("--create",)])
def test_checkpoints_are_delivered_whole_once_and_vouch_for_the_log_elsewhere(
    full: Bench, kept: Kept, pem: Path, create: tuple[str, ...], tmp_path: Path
) -> None:
    full("log", "checkpoint", check=True)
    for argv in killing("sendto,write", full.argv(*options(kept, pem, *create))):
        subprocess.run(full.sandbox.command(argv), env={**os.environ, **ENV}, capture_output=True, check=False)
        break
    full(*options(kept, pem, *create), check=True)
    full(*options(kept, pem, *create), check=True)
    found = [event for event in kept.kept.values() if event["outcomeDesc"].startswith("the log was signed")]
    assert len(found) == 1 and len(kept.kept) == len(full.lines()) + 1
    AuditEvent.model_validate({name: value for name, value in found[0].items() if name != "meta"})
    (note,) = (d["valueBase64Binary"] for d in found[0]["entity"][0]["detail"] if d["type"] == "signed note")
    held = tmp_path / "held"
    held.write_bytes(base64.b64decode(note))
    assert held.read_bytes() == (full.tree / "checkpoint").read_bytes()
    assert full("log", "verify", "--checkpoint", held).returncode == 0
    full.file.write_bytes(b"".join(full.lines()[:-1]))
    assert full("log", "verify", "--checkpoint", held).returncode == 1
