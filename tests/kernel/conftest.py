"""Fixtures: the compiled victims, started ones that end with the test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel.driver import SOURCES, Victim

FLAGS = {"first": ["-nostdlib"]}


@pytest.fixture(scope="session")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with the compiled static programs of tests/kernel/victims, readable by every user."""
    if os.geteuid() != 0:
        pytest.fail("the kernel's tests must be run as root: run make test")
    if shutil.which("gcc") is None:
        pytest.fail("gcc is missing: apt-get install gcc libc6-dev")
    built = tmp_path_factory.mktemp("victims")
    for source in SOURCES.glob("*.c"):
        flags = ["-O2", "-static", "-pthread", "-Wall", "-Wextra", "-Werror", *FLAGS.get(source.stem, [])]
        subprocess.run(["gcc", *flags, "-o", built / source.stem, source], check=True)
    for path in (built, *built.parents[:2]):
        path.chmod(0o755)
    return built


@pytest.fixture
def start(victims: Path) -> Iterator[Callable[..., Victim]]:
    """Start a victim by its name; it ends with the test."""
    started: list[Victim] = []

    def begin(name: str, *arguments: str | Path) -> Victim:
        victim = Victim(victims / name, *arguments)
        started.append(victim)
        return victim

    yield begin
    for victim in started:
        victim.end()
