"""A witness over real HTTP, and the command that asks it; a witness that restarts, is killed, is lied to, or is
away."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit.conftest import Bench
from fhir_hook.audit import checkpoint, merkle, note, witness
from support.sandbox import ROOT

LOG = note.Signer("log.example", b"l" * 32)
OTHER = note.Signer("log.example", b"o" * 32)
SELF = note.Signer("witness.example/w1", b"w" * 32, note.COSIGNATURE)
LEAVES = [merkle.leaf_hash(b"%d" % n) for n in range(100)]


def subtree(height: int, index: int) -> bytes:
    return merkle.fold(b"".join(LEAVES[index << height : (index + 1) << height]))


def request(
    old: int, size: int, signer: note.Signer = LOG, root: bytes = b"", proof: list[bytes] | None = None
) -> bytes:
    """An add-checkpoint request."""
    at = checkpoint.Checkpoint("log.example", size, root or merkle.range_hash(subtree, 0, size))
    hashes = merkle.consistency_proof(subtree, old, size) if proof is None else proof
    lines = "".join(f"{note.base64_of(each)}\n" for each in hashes)
    return f"old {old}\n{lines}\n".encode() + checkpoint.sign(at, [signer])


@pytest.fixture
def kept(tmp_path: Path) -> witness.Witness:
    return witness.Witness(tmp_path, SELF, [LOG.verifier])


def test_a_growing_log_is_cosigned_and_the_cosignature_verifies(kept: witness.Witness) -> None:
    for old, size in ((0, 1), (1, 7), (7, 7), (7, 64), (64, 100)):
        body = request(old, size)
        answer = kept.add(body)
        assert answer.status == 200, answer.body
        data = body.partition(b"\n\n")[2]
        found = checkpoint.opened(data + answer.body.encode(), [LOG.verifier, SELF.verifier])
        assert found.keys[1].startswith("witness.example/w1+") and found.checkpoint.size == size


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (request(0, 50), 409),
        (request(39, 50), 409),
        (request(40, 39, proof=[]), 400),
        (request(40, 50, OTHER), 403),
        (request(40, 50, root=b"x" * 32), 422),
        (request(40, 50, proof=[]), 422),
        (request(40, 40, root=b"x" * 32, proof=[]), 409),
        (request(40, 40, proof=[b"x" * 32]), 422),
        (request(40, 50, proof=[b"x" * 32] * 64), 400),
        (request(40, 50, proof=[b"x" * 31]), 400),
        (request(40, 50).replace(b"log.example\n", b"another.example\n"), 404),
        (request(40, 50).replace(b"old 40", b"old 040"), 400),
        (request(40, 50).replace(b"old 40", b"old -1"), 400),
        (request(40, 50).replace(b"old 40", b"OLD 40"), 400),
        (b"", 400),
        (b"\x00\xff" * 1000, 400),
        (b"old 0\n\n", 400),
    ],
)
def test_what_does_not_follow_from_what_was_cosigned_is_refused_with_the_specification_s_status(
    kept: witness.Witness, body: bytes, status: int
) -> None:
    assert kept.add(request(0, 40)).status == 200
    answer = kept.add(body)
    assert answer.status == status, answer.body
    if status == 409:
        assert (answer.body, answer.type) == ("40\n", "text/x.tlog.size")
    last = kept.last("log.example")
    assert last and last.checkpoint.size == 40, "nothing that was refused is kept"


def test_a_witness_whose_memory_is_damaged_cosigns_nothing(kept: witness.Witness, tmp_path: Path) -> None:
    kept.add(request(0, 40))
    next(tmp_path.glob("*.checkpoint")).write_text("")
    assert kept.add(request(0, 50)).status == 500


class Running:
    """A witness in a process of its own."""

    def __init__(self, state: Path, key: str) -> None:
        self._argv = ["/usr/bin/python3", "-P", "-s", "-B", "-m", "fhir_hook.cli.main", "log", "witness-serve"]
        self._argv += ["--state", str(state), "--name", "witness.example/w1"]
        self._argv += ["--log-key", key, "--listen", "127.0.0.1:0"]
        self.start()

    def start(self) -> None:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(self._argv, env=env, text=True, **pipes)
        assert self._process.stdout
        self.key = self._process.stdout.readline().strip()
        self.url = "http://" + self._process.stdout.readline().split()[-1]

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def running(signed: Bench, tmp_path: Path) -> Iterator[Running]:
    found = Running(tmp_path / "witness", signed.key())
    yield found
    found.kill()


def ask(host: Bench, running: Running) -> subprocess.CompletedProcess[str]:
    return host("log", "witness", "--url", running.url, "--witness-key", running.key)


def test_a_host_has_its_checkpoints_cosigned_and_an_auditor_verifies_both(
    signed: Bench, running: Running, new_host: Callable[[str], Bench], tmp_path: Path
) -> None:
    for more in (0, 1, 300):
        if more:
            signed.append(more)
            signed("log", "checkpoint", check=True)
        done = ask(signed, running)
        assert done.returncode == 0, done.stderr
    at = tmp_path / "cosigned"
    at.write_text(done.stdout)
    options = ("--key", signed.key(), "--key", running.key, "--checkpoint", at)
    done = new_host("auditor")("log", "verify", "--log", signed.copy(tmp_path / "copy"), *options)
    assert done.returncode == 0 and "witness.example/w1+" in done.stdout, done.stderr


def test_a_witness_remembers_across_kill_9_and_restart(signed: Bench, running: Running) -> None:
    assert ask(signed, running).returncode == 0
    running.kill()
    done = ask(signed, running)
    assert done.returncode == 3 and "can't be reached" in done.stderr and len(done.stderr.splitlines()) == 1
    key = running.key
    running.start()
    assert running.key == key
    signed.append(5)
    signed("log", "checkpoint", check=True)
    assert ask(signed, running).returncode == 0


def test_a_host_that_lost_its_memory_of_the_witness_is_told_the_size_and_goes_on(
    signed: Bench, running: Running
) -> None:
    assert ask(signed, running).returncode == 0
    shutil.rmtree(signed.tree / "witnessed")
    signed.append(5)
    signed("log", "checkpoint", check=True)
    assert ask(signed, running).returncode == 0


def test_a_host_put_back_to_an_older_state_is_found_out_by_the_witness(
    signed: Bench, running: Running, tmp_path: Path
) -> None:
    for directory in (signed.log, signed.sandbox.state):
        shutil.copytree(directory, tmp_path / "backup" / directory.name)
    signed.append(5)
    signed("log", "checkpoint", check=True)
    assert ask(signed, running).returncode == 0
    for directory in (signed.log, signed.sandbox.state):
        shutil.rmtree(directory)
        shutil.copytree(tmp_path / "backup" / directory.name, directory)
    signed("log", "checkpoint", check=True)
    done = ask(signed, running)
    assert done.returncode == 1 and "its end was cut off, or another host signs as this log" in done.stderr
    signed.append(9)
    signed("log", "checkpoint", check=True)
    done = ask(signed, running)
    assert done.returncode == 1 and "another history" in done.stderr


def test_a_request_without_end_or_of_any_size_does_not_stop_the_witness(signed: Bench, running: Running) -> None:
    address = running.url.removeprefix("http://")
    for headers, body in (
        ({"Content-Length": "99999999999"}, b""),
        ({"Content-Length": "-5"}, b""),
        ({}, b"x" * (1 << 20)),
    ):
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            connection.request("POST", "/add-checkpoint", body, headers)
            assert connection.getresponse().status in (400, 413)
        except (ConnectionError, http.client.HTTPException):
            pass
    slow = http.client.HTTPConnection(address, timeout=10)
    slow.putrequest("POST", "/add-checkpoint")
    slow.putheader("Content-Length", "1000")
    slow.endheaders()
    assert ask(signed, running).returncode == 0
