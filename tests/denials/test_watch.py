"""fhir-hook log watch on real containers: what the kernel logs is joined with what was decided."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from denials.conftest import COMPLAINING, Watch
from host.machine import ROOT
from system.support import FHIR

pytestmark = pytest.mark.timeout(300)
Start = Callable[..., str]
# pause(2), which the profile hapi has no use for, is all that the probe's sleeper waits with.
CALL = {"call": "pause", "comm": "sleeper", "exe": "/bin/sleeper"}


def test_what_would_be_denied_is_joined_with_the_decision(watch: Watch, start: Start, runtime: str) -> None:
    watch.begin("--json")
    container = start(COMPLAINING, "--name", "complains", command=["sleeper"], runtime=runtime)
    watch.wait(lambda: any(r.get("call") == "pause" for r in watch.of(container)))
    assert watch.end()["records"] >= 3
    decision = next(r for r in watch.records("decision") if r["container"]["id"] == container)
    record = next(r for r in watch.of(container) if r.get("call") == "pause")
    assert {name: record[name] for name in CALL} == CALL
    assert (record["what"], record["action"], record["mapped"], record["count"], record["total"]) == (
        "seen", "log", "cgroup", 1, 1
    )  # fmt: skip
    assert record["container"] == {"id": container, "name": "complains"} and record["owner"] == 0
    assert record["decided_by"] == decision["seq"]
    assert (record["mode"], record["policy"], record["profile"]) == (
        "complain", decision["policy"], decision["profile"]
    )  # fmt: skip
    assert record["image"]["id"] == decision["image"]["id"]
    assert decision["time"] <= record["first"] <= record["last"] <= record["time"]
    assert watch.watch("unobservable") == []
    assert [r["what"] for r in watch.records("watch")][-1] == "stopped"


def test_attack_a_container_that_floods_the_log_makes_a_few_records_and_every_call_counts(
    watch: Watch, start: Start, logging_filter: Path
) -> None:
    """Denied pause(2), the sleeper tries again at once, for ever."""
    watch.begin("--json", "--every", "0.05")
    options = ("--security-opt", f"seccomp={logging_filter}")
    container = start(FHIR, *options, command=["sleeper"], runtime="crun")
    time.sleep(8)
    seen = watch.end()["seen"]
    found = [r for r in watch.of(container) if r.get("call") == "pause"]
    assert found[0]["what"] == "seen" and {r["what"] for r in found[1:]} == {"counted"}
    assert {r["action"] for r in found} == {"errno"} and len(found) <= 5
    assert found[-1]["total"] == sum(r["count"] for r in found) > 1000
    assert seen >= found[-1]["total"]
    assert all(one["last"] <= two["first"] for one, two in zip(found, found[1:], strict=False))
    # what the kernel dropped meanwhile is said, in as few records
    assert len(watch.watch("lost")) <= 5


def test_that_denials_leave_no_trace_is_said_once_for_each_container(
    watch: Watch, start: Start, runtime: str, logging_filter: Path
) -> None:
    """Its filter is loaded without SECCOMP_FILTER_FLAG_LOG, which runc 1.1 can't set at all."""
    silent = start(FHIR, command=["sh", "-c", "sleep 100"], runtime=runtime)
    watch.begin("--json")
    later = start(FHIR, command=["sh", "-c", "sleep 100"], runtime=runtime)
    heard = start(FHIR, "--security-opt", f"seccomp={logging_filter}", command=["sleep", "100"], runtime="crun")
    watch.wait(lambda: {silent, later} <= {r["container"]["id"] for r in watch.watch("unobservable")})
    watch.end()
    said = [r for r in watch.watch("unobservable") if r["container"]["id"] in (silent, later, heard)]
    assert sorted(r["container"]["id"] for r in said) == sorted([silent, later])
    assert all(r["findings"][0]["code"] == "FH213" and "FLAG_LOG" in r["findings"][0]["text"] for r in said)
    watch.begin("--json")
    time.sleep(3)
    watch.end()
    assert [r for r in watch.watch("unobservable") if r["container"]["id"] in (silent, later, heard)] == []


def test_a_process_that_is_gone_is_unmapped_unless_its_session_is_that_of_one_container(
    watch: Watch, start: Start
) -> None:
    watch.begin("--json")
    script = (
        "echo 0 >/proc/self/loginuid; c=$(podman --runtime crun run -d --network none {} sh -c 'sleep 100'); sleep 6; "
        "podman --runtime crun exec $c try keyctl >&2; echo $c"
    )
    container = ""
    try:
        done = watch.host.run(["sh", "-c", script.format(COMPLAINING)], check=True)
        container = done.stdout.split()[-1]
        bare = start(COMPLAINING, command=["try", "unshare_user", "unshare_user", "unshare_user"], runtime="crun")
        time.sleep(1)
        watch.end()
    finally:
        watch.host.podman("rm", "-f", "-t", "0", container)
    mine = {r["mapped"]: r for r in watch.of(container) if r.get("call") == "keyctl"}
    assert set(mine) <= {"session", "cgroup"} and mine, watch.records("denial")
    gone = [r for r in watch.records("denial") if r.get("call") == "unshare"]
    assert sum(r["count"] for r in gone) == 3
    for record in gone:
        assert record["mapped"] in ("unmapped", "cgroup")
        assert ("container" in record) == (record["mapped"] == "cgroup")
        assert record.get("container", {"id": bare})["id"] == bare


