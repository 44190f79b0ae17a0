"""Fixtures: profiles of the tests' own, settings and states that are put back, what a program of an image leaves."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fhir_hook.authoring import settings as settings_module
from host.machine import Host
from system.support import FHIR, LIVE, PLAIN, SETTINGS, STATE, policy_index, wait_until

SHIPPED = Path("/usr/share/fhir-hook/profiles")


def _local(name: str, more: dict[str, Any], syscalls: list[dict[str, Any]]) -> None:
    profile = json.loads((SHIPPED / "hapi.json").read_text())
    profile.update({"name": name, **more})
    profile.pop("match", None)
    profile["seccomp"]["syscalls"] = [*profile["seccomp"].get("syscalls", []), *syscalls]
    (SETTINGS / "profiles" / f"{name}.json").write_text(json.dumps(profile))


@pytest.fixture(scope="session")
def host(host: Host) -> Host:
    """The private host with the product, three profiles of the administrator's own, and the probe's images.

    test-loose is the profile hapi and seccomp(2), with CAP_KILL; test-locked is hapi, but no image may name it;
    test-complain is hapi in complain mode.
    """
    seccomp = {
        "names": ["seccomp"],
        "reason": "the tests tell by it which profile is in force",
        "action": "SCMP_ACT_ALLOW",
    }
    _local("test-loose", {"capabilities": {"keep": ["CAP_KILL"]}}, [seccomp])
    _local("test-locked", {"nameable": False}, [])
    _local("test-complain", {"mode": "complain"}, [])
    host.run(["fhir-hook", "policy", "compile"], check=True)
    for user in (None, "rootless"):
        for tag in (FHIR, PLAIN):
            host.load(tag, user)
    return host


@pytest.fixture
def kept(host: Host, tmp_path: Path) -> Iterator[None]:
    """Settings, local profiles and policy may be changed: they are put back afterwards."""
    saved = {STATE: tmp_path / "state", SETTINGS: tmp_path / "settings"}
    for directory, copy in saved.items():
        subprocess.run(["cp", "-a", directory, copy], check=True)
    yield
    for directory, copy in saved.items():
        directory.mkdir(exist_ok=True)
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        # With times: the policy knows its sources by them.
        subprocess.run(["cp", "-a", f"{copy}/.", directory], check=True)


@pytest.fixture
def settings(host: Host, kept: None) -> Callable[[str], None]:
    """Put TOML text in force as settings, until the test ends, with the profiles as they are compiled already."""

    def change(text: str) -> None:
        (SETTINGS / "config.toml").write_text(text)
        wanted = settings_module.load()
        index = {**policy_index(), "settings": wanted.values, "bindings": wanted.bindings}
        (STATE / "selectors.json").write_text(json.dumps(index))

    return change


@pytest.fixture
def run(host: Host) -> Callable[..., Any]:
    """podman run --rm --network none; options that stand before "run" are given as `before`."""

    def begin(
        tag: str, *words: str, options: tuple[str | Path, ...] = (), before: tuple[str, ...] = (), **more: Any
    ) -> Any:
        network = () if "--network" in options else ("--network", "none")
        return host.podman(*before, "run", "--rm", *network, *options, tag, *words, **more)

    return begin


@pytest.fixture
def marker(host: Host) -> Callable[..., tuple[tuple[str, ...], Callable[[], str]]]:
    """A file that the container's first program writes its own status to: whether it ran, and how it was confined.

    Returns the options and a function that reads the file ("" when the program never ran).
    """

    def make(user: str | None = None) -> tuple[tuple[str, ...], Callable[[], str]]:
        directory = host.directory(user)
        directory.chmod(0o777)
        file = directory / "ran"
        return ("-v", f"{directory}:/marker"), lambda: file.read_text() if file.exists() else ""

    return make


def _has_outcome(host: Host, id: str, user: str | None) -> bool:
    return any(r["event"] == "outcome" and r["container"]["id"] == id for r in host.records(user))


@pytest.fixture
def start(host: Host) -> Iterator[Callable[..., str]]:
    """podman run -d, removed when the test ends; options that stand before "run" are given as `before`."""
    started: list[tuple[str, str | None]] = []

    def begin(tag: str, *options: Any, command: Sequence[str] = (), before: tuple[str, ...] = (), **more: Any) -> str:
        done = host.podman(*before, "run", "-d", "--network", "none", *options, tag, *command, check=True, **more)
        container = str(done.stdout.strip().splitlines()[-1])
        started.append((container, more.get("user")))
        if before == LIVE:
            # The attacher writes the outcome while podman returns, just before the program's first instruction.
            wait_until(lambda: _has_outcome(host, container, more.get("user")), "the live outcome's record")
        return container

    yield begin
    for container, who in started:
        host.podman("rm", "-f", "-t", "0", container, user=who)
