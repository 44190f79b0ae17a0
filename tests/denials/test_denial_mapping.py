"""From a process to its container, with real processes in groups that are named as engines name them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_hook.denials import mapping
from fhir_hook.denials.counting import UNMAPPED, Place
from host.machine import Host

ID = "d" * 64
PIDS = Path("/sys/fs/cgroup/pids")


class Group:
    """A control group that is named after a container."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str) -> int:
        """Start a process in it."""
        script = 'echo $$ >"$0" && exec "$@"'
        argv = ["sh", "-c", script, str(self.path / "cgroup.procs"), *words]
        self.processes.append(subprocess.Popen(argv))
        pid = self.processes[-1].pid
        while ID not in Path(f"/proc/{pid}/cgroup").read_text():
            time.sleep(0.01)
        return pid

    def end(self) -> None:
        """End all."""
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def group(bare_host: Host) -> Iterator[Group]:
    path = (PIDS if PIDS.is_dir() else Path("/sys/fs/cgroup")) / f"libpod-{ID}"
    path.mkdir()
    found = Group(path)
    yield found
    found.end()
    path.rmdir()


def session(pid: int) -> int:
    """Its audit session."""
    return int(Path(f"/proc/{pid}/sessionid").read_text())


def test_a_process_is_found_while_it_is_there_and_remembered_for_two_scans(group: Group) -> None:
    processes = mapping.Processes()
    pid = group.start("sleep", "100")
    assert processes.find(pid, mapping.UNSET, time.time()) == (Place(ID, 0), mapping.CGROUP)
    assert processes.scan() == {Place(ID, 0)}
    group.end()
    time.sleep(1.1)
    assert processes.find(pid, mapping.UNSET, time.time()) == (Place(ID, 0), mapping.REMEMBERED)
    processes.scan()
    assert processes.find(pid, mapping.UNSET, time.time()) == (Place(ID, 0), mapping.REMEMBERED)
    processes.scan()
    assert processes.find(pid, mapping.UNSET, time.time()) == (UNMAPPED, mapping.NOWHERE)


def test_a_session_tells_only_while_it_is_that_of_one_container(group: Group, bare_host: Host) -> None:
    processes = mapping.Processes()
    # setting the login uid, to what it is, begins a session
    pid = group.start("sh", "-c", "echo 0 >/proc/self/loginuid; sleep 100; :")
    time.sleep(0.5)
    processes.scan()
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert session(pid) != mapping.UNSET
    assert processes.find(gone.pid, session(pid), time.time()) == (Place(ID, 0), mapping.SESSION)
    assert processes.find(gone.pid, mapping.UNSET, time.time()) == (UNMAPPED, mapping.NOWHERE)
    other = group.path.parent / f"docker-{'e' * 64}.scope"
    other.mkdir()
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        (other / "cgroup.procs").write_text(children[0])
        processes.scan()
        assert processes.find(gone.pid, session(pid), time.time()) == (UNMAPPED, mapping.NOWHERE)
    finally:
        os.kill(int(children[0]), 9)
        time.sleep(0.2)
        other.rmdir()


def test_processes_of_the_host_are_in_no_container_and_nested_ones_in_one_that_is_not_known(bare_host: Host) -> None:
    processes = mapping.Processes()
    assert processes.find(os.getpid(), mapping.UNSET, time.time()) is None
    nested = subprocess.Popen(["unshare", "-p", "-f", "--kill-child", "sleep", "100"])
    try:
        time.sleep(0.5)
        inner = Path(f"/proc/{nested.pid}/task/{nested.pid}/children").read_text().split()
        assert processes.find(int(inner[0]), mapping.UNSET, time.time()) == (UNMAPPED, mapping.NOWHERE)
    finally:
        nested.kill()
        nested.wait()


def test_attack_a_container_whose_process_has_the_number_of_one_that_was_denied_something(group: Group) -> None:
    """What the kernel log still holds may be older than who has the number now."""
    processes = mapping.Processes()
    pid, now = group.start("sleep", "100"), time.time()
    for _ in range(2):
        assert processes.find(pid, mapping.UNSET, now) == (Place(ID, 0), mapping.CGROUP)
        assert processes.find(pid, mapping.UNSET, now - 60) == (UNMAPPED, mapping.NOWHERE)
        processes.scan()
    assert processes.find(os.getpid(), mapping.UNSET, 1.0) == (UNMAPPED, mapping.NOWHERE)