def test_what_is_killed_by_its_filter_is_seen_without_the_flag(
    watch: Watch, start: Start, tmp_path: Path
) -> None:
    """The profiles kill what calls by another ABI."""
    source = ROOT / "tests/recording/programs/i386.s"
    words = ["gcc", "-Os", "-static", "-no-pie", "-m32", "-nostdlib", "-o", tmp_path / "foreign", source]
    subprocess.run(words, check=True)
    tmp_path.chmod(0o755)
    watch.begin("--json")
    container = start(FHIR, "-v", f"{tmp_path}:/p:ro", command=["sh", "-c", "/p/foreign; sleep 100"], runtime="runc")
    watch.wait(lambda: any(r.get("exe") == "/p/foreign" for r in watch.records("denial")))
    watch.end()
    record = next(r for r in watch.records("denial") if r.get("exe") == "/p/foreign")
    assert record["action"] == "kill" and record["call"].endswith("of another ABI")
    assert record.get("container", {"id": container})["id"] == container


def test_attack_a_line_in_the_kernel_log_that_is_not_the_kernels(watch: Watch) -> None:
    watch.begin("--json")
    line = (
        "<4>audit: type=1326 audit(1795276726.313:99999999): auid=0 uid=0 gid=0 ses=1 pid=1 "
        'comm="forged" exe="/forged" sig=0 arch=c000003e syscall=250 compat=0 ip=0x1 code=0x50000'
    )
    Path("/dev/kmsg").write_text(line)
    time.sleep(4)
    watch.end()
    assert [r for r in watch.records("denial") if r.get("exe") == "/forged"] == []


def test_processes_of_no_container_are_counted_and_make_no_record(watch: Watch) -> None:
    code = (
        "import pyseccomp, ctypes, time; f = pyseccomp.SyscallFilter(pyseccomp.ALLOW);"
        "f.add_rule(pyseccomp.LOG, 'keyctl'); f.load();"
        "time.sleep(0.5); ctypes.CDLL(None).syscall(250, 0, -3, 0); time.sleep(3)"
    )
    watch.begin("--json")
    subprocess.run([ROOT / ".venv/bin/python", "-c", code], check=True)
    report = watch.end()
    assert report["elsewhere"] >= 1 and watch.watch("stopped")[0]["elsewhere"] >= 1
    mine = [r for r in watch.records("denial") if (r.get("call"), r.get("comm")) == ("keyctl", "python")]
    assert mine == []


def test_what_nobody_watched_is_read_once_from_the_kernel_log(watch: Watch, start: Start) -> None:
    container = start(COMPLAINING, command=["sleeper"], runtime="crun")
    time.sleep(1)
    watch.once()
    found = [r for r in watch.of(container) if r.get("call") == "pause"]
    assert [(r["what"], r["count"], r["mapped"]) for r in found] == [("seen", 1, "cgroup")]
    watch.once()
    assert watch.of(container) == []
    # as does one that is stopped and started again, even by SIGKILL
    watch.begin()
    watch.kill()
    other = start(COMPLAINING, command=["sleeper"], runtime="crun")
    watch.begin("--json")
    watch.wait(lambda: any(r.get("call") == "pause" for r in watch.of(other)))
    watch.end()
    assert watch.of(container) == []


def test_people_are_told_in_the_table(watch: Watch, start: Start) -> None:
    start(COMPLAINING, "--name", "shown", command=["sleeper"], runtime="crun")
    start(FHIR, "--name", "silent", command=["sh", "-c", "sleep 100"], runtime="runc")
    time.sleep(1)
    watch.once()
    text = shown(watch, "shown")
    assert "denial" in text and "pause would be denied, once, /bin/sleeper" in text
    text = shown(watch, "silent")
    assert "denials can't be observed" in text and "FH213" in text


def shown(watch: Watch, container: str) -> str:
    """What `fhir-hook log` prints about a container, in one line."""
    words = ["/usr/bin/python3", "-P", "-B", "-m", "fhir_hook.cli.main", "log", "--container", container]
    done = watch.host.run(words, env={"PYTHONPATH": str(ROOT), "COLUMNS": "250"}, check=True)
    return " ".join(done.stdout.split())


def test_an_ordinary_user_is_told_what_to_do(product: object, watch: Watch) -> None:
    done = watch.host.run(
        ["/usr/bin/python3", "-P", "-B", "-m", "fhir_hook.cli.main", "log", "watch", "--once"],
        user="rootless", env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 1 and "root" in done.stderr, done.stderr


def test_watching_ends_after_the_time_that_was_given(watch: Watch) -> None:
    done = watch.host.run(watch.words("--for", "1", "--json"), env={"PYTHONPATH": str(ROOT)}, check=True, timeout=30)
    assert json.loads(done.stdout)["ways"]
