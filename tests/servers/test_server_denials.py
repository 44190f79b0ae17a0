"""What the profiles deny a real server, seen in the kernel's own log: nothing but calls that have a fall-back.

Denials are visible in two ways: in complain mode, and in enforce mode on crun, when the engine's own filter (here one
that allows everything) carries SECCOMP_FILTER_FLAG_LOG, which the product keeps. runc 1.1 knows no flag. Each test sees
a denial that it provokes first and last, so that an empty list means something.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from host.machine import Host
from servers.fhir_server import FULL, JAVA, JCMD, KINDS, PROGRAMS, Kind, Server, assert_confined, programs
from servers.kernel_log import ERRNO, LOG, KernelLog

# Calls that are denied, and why nobody misses them.
EXPECTED = {
    "clone3": "glibc then uses clone, whose flags a filter can read",
    "set_robust_list": "glibc does without robust mutexes",
    "mremap": "realloc then copies",
    "get_mempolicy": "HotSpot then sees one NUMA node, as with the engines' own filters",
    "sendfile": "the JDK and busybox then read and write",
    "getgroups": "id then takes the group of the process",
    "getppid": "the shell's variable PPID",
    "close_range": "CPython's subprocess then closes one by one",
    "sysinfo": "qsort of the C library does without the size of memory",
}
# crun, whose program has no name in the container, waits for its start; with no_new_privs, which a plan sets, it
# loads the filter after that.
CRUN_WAITS = {("/", "pselect6"): 1}
CANARY = "/probe/try"
ALWAYS = ["plain:runc", "fhirstarter:runc"]
MODES = [f"{name}:{runtime}" for name in KINDS for runtime in ("runc", "crun")] if FULL else ALWAYS
LOAD = 10 if FULL else 3
NAMES_ASKED = ("fhir.example.org", "10.9.8.7")
pytestmark = pytest.mark.timeout(600)


def complaining(settings: Callable[[str], None], host: Host, kind: Kind, uid: int) -> list[str]:
    """Options of a container in complain mode, without a filter of the engine's own."""
    settings(f'[[bind]]\nimage = "localhost/{kind.tag}"\nprofile = "{kind.profile}"\nmode = "complain"\n')
    return ["--security-opt", "seccomp=unconfined", "--user", f"{uid}:{uid}", "-v", f"{programs(host)}:/probe:ro"]


def on_a_file(host: Host) -> list[str]:
    """Options by which the JPA server keeps its data on a file."""
    data = host.directory()
    data.chmod(0o777)
    return ["-v", f"{data}:/data", "-e", "SPRING_DATASOURCE_URL=jdbc:h2:file:/data/h2"]


def everything(server: Server, log: KernelLog) -> None:
    """All that is done with a server, between two denials that are seen."""
    server.exec(CANARY, "keyctl")
    log.wait_for(CANARY, "keyctl")
    server.work(load=LOAD)
    server.exec(
        "/probe/busybox",
        "sh",
        "-c",
        "ls -l / | /probe/busybox grep data; echo a > /tmp/x; mv /tmp/x /tmp/y; rm /tmp/y; id; ps",
    )
    if server.kind.stack == "jvm":
        for command in (
            "Thread.print",
            "GC.heap_info",
            "GC.class_histogram",
            "GC.run",
            "VM.native_memory",
            "JFR.start",
        ):
            server.exec(JCMD, "1", command)
        server.exec(JCMD, "1", "GC.heap_dump", "/tmp/dump.hprof")
        server.work()
        server.exec(JCMD, "1", "JFR.dump", "filename=/tmp/x.jfr")
        server.podman("kill", "-s", "QUIT", server.id, check=True)
    else:
        server.exec(
            "/usr/bin/python3",
            "-c",
            "import asyncio, json, sqlite3, ssl, subprocess; subprocess.run(['/probe/busybox', 'id'])",
        )
    server.work()
    server.exec(CANARY, "bpf")
    log.wait_for(CANARY, "bpf")
    assert server.stop() == server.kind.exit_code, server.logs()


def answers_again_on_its_data(server: Server) -> None:
    """podman start after a stop: confined again, and nothing is lost."""
    server.podman("start", server.id, check=True)
    server.wait()
    assert_confined(server)
    found = server.host.http(server.id, server.url() + "/Patient?_summary=count")
    assert json.loads(found.stdout)["total"] > 0
    assert server.stop() == server.kind.exit_code


