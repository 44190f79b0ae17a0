"""Fixtures: the recorder on the tree's own code, programs that it records, the kernel's rate limit lifted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host.machine import ROOT, Host
from servers.kernel_log import unlimited

PROGRAMS = Path(__file__).resolve().parent / "programs"
FREESTANDING = ("-nostdlib", "-ffreestanding", "-fno-stack-protector")
STATIC = ("gcc", "-Os", "-Wall", "-Wextra", "-Werror", "-static", "-no-pie")
BUILDS = {
    "known": (*FREESTANDING, "known.c"),
    "server": ("-pthread", "server.c"),
    "busy": ("busy.c",),
    "named": ("named.c",),
    "i386": ("-m32", "-nostdlib", "i386.s"),
}


@pytest.fixture(scope="session")
def programs(bare_host: Host) -> Path:
    """A directory with the static programs of these tests and of the probe image."""
    directory = bare_host.directory()
    for name, words in BUILDS.items():
        subprocess.run([*STATIC, "-o", directory / name, *words], cwd=PROGRAMS, check=True)
    return directory


class Tool:
    """`fhir-hook profile`, from the tree, in a directory of its own."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self.directory = directory

    def words(self, *arguments: str | Path) -> list[str]:
        """The command line."""
        start = [sys.executable, "-P", "-B", "-m", "fhir_hook.cli.main", "profile"]
        return [*start, *(str(argument) for argument in arguments)]

    def begin(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Begin to record, with stderr to read."""
        words = self.words("record", "--profiles", ROOT / "profiles", "--output", "seen.json", "--profile", "mine")
        return subprocess.Popen(
            [*words, *(str(argument) for argument in arguments)],
            cwd=self.directory,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def environment(self) -> dict[str, str]:
        """What the command needs to find the tree."""
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(self, verb: str, *arguments: str | Path, timeout: float = 280) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.words(verb, "--profiles", ROOT / "profiles", *arguments),
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def record(self, *arguments: str | Path, code: int = 0, **more: Any) -> dict[str, Any]:
        """Record, and return the recording; AssertionError when the exit code is another."""
        done = self.run("record", "--output", "seen.json", "--profile", "mine", *arguments, **more)
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}{done.stderr}"
        self.said = done.stdout + done.stderr
        found: dict[str, Any] = json.loads((self.directory / "seen.json").read_text())
        return found

    def test(self, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
        """Try a profile, and return the report; AssertionError when the exit code is another."""
        done = self.run("test", "--json", *arguments)
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}{done.stderr}"
        report: dict[str, Any] = json.loads(done.stdout)
        return report


@pytest.fixture
def tool(bare_host: Host) -> Tool:
    """The command, in an empty directory."""
    return Tool(bare_host, bare_host.directory())


@pytest.fixture
def probe(bare_host: Host, programs: Path) -> list[str]:
    """The target and options to record a program of these tests, which are below /p."""
    bare_host.load("probe:plain")
    return ["probe:plain", "--podman", f"--network none -v {programs}:/p:ro"]


@pytest.fixture
def script(bare_host: Host) -> Callable[[str], Path]:
    """An executable shell script with this text, to be a workload."""

    def write(text: str) -> Path:
        path = bare_host.directory() / "work"
        path.write_text(f"#!/bin/sh\nset -e\n{text}\n")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def every_denial() -> Iterator[None]:
    """No rate limit of the kernel's log: in a network namespace of its own this host gets no audit records."""
    with unlimited():
        yield


@pytest.fixture
def default_runtime(bare_host: Host) -> Iterator[Callable[[str], None]]:
    """Make an OCI runtime podman's default, until the test ends."""
    file = Path("/etc/containers/containers.conf.d/90-runtime.conf")

    def choose(name: str) -> None:
        file.write_text(f'[engine]\nruntime = "{name}"\n')

    yield choose
    file.unlink(missing_ok=True)


@pytest.fixture
def workload() -> Path:
    """The FHIR client of the server tests."""
    return ROOT / "tests" / "servers" / "programs" / "workload.py"
