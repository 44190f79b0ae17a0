"""Fixtures: the real command on private paths, and a log that the real writer has written."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from support.sandbox import ROOT, Result, Sandbox

APPEND = """
from fhir_hook.store import log
import sys
try:
    for n in range(int(sys.argv[1])):
        record = log.append({"event": "test", "n": n, "who": sys.argv[2] if len(sys.argv) > 2 else ""})
        print(record["seq"], flush=True)
except log.LogError as error:
    print("refused:", error, flush=True)
"""


class Bench:
    """A host of its own: `sandbox` with the log, and the command."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.log = sandbox.log
        self.file = sandbox.log / "decisions.jsonl"
        self.tree = sandbox.state / "tree"
        self.keys = sandbox.state / "keys"

    def argv(self, *arguments: str | Path) -> list[str]:
        """The command line of fhir-hook."""
        return ["/usr/bin/python3", "-P", "-s", "-B", "-m", "fhir_hook.cli.main", *map(str, arguments)]

    def __call__(self, *arguments: str | Path, check: bool = False, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run fhir-hook; with `check` it must succeed."""
        done: Result = self.sandbox.run(self.argv(*arguments), env={"PYTHONPATH": str(ROOT)}, **more)
        text = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
        assert not check or done.returncode == 0, text.stdout + text.stderr
        assert "Traceback" not in text.stderr and "a defect" not in text.stderr, text.stderr
        return text

    def json(self, *arguments: str | Path) -> Any:
        """What the command prints as JSON."""
        done = self(*arguments, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def append(self, count: int, who: str = "") -> None:
        """Add records with the hook's own writer."""
        said = self.sandbox.python(APPEND, str(count), who)
        assert said.count(b"\n") == count and b"refused" not in said, said

    def key(self) -> str:
        """The verifier key."""
        return self("log", "key", "show", check=True).stdout.strip()

    def lines(self) -> list[bytes]:
        """The lines of the current file."""
        return self.file.read_bytes().splitlines(keepends=True)

    def copy(self, to: Path) -> Path:
        """The log's files without anything of the host besides."""
        to.mkdir()
        for path in self.log.iterdir():
            (to / path.name).write_bytes(path.read_bytes())
        return to


@pytest.fixture
def new_host(tmp_path: Path) -> Callable[[str], Bench]:
    """Makes hosts that know nothing of each other."""
    return lambda name: Bench(Sandbox(tmp_path / name))


@pytest.fixture
def host(new_host: Callable[[str], Bench]) -> Bench:
    """A host with an empty log and no key."""
    return new_host("host")


@pytest.fixture
def signed(host: Bench) -> Bench:
    """A host whose log has a key, 20 records and a checkpoint over all of them."""
    host.append(19)
    host("log", "key", "new", "--origin", "test.example/log", check=True)
    assert host.json("log", "checkpoint")["size"] == 20
    return host


def killing(call: str, argv: list[str]) -> Iterator[list[str]]:
    """Command lines that run `argv` and kill it with SIGKILL on entering its first, second, ... system call `call`."""
    for at in range(1, 200):
        yield ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={at}", *argv]


def rechained(lines: list[bytes], start: int) -> list[bytes]:
    """The lines with seq and prev put right from `start` on, as somebody with root's rights would do it."""
    out = lines[:start]
    for seq in range(start, len(lines)):
        record = json.loads(lines[seq])
        record["seq"] = seq
        record["prev"] = sha256(out[-1]).hexdigest() if out else "0" * 64
        out.append((json.dumps(record, separators=(",", ":")) + "\n").encode())
    return out


def written(path: Path, count: int, more: str = "x") -> None:
    """A log of `count` short records, chained as the hook would chain them."""
    prev = "0" * 64
    with path.open("wb") as file:
        for seq in range(count):
            when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(1_700_000_000 + seq))
            line = f'{{"time":"{when}.000000Z","seq":{seq},"prev":"{prev}","event":"test","x":"{more}"}}\n'.encode()
            file.write(line)
            prev = sha256(line).hexdigest()


@pytest.fixture
def chosen() -> Iterator[random.Random]:
    """Choices that are the same each time, unless FHIR_HOOK_SEED says otherwise."""
    seed = os.environ.get("FHIR_HOOK_SEED", "7")
    yield random.Random(seed)
