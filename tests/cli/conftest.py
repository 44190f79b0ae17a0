"""Fixtures: the installed command, with settings, policy and log that are put back when a test ends."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host.machine import Host, Result

KEPT = (Path("/etc/fhir-hook"), Path("/var/lib/fhir-hook"), Path("/var/log/fhir-hook"))

Command = Callable[..., Result]


@pytest.fixture
def command(host: Host, tmp_path: Path) -> Iterator[Command]:
    """fhir-hook, as installed; returns what it printed and its exit code."""
    for number, directory in enumerate(KEPT):
        subprocess.run(["cp", "-a", directory, tmp_path / str(number)], check=True)

    def run(*arguments: str | Path, **more: Any) -> Result:
        return host.run(["fhir-hook", *arguments], **more)

    yield run
    for number, directory in enumerate(KEPT):
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        subprocess.run(["cp", "-a", f"{tmp_path / str(number)}/.", directory], check=True)


def records(command: Command) -> list[dict[str, Any]]:
    """The log as the command prints it."""
    return [json.loads(line) for line in command("log", "--json").stdout.splitlines()]
