"""Fixtures: the collector on private paths, and users of this machine who connect to it."""

from __future__ import annotations

import base64
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from audit.conftest import Bench
from support.sandbox import ROOT, Sandbox

# Reads packets from stdin, base64, one a line; sends each, and prints the answer, or what went wrong.
CLIENT = """
import base64, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(20)
s.connect(sys.argv[1])
for line in sys.stdin:
    try:
        s.send(base64.b64decode(line))
        print((s.recv(4096) or b'{"result": "gone"}').decode(), flush=True)
    except OSError as error:
        print('{"result": "%s"}' % error.strerror, flush=True)
"""


class UserLog:
    """A user's log as the hook writes it there: `lines`, chained."""

    def __init__(self, name: str = "fhir") -> None:
        self.lines: list[bytes] = []
        self.name = name

    def append(self, **fields: Any) -> bytes:
        """Add a record; returns its line."""
        prev = sha256(self.lines[-1]).hexdigest() if self.lines else "0" * 64
        record = {"time": "2026-11-21T10:00:00.000000Z", "seq": len(self.lines), "prev": prev}
        about = {"event": "decision", "decision": "confined", "container": {"id": "c" * 64, "name": self.name}}
        stamp = {"user": {"uid": 0, "login": 0}, "host": "another", "boot": "b"}
        line = (json.dumps({**record, **about, **stamp, **fields}, separators=(",", ":")) + "\n").encode()
        self.lines.append(line)
        return line


class Collecting:
    """The collector, its host, and clients under any user's id."""

    def __init__(self, bench: Bench, directory: Path) -> None:
        self.bench = bench
        self.socket = directory / "collect.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def argv(self) -> list[str]:
        """The collector's command line."""
        return self.bench.argv("log", "collect", "--socket", self.socket, "--json")

    def start(self, before: Sequence[str] = ()) -> None:
        """Start it, by another command if one is given."""
        self.socket.unlink(missing_ok=True)
        command = self.bench.sandbox.command([*before, *self.argv()])
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        end = time.monotonic() + 20
        while not self.socket.exists() and time.monotonic() < end and self._process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.1)

    def stop(self, number: int = signal.SIGTERM) -> str:
        """End it; returns what it said on stderr."""
        assert self._process is not None
        self._process.send_signal(number)
        _, error = self._process.communicate(timeout=30)
        if number == signal.SIGTERM:
            assert self._process.returncode == 0, error
        self._process = None
        return error.decode()

    def end(self) -> None:
        """End it, if it has not been killed."""
        assert self._process is not None
        self._process.terminate()
        self._process.communicate(timeout=30)
        self._process = None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def memory(self) -> int:
        """KiB that it holds."""
        assert self._process is not None
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS")))

    def client(self, user: str) -> subprocess.Popen[str]:
        """A client under a user's id."""
        who = pwd.getpwnam(user)
        argv = ["/usr/bin/python3", "-I", "-c", CLIENT, str(self.socket)]
        return subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, user=who.pw_uid, group=who.pw_gid, cwd="/"
        )

    def send(self, user: str, packets: Sequence[bytes]) -> list[dict[str, Any]]:
        """Send packets as a user; returns the answers."""
        text = "".join(base64.b64encode(packet).decode() + "\n" for packet in packets)
        client = self.client(user)
        out, _ = client.communicate(text, timeout=60)
        return [json.loads(line) for line in out.splitlines()]

    def results(self, user: str, packets: Sequence[bytes]) -> list[str]:
        """Send packets as a user; returns the results alone."""
        return [answer["result"] for answer in self.send(user, packets)]

    def records(self) -> list[dict[str, Any]]:
        """The host's records that came from users."""
        return [record for record in self.bench.sandbox.records if "from" in record] if self.bench.file.exists() else []


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Collecting]:
    """The collector, not started yet."""
    directory = Path(tempfile.mkdtemp(prefix="collect-"))
    directory.chmod(0o755)
    found = Collecting(Bench(Sandbox(tmp_path / "host")), directory)
    yield found
    if found.alive:
        found.stop(signal.SIGKILL)
    shutil.rmtree(directory)


@pytest.fixture
def collecting(stopped: Collecting) -> Collecting:
    """The collector, running."""
    stopped.start()
    return stopped


@pytest.fixture
def user_log() -> Callable[..., UserLog]:
    """Makes users' logs."""
    return UserLog
