"""Rotating the log under its writers, and keeping it: archive, removal, restoration."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.conftest import APPEND, Bench, killing
from fhir_hook.store import log_reader, segments

ROTATE = """
from fhir_hook.store import log, rotation
import sys, time
end = time.time() + float(sys.argv[1])
done = 0
while time.time() < end:
    done += rotation.rotate(log.directory()) is not None
    time.sleep(0.002)
print(done)
"""


def records(host: Bench) -> list[dict[str, Any]]:
    """All records of the log; its chain must hold across all files."""
    found = list(log_reader.entries(host.log))
    assert [(entry.path, entry.number, entry.problem) for entry in found if entry.problem] == []
    assert [entry.record["seq"] for entry in found] == list(range(len(found)))
    return [entry.record for entry in found]


def test_rotation_closes_the_file_under_the_seq_it_begins_with_and_goes_on_with_the_chain(host: Bench) -> None:
    host.append(3)
    assert host.json("log", "rotate", "--now")["closed"].endswith("/decisions-000000000000.jsonl")
    host.append(2)
    assert host.json("log", "rotate", "--now")["closed"].endswith("/decisions-000000000003.jsonl")
    found = records(host)
    assert [r["event"] for r in found] == ["test"] * 3 + ["log"] + ["test"] * 2 + ["log"]
    assert found[3]["closed"] == "decisions-000000000000.jsonl" and found[3]["bytes"] == (
        host.log / "decisions-000000000000.jsonl"
    ).stat().st_size
    assert {path.stat().st_mode & 0o777 for path in host.log.glob("*.jsonl")} == {0o640}


def test_a_log_is_rotated_when_it_is_large_or_old_enough_and_never_twice_for_nothing(host: Bench) -> None:
    assert host.json("log", "rotate")["closed"] is None
    host.append(2)
    assert host.json("log", "rotate", "--size", "1M")["closed"] is None
    assert host.json("log", "rotate", "--size", "300")["closed"]
    assert host.json("log", "rotate", "--size", "10")["closed"] is None
    host.append(1)
    time.sleep(0.01)
    assert host.json("log", "rotate", "--age", "0h")["closed"]
    assert host.json("log", "rotate", "--now")["closed"] is None
    assert len(records(host)) == 5


def test_a_hundred_writers_lose_no_record_while_the_log_is_rotated_all_the_time(host: Bench) -> None:
    host.append(1)
    rotator = host.sandbox.start(ROTATE, "25")
    writers = [host.sandbox.start(APPEND, "5", f"writer{n}") for n in range(100)]
    said = [writer.communicate(timeout=200)[0] for writer in writers]
    rotator.send_signal(signal.SIGINT)
    rotator.communicate(timeout=60)
    assert [out for out in said if b"refused" in out or out.count(b"\n") != 5] == []
    found = [record for record in records(host) if record["event"] == "test" and record["who"]]
    assert {(r["who"], r["n"]) for r in found} == {(f"writer{w}", n) for w in range(100) for n in range(5)}
    assert len(found) == 500 and len(segments.closed(host.log)) > 1
    for out, who in zip(said, range(100), strict=True):
        seqs = [int(line) for line in out.split()]
        assert [r["seq"] for r in found if r["who"] == f"writer{who}"] == seqs, "acknowledged under the seq it has"


def test_a_torn_tail_is_told_before_the_log_is_rotated(host: Bench) -> None:
    host.append(2)
    with host.file.open("ab") as file:
        file.write(b'{"time":')
    assert host.json("log", "rotate", "--now")["closed"]
    assert [r["event"] for r in records(host)] == ["test", "test", "recovery", "log", "log"]


def test_a_rotation_that_is_killed_at_any_system_call_loses_nothing_and_the_next_one_completes_it(
    host: Bench,
) -> None:
    host.append(2)
    code = "from fhir_hook.store import log, rotation\nrotation.rotate(log.directory())\n"
    kills = 0
    for call in ("flock", "fsync", "fchown", "fchmod", "write", "link", "linkat", "rename", "close"):
        for argv in killing(call, host.sandbox.argv(code)):
            done = host.sandbox.run(argv)
            before = len(records(host))
            host.append(1)
            assert len(records(host)) == before + 1
            if done.returncode == 0:
                break
            kills += 1
    assert kills > 10 and len(segments.closed(host.log)) > 5
    assert {path.suffix for path in host.log.iterdir()} <= {".jsonl", ".next"}


def test_reading_goes_on_while_the_log_is_rotated(host: Bench) -> None:
    host.append(1)
    stop = threading.Event()
    problems: list[object] = []

    def read() -> None:
        while not stop.is_set():
            found = list(log_reader.entries(host.log))
            problems.extend(e.problem for e in found if e.problem and not e.problem.startswith("torn"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        rotator = host.sandbox.start(ROTATE, "4")
        while rotator.poll() is None:
            host.append(20)
    finally:
        stop.set()
        reader.join()
    assert problems == [] and len(segments.closed(host.log)) > 2


def test_what_was_rotated_after_the_current_file_was_opened_is_left_for_the_next_reading(host: Bench) -> None:
    host.append(3)
    for _ in range(3):
        host("log", "rotate", "--now", check=True)
        host.append(1)
    with segments.snapshot(host.log) as parts:
        assert [(part.first, part.closed) for part in parts] == [(0, True), (3, True), (5, True), (7, False)]
    os.replace(host.log / segments.name_of(3), host.file)  # what a reader holds that opened it two rotations ago
    with segments.snapshot(host.log) as parts:
        assert [(part.first, part.closed) for part in parts] == [(0, True), (3, False)]


@pytest.fixture
def kept(signed: Bench, tmp_path: Path) -> tuple[Bench, Path]:
    """A signed log in three closed segments and the current one, and its archive."""
    for _ in range(3):
        signed.append(10)
        signed("log", "rotate", "--now", check=True)
    signed.append(5)
    assert signed.json("log", "archive", "--to", tmp_path / "archive")["archived"] == 58
    return signed, tmp_path / "archive"


def test_an_archive_verifies_by_itself_on_another_machine(
    kept: tuple[Bench, Path], new_host: Callable[[str], Bench]
) -> None:
    host, archive = kept
    done = new_host("auditor")("log", "verify", "--log", archive, "--key", host.key())
    assert done.returncode == 0, done.stdout + done.stderr
    assert [r["what"] for r in records(host) if r["event"] == "log"][-1] == "archived"
    host.append(3)
    assert host.json("log", "archive", "--to", archive)["archived"] == 62
    assert len(records(host)) == 63


def test_an_archive_of_another_log_is_not_written_over(
    kept: tuple[Bench, Path], new_host: Callable[[str], Bench]
) -> None:
    host, archive = kept
    other = new_host("other")
    other.append(7)
    other("log", "key", "new", check=True)
    other("log", "rotate", "--now", check=True)
    before = {path: path.read_bytes() for path in archive.rglob("*") if path.is_file()}
    done = other("log", "archive", "--to", archive)
    assert done.returncode == 1 and "another file" in done.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert host("log", "verify", "--log", archive, "--key", host.key()).returncode == 0


def test_nothing_is_removed_before_its_time(kept: tuple[Bench, Path]) -> None:
    host, archive = kept
    done = host.json("log", "remove", "--archive", archive)
    assert done["removed"] == [] and "not old enough" in done["kept"]
    assert len(segments.closed(host.log)) == 3


def test_what_is_old_signed_and_archived_is_removed_on_record_and_the_rest_still_verifies(
    kept: tuple[Bench, Path],
) -> None:
    host, archive = kept
    assert len(host.json("log", "remove", "--archive", archive, "--keep", "0h", "--dry-run")["removable"]) == 3
    assert len(segments.closed(host.log)) == 3
    assert len(host.json("log", "remove", "--archive", archive, "--keep", "0h")["removed"]) == 3
    assert segments.closed(host.log) == []
    host("log", "checkpoint", check=True)
    report = host.json("log", "verify")
    assert report["good"] and report["first"] > 30
    last = records_from(host)[-1]
    assert last["what"] == "removed" and last["before"] == report["first"] and len(last["segments"]) == 3
    assert host("log", check=True).stderr == ""
    done = host("log", "prove", "3")
    assert done.returncode == 1 and "look in the archive" in done.stderr
    assert host("log", "prove", "3", "--log", archive, "--key", host.key()).returncode == 0
    host.append(1)
    assert host.json("log", "archive", "--to", archive)["archived"] == 61


def records_from(host: Bench) -> list[dict[str, Any]]:
    return [json.loads(line) for line in host("log", "--json", check=True).stdout.splitlines()]


def test_the_oldest_files_missing_without_a_record_of_it_is_told(kept: tuple[Bench, Path]) -> None:
    host, _ = kept
    segments.closed(host.log)[0][1].unlink()
    done = host("log", "verify")
    assert done.returncode == 1 and "no record says that they were archived" in done.stdout


SPOILT: dict[str, Callable[[Path], Any]] = {
    "segment missing": lambda archive: (archive / segments.name_of(0)).unlink(),
    "segment changed": lambda archive: _change(archive / segments.name_of(0)),
    "checkpoint missing": lambda archive: (archive / "tree/checkpoint").unlink(),
    "checkpoint changed": lambda archive: _change(archive / "tree/checkpoint"),
    "empty": lambda archive: [shutil.rmtree(archive), archive.mkdir()],
}


def _change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("what", list(SPOILT))
def test_nothing_is_removed_when_the_archive_is_not_whole(kept: tuple[Bench, Path], what: str) -> None:
    host, archive = kept
    SPOILT[what](archive)
    done = host("log", "remove", "--archive", archive, "--keep", "0h")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert len(segments.closed(host.log)) == 3


def test_a_lost_host_s_log_is_rebuilt_from_its_archive_and_goes_on(
    kept: tuple[Bench, Path], new_host: Callable[[str], Bench]
) -> None:
    lost, archive = kept
    key, new = lost.key(), new_host("new")
    done = new("log", "restore", "--from", archive, "--key", key, check=True)
    assert "restored 58 records, 58 of them signed" in done.stdout
    new.append(2)
    assert new("log", "checkpoint").returncode == 3, "the private key is not in the archive"
    new("log", "key", "new", "--lost", check=True)
    report = new.json("log", "verify")
    assert report["good"] and report["records"] == report["signed"] == 62
    proof = archive.parent / "proof"
    proof.write_text(new("log", "prove", "--from", "58", "--json", check=True).stdout)
    assert new("log", "verify-proof", proof, "--key", key, "--key", new.key()).returncode == 0
    found = records(new)
    assert [r["what"] for r in found if r["event"] == "log"][-2:] == ["restored", "key"]
    assert found[-1]["result"] == "lost"


def test_a_restored_log_that_lacks_what_was_signed_since_is_refused(
    kept: tuple[Bench, Path], new_host: Callable[[str], Bench], tmp_path: Path
) -> None:
    lost, archive = kept
    lost.append(4)
    later = tmp_path / "later"
    later.write_text(lost("log", "checkpoint", check=True).stdout)
    new = new_host("new")
    done = new("log", "restore", "--from", archive, "--key", lost.key(), "--checkpoint", later)
    assert done.returncode == 1 and "5 were cut off" in done.stderr
    assert list(new.log.iterdir()) == []


@pytest.mark.parametrize("what", list(SPOILT))
def test_a_spoilt_archive_is_not_restored(
    kept: tuple[Bench, Path], new_host: Callable[[str], Bench], what: str
) -> None:
    lost, archive = kept
    SPOILT[what](archive)
    new = new_host("new")
    assert new("log", "restore", "--from", archive, "--key", lost.key()).returncode in (1, 2, 3)
    assert list(new.log.iterdir()) == []


def test_a_log_is_not_restored_over_another(kept: tuple[Bench, Path]) -> None:
    host, archive = kept
    before = {path: path.read_bytes() for path in host.log.iterdir()}
    done = host("log", "restore", "--from", archive, "--key", host.key())
    assert done.returncode == 1 and "move it away" in done.stderr
    assert {path: path.read_bytes() for path in host.log.iterdir()} == before


def test_the_archive_lets_only_root_and_its_group_read_the_records(kept: tuple[Bench, Path]) -> None:
    _, archive = kept
    assert {path.stat().st_mode & 0o777 for path in archive.glob("decisions*")} == {0o640}
    assert os.listdir(archive / "tree") and not list(archive.rglob("log.key"))