@pytest.mark.parametrize("name", KINDS)
def test_enforcing_on_crun_denies_a_server_nothing_that_it_needs(
    host: Host, serve: Callable[..., Server], logged: list[str], uid: int, name: str
) -> None:
    with KernelLog(uid) as log:
        server = serve(KINDS[name], *logged, *on_a_file(host), runtime="crun")
        assert_confined(server)
        everything(server, log)
        if name == "jpa":
            answers_again_on_its_data(server)
    assert log.beyond(EXPECTED, CANARY) == {}
    assert set(log.codes) == {ERRNO}


@pytest.mark.parametrize("mode", MODES)
def test_complaining_finds_nothing_that_a_server_needs(
    host: Host, serve: Callable[..., Server], settings: Callable[[str], None], uid: int, mode: str
) -> None:
    """Without no_new_privs, so that the runtimes' own calls before execve and at exec are seen too."""
    name, runtime = mode.split(":")
    options = complaining(settings, host, KINDS[name], uid)
    with KernelLog(uid) as log:
        server = serve(KINDS[name], *options, *on_a_file(host), runtime=runtime)
        everything(server, log)
    assert log.beyond(EXPECTED, CANARY) == (CRUN_WAITS if runtime == "crun" else {})
    assert log.by_runtime == {}
    assert set(log.codes) == {LOG}


def test_what_a_jvm_is_denied_beside_the_server_is_known(
    serve: Callable[..., Server],
    logged: list[str],
    uid: int,
    jdk_calls: Path,
    resolver: list[str],
    name_server: Callable[[Server, str], None],
) -> None:
    """The JDK's interfaces one by one; what the profile hapi leaves out, and what that means to a program."""
    with KernelLog(uid) as log:
        server = serve(KINDS["plain"], *logged, "-v", f"{jdk_calls}:/classes:ro", *resolver, runtime="crun")
        name_server(server, "10.9.8.7")
        said = dict(
            line.split(" ", 1)
            for line in server.exec(JAVA, "-cp", "/classes", "JdkCalls", *NAMES_ASKED).stdout.splitlines()[:-1]
        )
        server.exec(CANARY, "bpf")
        log.wait_for(CANARY, "bpf")
    wrong = {name: text for name, text in said.items() if text != "ok"}
    assert set(wrong) == {"links", "watch", "mapped"}, said
    assert log.lost == []
    assert log.calls(JAVA) - set(EXPECTED) == {"symlink", "inotify_init", "flistxattr", "fchmod", "msync"}


def test_the_generic_profile_denies_nothing_of_the_jdk(
    serve: Callable[..., Server],
    settings: Callable[[str], None],
    jdk_calls: Path,
    resolver: list[str],
    name_server: Callable[[Server, str], None],
) -> None:
    settings('[[bind]]\nimage = "localhost/hapi:plain"\nprofile = "fhir-jvm"\n')
    server = serve(KINDS["plain"], "-v", f"{jdk_calls}:/classes:ro", *resolver)
    assert_confined(server, "fhir-jvm")
    name_server(server, "10.9.8.7")
    said = server.exec(JAVA, "-cp", "/classes", "JdkCalls", *NAMES_ASKED).stdout.splitlines()
    assert [line for line in said[:-1] if not line.endswith(" ok")] == []


def test_what_python_is_denied_beside_the_server_is_known(
    serve: Callable[..., Server],
    settings: Callable[[str], None],
    logged: list[str],
    uid: int,
    resolver: list[str],
    name_server: Callable[[Server, str], None],
) -> None:
    """The standard library one by one under fhir-python: what it leaves out, and what that means to a program."""
    settings('[[bind]]\nimage = "localhost/fhirstarter:4.2.0"\nprofile = "fhir-python"\n')
    program = PROGRAMS / "python_calls.py"
    with KernelLog(uid) as log:
        server = serve(KINDS["fhirstarter"], *logged, "-v", f"{program}:/python_calls.py:ro", *resolver, runtime="crun")
        name_server(server, "10.9.8.7")
        done = server.exec("/usr/bin/python3", "/python_calls.py", *NAMES_ASKED)
        server.exec(CANARY, "bpf")
        log.wait_for(CANARY, "bpf")
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines()[:-1])
    assert {name for name, text in said.items() if text != "ok"} == set(), said
    assert log.lost == []
    assert log.calls("/usr/bin/python3.11") - set(EXPECTED) <= {"listxattr", "ioctl"}
