"""HotSpot's collectors, tools and ends, in a confined HAPI server; every denial is seen in the kernel's log."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from host.machine import Host
from servers.fhir_server import FULL, JCMD, KINDS, Server, assert_confined, start, wait_until_gone
from servers.kernel_log import KernelLog
from servers.test_server_denials import CANARY, EXPECTED

FLAGS = {
    "ZGC": "-XX:+UseZGC -Xmx512m -XX:StartFlightRecording=filename=/tmp/a.jfr",
    "Serial, C1": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx256m -Xlog:gc*:file=/tmp/gc.log",
    "Parallel": "-XX:+UseParallelGC -XX:+AlwaysPreTouch -Xmx256m -XX:+UseTransparentHugePages",
    "G1": "-XX:+UseG1GC -XX:+PrintFlagsFinal -Xmx256m",
    "Shenandoah": "-XX:+UseShenandoahGC -XX:+UseNUMA -Xmx256m",
}


@pytest.mark.parametrize("collector", FLAGS if FULL else ["ZGC", "G1"])
def test_every_collector_and_its_tools_run_confined(
    serve: Callable[..., Server], logged: list[str], uid: int, collector: str
) -> None:
    with KernelLog(uid) as log:
        server = serve(KINDS["plain"], *logged, "-e", f"JAVA_TOOL_OPTIONS={FLAGS[collector]}", runtime="crun")
        assert_confined(server)
        server.work(load=2)
        for command in ("GC.run", "GC.heap_info", "Thread.print", "JFR.check", "VM.metaspace"):
            server.exec(JCMD, "1", command)
        server.exec(JCMD, "1", "GC.heap_dump", "/tmp/dump.hprof")
        server.exec(CANARY, "bpf")
        log.wait_for(CANARY, "bpf")
        assert server.stop() == server.kind.exit_code
    assert log.beyond(EXPECTED, CANARY) == {}


def test_native_memory_tracking_reports_without_mincore(serve: Callable[..., Server]) -> None:
    """HotSpot asks which pages of the threads' stacks are resident, and does without the answer."""
    server = serve(KINDS["plain"], "-e", "JAVA_TOOL_OPTIONS=-XX:NativeMemoryTracking=detail")
    for command in ("summary", "detail"):
        assert "Total: reserved" in server.exec(JCMD, "1", "VM.native_memory", command).stdout
    server.work()


def test_out_of_memory_leaves_a_heap_dump_and_ends_the_server(
    host: Host, serve: Callable[..., Server], logged: list[str], uid: int
) -> None:
    dumps = host.directory()
    dumps.chmod(0o777)
    flags = "-Xmx40m -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError"
    flags += " -XX:+HeapDumpOnOutOfMemoryError -XX:HeapDumpPath=/dumps/oom.hprof"
    with KernelLog(uid) as log:
        server = serve(
            KINDS["plain"], *logged, "-v", f"{dumps}:/dumps", "-e", f"JAVA_TOOL_OPTIONS={flags}", runtime="crun"
        )
        large = host.directory() / "large.json"
        large.write_text('{"resourceType": "Patient", "name": [{"family": "' + "x" * 20_000_000 + '"}]}')
        given = ("-H", "Content-Type: application/fhir+json", "-d", f"@{large}")
        host.http(server.id, server.url() + "/Patient", *given)
        assert wait_until_gone(server) == 3
    assert (dumps / "oom.hprof").stat().st_size > 1_000_000
    assert log.beyond(EXPECTED) == {}


def test_a_crash_leaves_the_same_report_as_without_the_hook(host: Host, logged: list[str], uid: int) -> None:
    """SIGSEGV, which the virtual machine takes for a bug of its own: hs_err_pid1.log, then abort."""
    ends = []
    for hooks in (False, True):
        reports = host.directory()
        reports.chmod(0o777)
        flags = "-XX:ErrorFile=/reports/hs_err.log -XX:-CreateCoredumpOnCrash"
        options = [*logged, "-v", f"{reports}:/reports", "-e", f"JAVA_TOOL_OPTIONS={flags}"]
        with KernelLog(uid) as log:
            server = start(host, KINDS["plain"], *options, runtime="crun", hooks=hooks)
            server.podman("kill", "-s", "SEGV", server.id, check=True)
            ends.append(wait_until_gone(server))
            server.podman("rm", "-f", server.id, check=True)
        report = (reports / "hs_err.log").read_text()
        assert "SIGSEGV" in report
        assert "END." in report
        assert log.beyond(EXPECTED) == {}
    assert ends[0] == ends[1]
