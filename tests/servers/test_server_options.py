"""The options that people give podman run, with a confined FHIR server behind them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from host.machine import Host
from servers.fhir_server import FULL, KINDS, Server, assert_confined, no_capabilities

HARD = ("--cap-drop=all", "--read-only", "--tmpfs", "/tmp", "--security-opt", "no-new-privileges")
LIMITS = ("--memory", "700m", "--pids-limit", "300", "--cpus", "1.5")
# name -> server, runtime, user, options
OPTIONS: dict[str, tuple[str, str, str | None, tuple[str, ...]]] = {
    "read-only": ("plain", "crun", "rootless", ("--read-only", "--tmpfs", "/tmp")),
    "hardened": ("plain", "runc", None, HARD),
    "hardened, Python": ("fhirstarter", "crun", "rootless", HARD),
    "init": ("plain", "runc", "rootless", ("--init",)),
    "init, Python": ("fhirstarter", "crun", None, ("--init",)),
    "limits": ("plain", "crun", None, LIMITS),
    "limits, Python": ("fhirstarter", "runc", None, LIMITS),
    "user": ("plain", "runc", None, ("--user", "1234:1234")),
    "root in the container": ("plain", "crun", None, ("--user", "0:0")),
    "root in the container, Python": ("fhirstarter", "runc", "rootless", ("--user", "0:0")),
    "userns auto": ("plain", "crun", None, ("--userns=auto:size=66000",)),
    "userns keep-id": ("fhirstarter", "crun", "rootless", ("--userns=keep-id",)),
    "userns keep-id on runc": ("plain", "runc", "rootless", ("--userns=keep-id",)),
    "terminal": ("plain", "runc", None, ("-t",)),
    "privileged": ("plain", "crun", None, ("--privileged",)),
    "unconfined, all capabilities": (
        "fhirstarter",
        "runc",
        None,
        ("--security-opt", "seccomp=unconfined", "--cap-add=ALL"),
    ),
    "host network": ("fhirstarter", "crun", None, ("--network", "host")),
    "IPv6 only": ("plain", "runc", None, ("-e", "JAVA_TOOL_OPTIONS=-Djava.net.preferIPv6Addresses=true")),
}
# not by default
MORE = ("hardened, Python", "init, Python", "limits, Python", "root in the container, Python", "userns keep-id on runc")


@pytest.fixture(scope="module", autouse=True)
def ids_for_auto(host: Host) -> None:
    """--userns=auto takes ids of the user "containers" (podman-run(1))."""
    for file in (Path("/etc/subuid"), Path("/etc/subgid")):
        if "containers:" not in file.read_text():
            file.write_text(file.read_text() + "containers:2000000:200000\n")


@pytest.mark.parametrize("name", OPTIONS if FULL else [name for name in OPTIONS if name not in MORE])
def test_a_server_answers_whatever_option_it_runs_under(serve: Callable[..., Server], name: str) -> None:
    kind, runtime, user, options = OPTIONS[name]
    server = serve(KINDS[kind], *options, runtime=runtime, user=user)
    assert_confined(server)
    assert no_capabilities(server.pid)
    server.work(address="[::1]" if name == "IPv6 only" else "127.0.0.1")
    server.exec(
        *(["/opt/jre/bin/jcmd", "-l"] if server.kind.stack == "jvm" else ["/usr/bin/python3", "-c", "import ssl"])
    )
    # uvicorn ends with the signal that it was sent; process 1 can't, and --init says it for its child
    expected = 143 if "--init" in options else server.kind.exit_code
    assert server.stop() == expected, server.logs()


def test_python_workers_are_processes_that_are_confined_too(serve: Callable[..., Server], runtime: str) -> None:
    server = serve(KINDS["fhirstarter"], runtime=runtime, command=["--workers", "2", "--host", "::"])
    seen = server.inspected()
    assert seen["processes"] >= 3
    assert seen["different"] == []
    # each worker has data of its own, so that only single requests make sense
    for _ in range(10):
        assert server.host.http(server.id, server.url() + "/metadata", "-f").returncode == 0
    assert server.stop() == server.kind.exit_code, server.logs()


def test_a_server_runs_in_a_pod(host: Host, serve: Callable[..., Server], user: str | None) -> None:
    pod = host.podman("pod", "create", "--network", "none", user=user, check=True).stdout.strip()
    try:
        server = serve(KINDS["plain"], "--network", "container:" + infra(host, pod, user), "--pod", pod, user=user)
        assert_confined(server)
        server.work()
    finally:
        host.podman("pod", "rm", "-f", "-t", "0", pod, user=user)


def infra(host: Host, pod: str, user: str | None) -> str:
    """The container that holds a pod's namespaces."""
    return host.podman("pod", "inspect", "-f", "{{.InfraContainerID}}", pod, user=user, check=True).stdout.strip()
