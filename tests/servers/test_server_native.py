"""FHIR servers that are native programs: Helios (Rust) under its profile, Go and Node under the generic one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from host.machine import Host
from servers.fhir_server import FULL, Server, assert_confined, no_capabilities
from servers.kernel_log import ERRNO, KernelLog
from servers.stack import HELIOS, Daemon, fallen_back, named
from servers.work import use_node, use_pocketbase, use_prometheus

WORK: dict[str, Callable[[Daemon], None]] = {
    "prometheus": use_prometheus,
    "pocketbase": use_pocketbase,
    "node": use_node,
}
WHERE = ("runc:root", "runc:rootless", "crun:root", "crun:rootless")
EVERY = [f"{name}:{where}" for name in WORK for where in WHERE]
CANARY = "/probe/try"
FETCH = "/probe/busybox wget -q -O - http://127.0.0.1:8080/metadata"
# Go tries MPTCP for its listener and takes TCP, and gives names to its memory (PR_SET_VMA): denied with these arguments
TRIED = {"pocketbase": {"socket", "prctl"}}


@pytest.mark.parametrize("where", EVERY if FULL else ["prometheus:crun:root"])
def test_programs_in_other_languages_work_under_the_generic_profile(daemon: Callable[..., Daemon], where: str) -> None:
    name, runtime, who = where.split(":")
    running = daemon(name, profile="fhir-native", runtime=runtime, user=None if who == "root" else who)
    assert_confined(running, "fhir-native")
    WORK[name](running)
    assert running.stop() == 0, running.logs()


@pytest.mark.parametrize("name", WORK if FULL else ["prometheus"])
def test_nothing_that_a_native_program_needs_is_denied(
    host: Host, daemon: Callable[..., Daemon], logged: list[str], uid: int, name: str
) -> None:
    with KernelLog(uid) as log:
        running = daemon(name, *logged, *data(host), profile="fhir-native", runtime="crun")
        running.exec(CANARY, "keyctl")
        log.wait_for(CANARY, "keyctl")
        WORK[name](running)
        running.exec(CANARY, "bpf")
        log.wait_for(CANARY, "bpf")
        assert running.stop() == 0, running.logs()
    assert log.beyond(fallen_back() | TRIED.get(name, set()), CANARY) == {}
    assert set(log.codes) == {ERRNO}


if FULL:

    @pytest.mark.timeout(600)
    @pytest.mark.parametrize("profile", ["helios", "fhir-native"])
    @pytest.mark.parametrize("where", WHERE)
    def test_helios_works_and_starts_again_on_its_data(
        host: Host, serve: Callable[..., Server], where: str, profile: str
    ) -> None:
        runtime, who = where.split(":")
        user = None if who == "root" else who
        host.load(HELIOS.tag, user)
        server = serve(HELIOS, "-v", "/data", runtime=runtime, user=user, tag=named(host, HELIOS, profile, user))
        assert_confined(server, profile)
        assert profile != "helios" or no_capabilities(server.pid)
        server.work(load=5)
        assert server.stop() == 0, server.logs()
        server.podman("start", server.id, check=True)
        server.wait()
        server.work()

    @pytest.mark.timeout(600)
    def test_nothing_that_helios_needs_is_denied(
        host: Host, serve: Callable[..., Server], logged: list[str], uid: int
    ) -> None:
        with KernelLog(uid) as log:
            server = serve(HELIOS, *logged, *data(host), runtime="crun")
            server.exec(CANARY, "keyctl")
            log.wait_for(CANARY, "keyctl")
            server.work(load=10)
            server.exec("sh", "-c", f"ls -l / | grep data; id; {FETCH} | wc -c")
            server.exec(CANARY, "bpf")
            log.wait_for(CANARY, "bpf")
            assert server.stop() == 0, server.logs()
        # qsort, and a library of coreutils that looks for SELinux
        assert log.beyond(fallen_back() | {"sysinfo", "statfs"}, CANARY) == {}


def data(host: Host) -> list[str]:
    """A data folder that a user of the kernel log may write."""
    folder = host.directory()
    folder.chmod(0o777)
    return ["-v", f"{folder}:/data"]
