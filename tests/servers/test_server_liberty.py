"""Open Liberty 22.0.0.4 with a server on IBM's FHIR model, under the profile ibm-fhir: TLS, Derby, a script in bash.

IBM FHIR Server itself is in no registry; this image has its labels. Only with FHIR_HOOK_SERVERS=all, since the image
downloads 290 MB.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from servers.fhir_server import FULL, Kind, Server, assert_confined, no_capabilities
from servers.kernel_log import KernelLog

LIBERTY = Kind(
    "liberty",
    "open-liberty:22.0.0.4",
    "/fhir-server/api/v4",
    ("update", "patch", "vread", "history", "paging", "xml", "transaction", "delete"),
    "ibm-fhir",
    143,
    scheme="https",
    port=9443,
)
DATA = ("-v", "/data")
CANARY = "/probe/try"
# Calls that are denied, and why nobody misses them.
EXPECTED = {
    "clone3": "glibc then uses clone",
    "set_robust_list": "glibc does without robust mutexes",
    "mremap": "realloc then copies",
    "copy_file_range": "cp then uses read and write",
    "sendfile": "the JDK then uses read and write",
    "fadvise64": "cp, cat, sort do without",
    "ioctl": "cp asks for FICLONE, and copies",
    "getppid": "the shell's variable PPID",
    "clock_getres": "HotSpot then reads the processor time of threads from /proc",
    "getgroups": "id then takes the group of the process",
    "getpeername": "bash asks whether it was started by rshd",
    "socket": "JFR's network events, which need netlink",
    "getxattr": "ls takes ENOTSUP for an answer",
    "lgetxattr": "ls",
    "fchown": "an exec as another user keeps the pipes of its streams as they are",
}
OPERATIONS = ("Thread.print", "GC.heap_info", "GC.class_histogram", "VM.metaspace", "JFR.start")
SHELL = "cat /etc/passwd | sort | tail -1; [ -x /bin/ls ] && ls -l / | grep -c data; id -u; mkdir -p /tmp/a/b"


def operations(server: Server) -> None:
    """jcmd, dumps, recordings, shells."""
    for command in OPERATIONS:
        server.exec("jcmd", "1", command)
    server.exec("jcmd", "1", "GC.heap_dump", "/tmp/dump.hprof")
    server.exec("jcmd", "1", "JFR.dump", "filename=/tmp/x.jfr")
    assert "ws-server.jar" in server.exec("jcmd", "-l").stdout
    for shell in ("/bin/sh", "/bin/bash"):
        assert len(server.exec(shell, "-c", SHELL).stdout.splitlines()) == 3


def keeps_its_data(server: Server) -> None:
    """podman start after a stop."""
    assert server.stop(90) == LIBERTY.exit_code, server.logs()
    server.podman("start", server.id, check=True)
    server.wait()
    assert_confined(server)
    found = server.host.http(server.id, server.url() + "/Patient?_count=1", user=server.user)
    assert json.loads(found.stdout)["total"] > 0


# runtime:user; a container that is started again takes longest
@pytest.mark.timeout(900)
@pytest.mark.parametrize("where", ["runc:root", "crun:rootless", "runc:rootless", "crun:root"] if FULL else [])
def test_open_liberty_works_under_the_profile_of_ibm_fhir(serve: Callable[..., Server], where: str) -> None:
    runtime, who = where.split(":")
    server = serve(LIBERTY, *DATA, runtime=runtime, user=None if who == "root" else who)
    assert_confined(server)
    assert no_capabilities(server.pid)
    assert server.work(load=5, examples=server.host.images.archive("fhir:examples")) > 400
    operations(server)
    keeps_its_data(server)
    server.work()
    assert server.stop(90) == LIBERTY.exit_code, server.logs()


if FULL:

    @pytest.mark.timeout(900)
    def test_open_liberty_is_denied_nothing_that_it_needs(
        serve: Callable[..., Server], logged: list[str], uid: int
    ) -> None:
        with KernelLog(uid) as log:
            volumes = ("--tmpfs", "/data:mode=1777", "--tmpfs", "/tmp:mode=1777")
            server = serve(LIBERTY, *logged, *volumes, runtime="crun")
            server.exec(CANARY, "keyctl")
            log.wait_for(CANARY, "keyctl")
            server.work(load=10)
            operations(server)
            server.work()
            server.exec(CANARY, "bpf")
            log.wait_for(CANARY, "bpf")
            assert server.stop(90) == LIBERTY.exit_code, server.logs()
        assert log.beyond(EXPECTED, CANARY) == {}

    @pytest.mark.timeout(900)
    @pytest.mark.parametrize("options", [("--init",), ("--cap-drop=all", "--read-only", "--tmpfs", "/tmp:mode=1777")])
    def test_open_liberty_starts_with_the_options_that_people_use(
        serve: Callable[..., Server], options: tuple[str, ...]
    ) -> None:
        server = serve(LIBERTY, *DATA, *options, "--memory", "1g", "--pids-limit", "400")
        assert_confined(server)
        server.work()
        assert server.stop(90) == LIBERTY.exit_code, server.logs()
