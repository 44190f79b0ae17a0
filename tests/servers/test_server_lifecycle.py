"""Real FHIR servers under podman run, confined: they answer, take load, exec, health checks, stop and start again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from host.machine import Host, parse_status, proc_status
from servers.fhir_server import FULL, JCMD, KINDS, Server, assert_confined, no_capabilities, programs, remove, start

# server:runtime:user:network. The JPA server takes 20 to 60 s to start: by default only test_server_denials.py runs it.
ALWAYS = [
    "plain:runc:root:none",
    "plain:runc:rootless:published",
    "plain:crun:root:published",
    "plain:crun:rootless:none",
    "fhirstarter:runc:root:published",
    "fhirstarter:runc:rootless:none",
    "fhirstarter:crun:root:none",
    "fhirstarter:crun:rootless:published",
]
EVERY = [
    f"{kind}:{runtime}:{user}:{network}"
    for kind in KINDS
    for runtime in ("runc", "crun")
    for user in ("root", "rootless")
    for network in ("none", "published")
]


@pytest.fixture(scope="module", params=EVERY if FULL else ALWAYS)
def server(host: Host, request: pytest.FixtureRequest) -> Iterator[Server]:
    name, runtime, who, network = str(request.param).split(":")
    user = None if who == "root" else who
    mounted = programs(host, user)
    health = f"CMD /probe/busybox wget -q -O - http://127.0.0.1:8080{KINDS[name].path}/metadata"
    port = 18300 + EVERY.index(request.param) if network == "published" else 0
    options = ["-v", f"{mounted}:/probe:ro", "--health-cmd", health, "--health-timeout", "60s"]
    if name == "jpa":
        data = host.directory(user)
        data.chmod(0o777)
        options += ["-v", f"{data}:/data", "-e", "SPRING_DATASOURCE_URL=jdbc:h2:file:/data/h2"]
    running = start(host, KINDS[name], *options, runtime=runtime, user=user, port=port)
    yield running
    remove(running)


def test_the_kernel_enforces_the_profile_and_the_log_says_so(server: Server) -> None:
    assert_confined(server)
    assert no_capabilities(server.pid)


def test_it_does_all_that_its_clients_ask_under_load(server: Server) -> None:
    examples = server.host.images.archive("fhir:examples") if server.kind.name == "jpa" else None
    assert server.work(load=6 if FULL else 3, examples=examples) > (400 if examples else 100)


def test_its_tools_work_by_podman_exec_and_are_confined(server: Server) -> None:
    script = "ls /probe | grep -c try; echo a b > /tmp/x; sed s/a/c/ /tmp/x; mv /tmp/x /tmp/y; rm /tmp/y; /probe/status"
    done = server.exec("/probe/busybox", "sh", "-c", script)
    assert done.stdout.splitlines()[:2] == ["1", "c b"], done.stderr
    status = parse_status(done.stdout)
    assert status["Seccomp"] == "2"
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0
    if server.kind.stack == "jvm":
        assert "http-nio" in server.exec(JCMD, "1", "Thread.print").stdout
        assert "Metaspace" in server.exec(JCMD, "1", "GC.heap_info").stdout
    else:
        program = "import sqlite3, ssl, subprocess; print(subprocess.run(['/probe/busybox', 'id', '-u']).returncode)"
        assert server.exec("/usr/bin/python3", "-c", program).stdout.splitlines()[-1] == "0"


def test_attacks_by_exec_are_denied(server: Server) -> None:
    attacks = (
        "unshare_user",
        "mount",
        "ptrace",
        "bpf",
        "keyctl",
        "io_uring_setup",
        "clone_newuser",
        "raw",
        "packet",
        "int80_getpid",
    )
    seen = dict(line.split(" ", 1) for line in server.exec("/probe/try", *attacks).stdout.splitlines())
    assert seen.pop("int80_getpid") in ("SIGSYS", "SIGKILL")
    assert set(seen.values()) == {"EPERM"}, seen


def test_its_health_check_passes(server: Server) -> None:
    server.podman("healthcheck", "run", server.id, check=True)
    assert _state(server)["Health"]["Status"] == "healthy"


def test_it_stops_at_sigterm_and_starts_again_on_its_data(server: Server) -> None:
    assert server.stop() == server.kind.exit_code, server.logs()
    decisions = len(server.records())
    server.podman("start", server.id, check=True)
    server.wait()
    assert_confined(server)
    assert len(server.records()) == decisions + 2
    if server.kind.name == "jpa":
        found = server.host.http(server.id, server.url() + "/Patient?_summary=count", user=server.user)
        assert json.loads(found.stdout)["total"] > 0
    server.work()
    assert proc_status(server.pid)["Seccomp"] == "2"


def _state(server: Server) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(server.podman("inspect", server.id, check=True).stdout)[0]["State"]
    return state
