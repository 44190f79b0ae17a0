"""The same profiles on Debian 13: glibc 2.41, OpenJDK 21, CPython 3.13, which the recordings did not see.

Only with FHIR_HOOK_SERVERS=all, since the images take minutes to build.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from host.machine import ARCHIVES
from servers.fhir_server import FULL, KINDS, Kind, Server, assert_confined
from servers.kernel_log import KernelLog

ARCHIVES["hapi:trixie"] = ("on-trixie", "hapi-trixie.tar")
ARCHIVES["fhirstarter:trixie"] = ("on-trixie", "fhirstarter-trixie.tar")
HAPI = dataclasses.replace(KINDS["plain"], tag="hapi:trixie")
FHIRSTARTER = dataclasses.replace(KINDS["fhirstarter"], tag="fhirstarter:trixie")
CANARY = "/probe/try"
# Calls that are denied on the newer libraries, and why nobody misses them.
EXPECTED = {
    "clone3": "glibc then uses clone",
    "set_robust_list": "glibc does without robust mutexes",
    "mremap": "realloc then copies",
    "get_mempolicy": "HotSpot then sees one NUMA node",
    "getgroups": "id then takes the group of the process",
    "getppid": "the shell's variable PPID",
    "sigaltstack": "grep and sort guard against stack overflow with it",
    "copy_file_range": "cp then uses read and write",
    "renameat2": "mv then uses renameat",
    "fadvise64": "cp and sort do without",
    "getpeername": "bash asks whether it was started by rshd",
    "open": "mimalloc of CPython 3.13 reads /proc/sys/vm/overcommit_memory with it, and does without",
    "statfs": "libselinux of coreutils asks whether SELinux is mounted, and takes the answer for no",
    "sysinfo": "qsort of the C library does without the size of memory",
    "close_range": "CPython's subprocess then closes one by one",
    "getxattr": "ls takes ENOTSUP for an answer",
    "lgetxattr": "ls",
    "listxattr": "ls",
    "llistxattr": "ls",
    "flistxattr": "cp",
    "ioctl": "cp asks for FICLONE, and copies",
}
FLAGS = {
    "G1": "-XX:+UseG1GC",
    "generational ZGC": "-XX:+UseZGC -XX:+ZGenerational",
    "Serial": "-XX:+UseSerialGC",
    "Shenandoah": "-XX:+UseShenandoahGC",
}
SHELLS = {
    "dash": "ls -l /etc | head -2 && cp /etc/passwd /tmp/p && id",
    "bash": "for i in 1 2; do echo $i; done | sort -r | while read -r n; do (echo $n); done; [[ -x /bin/ls ]] && date",
}


def _serves(serve: Callable[..., Server], kind: Kind, options: list[str], uid: int) -> None:
    with KernelLog(uid) as log:
        server = serve(kind, *options, runtime="crun")
        assert_confined(server)
        server.work(load=5)
        if kind.stack == "jvm":
            for command in ("Thread.print", "GC.heap_info", "JFR.check"):
                server.exec("/opt/jre/bin/jcmd", "1", command)
            server.exec("/opt/jre/bin/jcmd", "1", "GC.heap_dump", "/tmp/dump.hprof")
            server.exec("/bin/rm", "/tmp/dump.hprof")
        else:
            server.exec("/usr/bin/python3", "-c", "import asyncio, sqlite3, ssl, subprocess; subprocess.run(['id'])")
        for shell, script in SHELLS.items():
            server.exec(f"/bin/{shell}", "-c", script)
        server.exec(CANARY, "bpf")
        log.wait_for(CANARY, "bpf")
        server.stop()
    assert log.beyond(EXPECTED, CANARY) == {}


if FULL:

    @pytest.mark.parametrize("collector", FLAGS)
    def test_hapi_on_newer_libraries_is_denied_nothing_that_it_needs(
        serve: Callable[..., Server], logged: list[str], uid: int, collector: str
    ) -> None:
        _serves(serve, HAPI, [*logged, "-e", f"JAVA_TOOL_OPTIONS={FLAGS[collector]} -Xmx512m"], uid)

    def test_fhirstarter_on_newer_libraries_is_denied_nothing_that_it_needs(
        serve: Callable[..., Server], logged: list[str], uid: int
    ) -> None:
        _serves(serve, FHIRSTARTER, logged, uid)

    @pytest.mark.parametrize("drop", ["setpriv --reuid=65532 --regid=65532 --clear-groups", "runuser -u nobody --"])
    def test_the_generic_profile_lets_newer_tools_change_user(
        serve: Callable[..., Server], settings: Callable[[str], None], runtime: str, drop: str
    ) -> None:
        settings('[[bind]]\nimage = "localhost/hapi:trixie"\nprofile = "fhir-jvm"\n')
        java = "java -cp /app/classes:/app/lib/* FhirServer"
        script = f"mkdir -p /data/x && chown -R 65532 /data && cd /tmp && exec {drop} /opt/jre/bin/{java}"
        server = serve(HAPI, "--user", "0", "--entrypoint", '["/bin/bash", "-c"]', runtime=runtime, command=[script])
        # runuser stays, with its capabilities, as the parent of the server
        assert_confined(server, "fhir-jvm", alike=not drop.startswith("runuser"))
        for task in server.inspected()["different"]:
            assert (task["seccomp"], task["filters"], task["no_new_privs"]) == (2, 1, True)
        server.work()
