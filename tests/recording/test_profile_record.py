"""fhir-hook profile record, on real containers."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fhir_hook.kernel import tracefs
from host.machine import Host
from recording.conftest import Tool

KNOWN = {
    *("execve", "getpid", "clone", "wait4", "getppid", "exit_group"),
    *("getuid", "sched_yield", "gettid", "exit"),
}
CONNECT = 'exec nsenter -n -t "$FHIR_HOOK_PID" /bin/busybox nc 127.0.0.1 8080 </dev/null'
WORK = 'exec nsenter -n -t "$FHIR_HOOK_PID" /usr/bin/python3 {} http://127.0.0.1:8080 update patch delete --load 2'


def calls(recording: dict) -> set[str]:
    """Calls of all phases."""
    return {call for phase in recording["phases"].values() for call in phase}


def instances() -> set[str]:
    """Trace instances of recorders, on the whole machine."""
    return {path.name for path in Path(tracefs.find(), "instances").glob(f"{tracefs.PREFIX}*")}


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_program_that_forks_and_ends_at_once_is_recorded_to_the_last_call(
    tool: Tool, probe: list[str], runtime: str, default_runtime: Callable[[str], None]
) -> None:
    default_runtime(runtime)
    for _ in range(3):
        recording = tool.record(*probe, "--command", "/p/known")
        assert calls(recording) == KNOWN
        assert recording["lost"] == {"events": 0}
        assert recording["arguments"]["clone"] == [
            {"text": "SIGCHLD", "values": {"0": 17}, "phases": ["start"]},
            {"text": "VM|FS|FILES|SIGHAND|THREAD|SYSVSEM", "values": {"0": 0x50F00}, "phases": ["start"]},
        ]


def test_a_program_is_recorded_from_its_first_instruction(tool: Tool, probe: list[str]) -> None:
    assert calls(tool.record(*probe, "--command", "/bin/firstcall")) == {"execve", "keyctl", "write", "exit_group"}


def test_start_service_and_stop_are_told_apart(tool: Tool, probe: list[str], script: Callable[[str], Path]) -> None:
    recording = tool.record(*probe, "--command", "/p/server", "--", script(CONNECT))
    phases = {name: set(found) for name, found in recording["phases"].items()}
    assert {"times", "bind", "listen", "socket"} <= phases["start"]
    assert not {"times", "bind", "listen", "socket", "getpgid"} & phases["serve"]
    assert {"accept", "getpriority"} <= phases["serve"] and "getpriority" not in phases["start"]
    assert "getpgid" in phases["stop"] and "exit_group" in phases["stop"]
    assert recording["arguments"]["socket"] == [
        {"text": "AF_INET, SOCK_STREAM, 0", "values": {"0": 2, "1": 1, "2": 0}, "phases": ["start"]}
    ]


def test_a_workload_that_fails_or_never_runs_is_in_the_exit_code(tool: Tool, probe: list[str]) -> None:
    tool.record(*probe, "--command", "/p/server", "--", "/bin/false", code=1)
    assert "the workload ended with exit code 1" in tool.said
    tool.record(*probe, "--command", "/p/known", "--", "/bin/true", code=1)
    assert "ended by itself before it listened" in tool.said


def test_a_line_of_output_is_the_mark(tool: Tool, probe: list[str]) -> None:
    recording = tool.record(*probe, "--command", "/bin/sleeper", "--mark", "^ready$", "--", "/bin/sleep", "0.5")
    assert {"write", "execve"} <= set(recording["phases"]["start"])
    assert set(recording["phases"]["serve"]) <= {"pause", "restart_syscall"}


def test_the_mark_is_seen_when_the_reader_of_the_output_dies(tool: Tool, probe: list[str]) -> None:
    probe[-1] += " -v /bin/busybox:/bin/busybox:ro"
    shell = "/bin/busybox sh -c 'trap exit TERM; sleep 3; echo ready; sleep 60 & wait'"
    process = tool.begin(*probe, "--command", shell, "--mark", "^ready$", "--", "/bin/true")
    found = ["pkill", "-P", str(process.pid), "-f", "podman.* logs -f"]
    while subprocess.run(found, check=False).returncode != 0:
        assert process.poll() is None
        time.sleep(0.05)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 0, said


def test_a_program_executed_into_the_container_is_recorded_from_its_first_instruction(
    tool: Tool, start: Callable[..., str], bare_host: Host, script: Callable[[str], Path], default_runtime: Callable
) -> None:
    """Or the recording says that it came too late."""
    bare_host.load("probe:plain")
    for runtime in ("crun", "runc"):
        container = start("probe:plain", "--security-opt", "seccomp=unconfined", command=["sleeper"], runtime=runtime)
        work = script(f"podman --runtime {runtime} exec {container} /bin/firstcall")
        done = tool.run("record", "--output", "seen.json", "--profile", "mine", container, "--", work)
        recording = json.loads((tool.directory / "seen.json").read_text())
        if recording["lost"].get("late_processes"):
            assert done.returncode == 1 and "first calls are missing" in done.stdout
        else:
            assert calls(recording) - {"pause", "restart_syscall"} == {"execve", "keyctl", "write", "exit_group"}
            assert "seccomp" not in calls(recording) and "capset" in recording["runtime_calls"]


def test_every_call_that_strace_sees_of_a_python_server_is_recorded(
    tool: Tool, bare_host: Host, script: Callable[[str], Path], workload: Path
) -> None:
    bare_host.load("fhirstarter:4.2.0")
    work = script(WORK.format(workload))
    recording = tool.record("fhirstarter:4.2.0", "--podman", "--network none", "--", work)
    straced = _straced(bare_host, "fhirstarter:4.2.0", work)
    assert len(straced) > 40
    assert straced - calls(recording) == set()


def _straced(host: Host, tag: str, work: Path) -> set[str]:
    """Calls of a container's processes as strace sees them, from the entry point's execve on."""
    output = host.directory() / "strace"
    # not runc, whose other threads' calls would be between the lines
    on = {"hooks": False, "runtime": "crun", "check": True}
    container = host.podman("create", "--network", "none", tag, **on).stdout.strip()
    try:
        host.podman("init", container, **on)
        words = ["strace", "-f", "-o", output, "-p", str(host.pid(container))]
        tracer = subprocess.Popen(words, stderr=subprocess.PIPE)
        assert tracer.stderr is not None and b"attached" in tracer.stderr.readline()
        host.podman("start", container, **on)
        host.wait_http(container, "http://127.0.0.1:8080/metadata")
        environment = {"FHIR_HOOK_PID": str(host.pid(container)), "FHIR_HOOK_CONTAINER": container}
        host.run([work], env=environment, check=True)
        host.podman("stop", container, check=True)
        tracer.wait(30)
    finally:
        host.podman("rm", "-f", "-t", "0", container)
    lines = output.read_text(errors="replace").splitlines()
    first = next(index for index, line in enumerate(lines) if " execve(" in line)
    words = [line.split(maxsplit=1)[1] for line in lines[first:]]
    return {word.partition("(")[0] for word in words if word[0].isalpha() and "(" in word}


def test_frequent_calls_with_arguments_stay_complete_while_they_are_narrowed(
    tool: Tool, probe: list[str], script: Callable[[str], Path]
) -> None:
    """3,000 threads, mapped and unmapped, and every socket of 3,000 connections."""
    work = script('nsenter -n -t "$FHIR_HOOK_PID" /bin/busybox nc 127.0.0.1 8080 </dev/null')
    recording = tool.record(*probe, "--command", "/p/server 3000", "--", work)
    assert "getsid" in calls(recording) and recording["lost"] == {"events": 0}


def test_what_the_kernel_dropped_is_in_the_recording_and_the_exit_code(tool: Tool, probe: list[str]) -> None:
    rounds = 1_000_000
    recording = tool.record(*probe, "--command", f"/p/busy {rounds}", "--buffer", "8", code=1)
    assert 0 < recording["lost"]["events"] <= 2 * 3 * rounds
    assert f"the kernel dropped {recording['lost']['events']} events: record again with --buffer" in tool.said
    assert {"getuid", "getgid", "getppid"} <= calls(recording)


def test_a_recorder_that_was_killed_leaves_an_instance_that_the_next_one_removes(tool: Tool, probe: list[str]) -> None:
    before = instances()
    process = tool.begin(*probe, "--command", "/bin/sleeper")
    assert process.stderr is not None and "start" in process.stderr.readline()
    left = instances() - before
    process.kill()
    process.wait()
    assert left and left <= instances()
    time.sleep(tracefs.STALE_SECONDS + 0.5)
    tool.record(*probe, "--command", "/bin/firstcall")
    assert not left & instances()


def test_the_recorders_instances_are_removed_when_it_is_interrupted(tool: Tool, probe: list[str]) -> None:
    before = instances()
    process = tool.begin(*probe, "--command", "/p/server")
    assert process.stderr is not None
    while "serve" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    recording = json.loads((tool.directory / "seen.json").read_text())
    assert "getpgid" in recording["phases"]["stop"]
    assert not {name for name in instances() - before if name.startswith(f"{tracefs.PREFIX}{process.pid}-")}


def test_an_ordinary_user_gets_one_line(bare_host: Host, programs: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    words = ["env", f"PYTHONPATH={root}", "/usr/bin/python3", "-B", "-m", "fhir_hook.cli.main", "profile", "record"]
    done = bare_host.run([*words, "--profiles", root / "profiles", "x"], user="rootless")
    assert done.returncode == 3
    assert done.stderr == "fhir-hook: tracing system calls needs root: run it with sudo\n"


def test_recordings_are_merged(tool: Tool, probe: list[str]) -> None:
    tool.record(*probe, "--command", "/p/known")
    (tool.directory / "seen.json").rename(tool.directory / "one.json")
    merged = tool.record(*probe, "--command", "/bin/firstcall", "--merge", "one.json")
    assert calls(merged) == KNOWN | {"write", "keyctl"}
    again = tool.run("record", "--merge", "one.json", "--merge", "seen.json", "--output", "both.json", "--profile", "b")
    assert again.returncode == 0, again.stderr
    assert calls(json.loads((tool.directory / "both.json").read_text())) == KNOWN | {"write", "keyctl"}


def test_the_annotation_of_the_older_recorder_is_honoured(tool: Tool, probe: list[str], bare_host: Host) -> None:
    wanted = bare_host.directory() / "out.json"
    probe[-1] += f" --annotation io.containers.trace-syscall=of:{wanted}"
    recording = tool.record(*probe, "--command", "/bin/firstcall")
    section = json.loads(wanted.read_text())
    assert section["defaultAction"] == "SCMP_ACT_ERRNO"
    assert calls(recording) <= set(section["syscalls"][0]["names"])
    done = bare_host.podman(
        *("run", "--rm", "--network", "none", "--security-opt", "no-new-privileges", "--security-opt"),
        *(f"seccomp={wanted}", "probe:plain", "firstcall"),
        hooks=False,
    )
    assert done.stdout.startswith("keyctl "), done.stderr


def test_attack_an_image_that_asks_for_files_of_the_host_by_the_annotation(tool: Tool, bare_host: Host) -> None:
    wanted = bare_host.directory() / "out.json"
    bare_host.derive("probe:plain", "asks:1", "--annotation", f"io.containers.trace-syscall=of:{wanted}")
    tool.record("asks:1", "--podman", "--network none", "--command", "/bin/firstcall")
    assert not wanted.exists()


def test_attack_an_annotation_that_names_a_file_of_the_host(tool: Tool, probe: list[str], bare_host: Host) -> None:
    victim = bare_host.directory() / "shadow"
    victim.write_text("root:*:1::::::\n")
    probe[-1] += f" --annotation io.containers.trace-syscall=of:{victim}"
    done = tool.run("record", *probe, "--command", "/bin/firstcall")
    assert done.returncode == 3 and "it was left alone" in done.stderr
    assert victim.read_text() == "root:*:1::::::\n"


def test_attack_a_program_of_another_abi(tool: Tool, bare_host: Host, programs: Path) -> None:
    """Its numbers mean other calls: none of them may get into the recording."""
    bare_host.derive("probe:plain", "i386:1", "--copy", f"{programs}/i386:/bin/i386")
    recording = tool.record("i386:1", "--podman", "--network none", "--command", "/bin/i386")
    assert recording["foreign"] == {"i386": 1}
    assert calls(recording) == {"execve"}
    assert "another ABI" in tool.said


def test_attack_thousands_of_threads(tool: Tool, probe: list[str], script: Callable[[str], Path]) -> None:
    recording = tool.record(*probe, "--command", "/p/server 4000", "--", script(CONNECT))
    assert "getsid" in calls(recording)
    assert recording["lost"]["events"] == 0


def test_attack_names_of_programs_that_terminals_act_on(tool: Tool, bare_host: Host, programs: Path) -> None:
    directory = bare_host.directory()
    name = "x\x1b[2J\nroot"
    (directory / name).write_bytes((programs / "known").read_bytes())
    (directory / name).chmod(0o755)
    bare_host.load("probe:plain")
    words = ["probe:plain", "--podman", f"--network none -v {directory}:/p:ro", "--command", f"'/p/{name}'"]
    recording = tool.record(*words)
    assert calls(recording) == KNOWN
    assert "\x1b" not in tool.said and "\x1b" not in json.dumps(recording, ensure_ascii=False)
    assert recording["server"].isprintable()
