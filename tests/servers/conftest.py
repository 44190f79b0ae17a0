"""Fixtures: settings that are put back, servers that are removed, containers whose denials the kernel logs."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host.machine import Host
from servers import fhir_server, stack
from servers.fhir_server import SETTINGS, Kind, Server
from servers.stack import Daemon

# Servers whose images take minutes to build: make test-servers runs them.
collect_ignore = [] if fhir_server.FULL else ["test_server_keycloak.py", "test_server_liberty.py"]
UIDS = itertools.count(100_000 + os.getpid() % 10_000 * 100)


@pytest.fixture
def settings(host: Host) -> Iterator[Callable[[str], None]]:
    """Put TOML text in force as settings beside the others, until the test ends."""

    def change(text: str) -> None:
        SETTINGS.write_text(text)
        host.run(["fhir-hook", "policy", "compile"], check=True)

    yield change
    if SETTINGS.exists():
        SETTINGS.unlink()
        host.run(["fhir-hook", "policy", "compile"], check=True)


@pytest.fixture
def serve(host: Host) -> Iterator[Callable[..., Server]]:
    """fhir_server.start, whose containers are removed when the test ends."""
    started: list[Server] = []

    def begin(kind: Kind, *options: Any, **more: Any) -> Server:
        server = fhir_server.start(host, kind, *options, **more)
        started.append(server)
        return server

    yield begin
    for server in started:
        fhir_server.remove(server)


@pytest.fixture
def uid() -> int:
    """A user id that no other container has: the kernel log tells containers by it."""
    return next(UIDS)


@pytest.fixture
def logged(host: Host, uid: int) -> list[str]:
    """Options by which every denial of a container on crun is in the kernel log, under a user id of its own.

    The engine's own filter allows everything, and has SECCOMP_FILTER_FLAG_LOG, which the product keeps.
    """
    file = host.directory() / "logging.json"
    section = {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": []}
    file.write_text(json.dumps(section))
    return [
        "--security-opt",
        f"seccomp={file}",
        "--user",
        f"{uid}:{uid}",
        "-v",
        f"{fhir_server.programs(host)}:/probe:ro",
    ]


@pytest.fixture(scope="session")
def jdk_calls(host: Host) -> Path:
    """The directory of the compiled class JdkCalls."""
    classes = host.directory()
    host.run(["javac", "-d", classes, fhir_server.PROGRAMS / "JdkCalls.java"], check=True)
    return classes


@pytest.fixture
def resolver(host: Host) -> list[str]:
    """Options that point a container's resolver at its own network (podman has no --dns for --network none)."""
    file = host.directory() / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\n")
    return ["-v", f"{file}:/etc/resolv.conf:ro"]


@pytest.fixture
def name_server(host: Host) -> Iterator[Callable[[Server, str], None]]:
    """Start a name server in a container's network that answers every question with one address."""
    running: list[subprocess.Popen[str]] = []

    def begin(server: Server, address: str) -> None:
        program = str(fhir_server.PROGRAMS / "name_server.py")
        words = ["nsenter", "-n", "-t", str(server.pid), "/usr/bin/python3", program, address]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"

    yield begin
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
def daemon(host: Host) -> Iterator[Callable[..., Daemon]]:
    """stack.start, whose containers are removed when the test ends."""
    started: list[Daemon] = []

    def begin(name: str, *options: Any, **more: Any) -> Daemon:
        running = stack.start(host, name, *options, **more)
        started.append(running)
        return running

    yield begin
    for running in started:
        fhir_server.remove(running)
