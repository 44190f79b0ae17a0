"""The decision log on a full disk, read-only, torn, replaced by something else, or held by another process."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host.machine import Host, parse_status
from system.support import FHIR, LIVE, LOG, PLAIN, confined, unbroken, watching


@pytest.fixture(params=["native", "live"])
def before(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return LIVE if request.param == "live" else ()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """The log's directory on a file system of 1 MiB of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=750", "tmpfs", LOG.parent], check=True)
    yield LOG.parent
    subprocess.run(["umount", "-l", LOG.parent], check=True)


def _refused(run: Callable[..., Any], marker: Callable[..., Any], runtime: str, before: tuple[str, ...]) -> None:
    mount, ran = marker()
    more = {"before": before, "runtime": runtime}
    refused = run(FHIR, "sh", "-c", "status >/marker/ran", options=mount, **more)
    assert (refused.returncode, ran()) == (126, "")
    if runtime == "runc" or not before:
        assert "FH105" in refused.stderr
    assert run(PLAIN, "status", **more).returncode == 0, "others start"


def _fill(filler: Path) -> None:
    fd = os.open(filler, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(fd, bytes(512))
    os.close(fd)


def test_a_full_disk_refuses_fhir_and_space_brings_it_back(
    run: Callable[..., Any], marker: Callable[..., Any], small: Path, runtime: str, before: tuple[str, ...]
) -> None:
    more = {"before": before, "runtime": runtime}
    run(FHIR, "status", check=True, **more)
    filler = small / "filler"
    _fill(filler)
    size = LOG.stat().st_size
    with LOG.open("ab", buffering=0) as log:
        # The last page of the log has room of its own.
        log.write(b"x" * ((-size) % 4096))
    _refused(run, marker, runtime, before)
    filler.unlink()
    os.truncate(LOG, size)
    assert confined(parse_status(run(FHIR, "status", check=True, **more).stdout))
    assert unbroken()


def test_a_disk_that_fills_up_in_the_middle_of_a_record_leaves_no_torn_record(
    run: Callable[..., Any], marker: Callable[..., Any], small: Path
) -> None:
    run(FHIR, "status", check=True)
    for room in (0, 300, 900):
        filler = small / "filler"
        size = LOG.stat().st_size
        pages = 256 - -(-size // 4096)
        filler.write_bytes(b"\0" * 4096 * pages)
        lines = LOG.read_bytes().splitlines(keepends=True)
        last = json.loads(lines[-1])
        if (-size) % 4096 > room:
            # a record that fits, so that only `room` bytes are left for the next one
            padding = {
                "seq": last["seq"] + 1,
                "prev": hashlib.sha256(lines[-1]).hexdigest(),
                "event": "padding",
                "x": "",
            }
            short = len(json.dumps(padding)) + 1
            padding["x"] = "x" * max(0, (-size) % 4096 - room - short)
            with LOG.open("ab") as log:
                log.write(json.dumps(padding).encode() + b"\n")
        before = LOG.read_bytes()
        _refused(run, marker, "runc", ())
        assert LOG.read_bytes() == before, "what could not be written whole was taken back"
        filler.unlink()
        run(FHIR, "status", check=True)
    assert unbroken()


def test_a_read_only_log_refuses_fhir(
    run: Callable[..., Any], marker: Callable[..., Any], small: Path, runtime: str, before: tuple[str, ...]
) -> None:
    run(FHIR, "status", check=True)
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    _refused(run, marker, runtime, before)
    subprocess.run(["mount", "-o", "remount,rw", small], check=True)
    run(FHIR, "status", check=True)
    assert unbroken()


def _torn(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data + data.splitlines(keepends=True)[-1][:100])


def test_a_torn_last_record_is_set_aside_and_recorded(
    host: Host, run: Callable[..., Any], runtime: str, before: tuple[str, ...]
) -> None:
    run(FHIR, "status", check=True)
    _torn(LOG)
    known = len(LOG.read_bytes().splitlines()) - 1
    assert confined(parse_status(run(FHIR, "status", before=before, runtime=runtime, check=True).stdout))
    records = host.records()[known:]
    assert [record["event"] for record in records[:2]] == ["recovery", "decision"]
    assert records[0]["torn"]["bytes"] == 100
    assert unbroken()


def _link(path: Path) -> None:
    path.symlink_to("/etc/fhir-hook-elsewhere")


REPLACED: dict[str, Callable[[Path], Any]] = {
    "directory": lambda path: path.mkdir(),
    "FIFO": lambda path: os.mkfifo(path),
    "link": _link,
    "file without a record": lambda path: path.write_text("x" * 300_000),
    "file of other lines": lambda path: path.write_text("hello\n" * 10),
}


@pytest.mark.parametrize("kind", list(REPLACED))
def test_something_else_in_the_log_s_place_refuses_fhir_at_once(
    run: Callable[..., Any], marker: Callable[..., Any], small: Path, kind: str
) -> None:
    REPLACED[kind](LOG)
    for before in ((), LIVE):
        _refused(run, marker, "runc", before)
    assert not Path("/etc/fhir-hook-elsewhere").exists()


def test_a_log_directory_that_a_user_can_not_write_refuses_the_user_s_fhir(
    host: Host, run: Callable[..., Any], marker: Callable[..., Any]
) -> None:
    run(FHIR, "status", user="rootless", check=True)
    state = host.home("rootless") / ".local/state"
    state.rename(state.with_name("state.away"))
    state.write_text("not a directory")
    try:
        mount, ran = marker("rootless")
        refused = run(FHIR, "sh", "-c", "status >/marker/ran", options=mount, user="rootless")
        assert (refused.returncode, ran()) == (126, "")
        assert "FH105" in refused.stderr
        assert run(PLAIN, "status", user="rootless").returncode == 0
    finally:
        state.unlink()
        state.with_name("state.away").rename(state)


def test_a_log_that_another_process_holds_for_a_moment_is_waited_for(host: Host, run: Callable[..., Any]) -> None:
    run(FHIR, "status", check=True)
    with LOG.open("rb") as log, watching(host) as records:
        fcntl.flock(log, fcntl.LOCK_EX)
        release = threading.Timer(1.5, lambda: fcntl.flock(log, fcntl.LOCK_UN))
        release.start()
        assert confined(parse_status(run(FHIR, "status", check=True).stdout))
        release.join()
    assert [record["event"] for record in records] == ["decision", "outcome"]


def test_the_log_is_readable_by_root_and_its_group_only(host: Host) -> None:
    assert LOG.stat().st_mode & 0o777 == 0o640
    done = host.run(["fhir-hook", "log", "--file", LOG], user="rootless")
    assert done.returncode == 3
