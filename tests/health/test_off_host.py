"""fhir-hook doctor about the log elsewhere: no way set up, receivers that are away, and a log that was cut off."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.conftest import Bench, rechained, written
from fhir_hook.audit import note
from support.sandbox import ROOT, Sandbox


@pytest.fixture
def host(tmp_path: Path) -> Bench:
    """A host whose log has records of 2023."""
    made = Bench(Sandbox(tmp_path / "host"))
    written(made.file, 20)
    return made


def nowhere() -> str:
    """HOST:PORT that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def said(host: Bench) -> list[dict[str, Any]]:
    """What the doctor says of it."""
    findings = json.loads(host("doctor", "--json").stdout)["findings"]
    return [finding for finding in findings if finding["check"] == "log.off-host"]


@contextlib.contextmanager
def journal(host: Bench, tmp_path: Path) -> Iterator[None]:
    """A socket in the journal's place that takes everything: a network namespace of its own queues ten datagrams."""
    taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    taken.bind(str(tmp_path / "socket"))
    host.sandbox.setup += f"mkdir -p /run/systemd/journal; mount -t tmpfs none /run/systemd/journal; " \
        f"touch /run/systemd/journal/socket; mount --bind {tmp_path / 'socket'} /run/systemd/journal/socket\n"
    with taken:
        reader = threading.Thread(target=_drain, args=(taken,), daemon=True)
        reader.start()
        yield
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(tmp_path / "socket"))
        reader.join()


def _drain(taken: socket.socket) -> None:
    while taken.recv(1 << 16):
        pass


def test_that_nothing_leaves_the_host_is_said_with_the_reason_and_what_to_do(host: Bench) -> None:
    (finding,) = said(host)
    assert finding["level"] == "note" and "nothing leaves this host" in finding["seen"]
    assert "root" in finding["why"] and "fhir-hook log forward" in finding["repair"]


def test_attack_the_log_in_this_hosts_own_journal_is_not_off_host(host: Bench, tmp_path: Path) -> None:
    with journal(host, tmp_path):
        host("log", "forward", "--journal", check=True)
        good, finding = said(host)
        # where the product is installed the doctor tries the hook, which records that this host has no policy
        assert good["level"] == "good"
        assert good["seen"].startswith(("the journal has everything", "the journal is asked, and has all but"))
        assert finding["level"] == "note" and "journal only" in finding["seen"]


@pytest.mark.parametrize(
    ("words", "what"),
    [(("log", "forward", "--syslog", "{}"), "syslog"), (("log", "deliver", "--to", "http://{}/fhir"), "repository")],
)
def test_a_receiver_that_was_never_reached_is_named_with_the_command(
    host: Bench, words: tuple[str, ...], what: str
) -> None:
    address = nowhere()
    command = [word.format(address) for word in words]
    assert host(*command).returncode == 3
    (finding,) = said(host)
    assert finding["level"] == "bad" and what in finding["seen"] and "refused" in finding["seen"]
    assert "days: the records from 0 on" in finding["seen"]
    assert finding["repair"] == " ".join(["fhir-hook", *command])


def test_attack_a_log_that_was_cut_off_or_written_anew_after_it_was_delivered(host: Bench, tmp_path: Path) -> None:
    with journal(host, tmp_path):
        host("log", "forward", "--journal", check=True)
        lines = host.lines()
        host.file.write_bytes(b"".join(lines[:10]))
        assert (said(host)[0]["level"], "cut off" in said(host)[0]["why"]) == ("bad", True)
        host.file.write_bytes(b"".join(rechained([b'{"event":"forged"}\n', *lines[1:]], 0)))
        assert said(host)[0]["level"] == "bad"
        host.file.write_bytes(b"".join(lines))
        assert said(host)[0]["level"] == "good"


def test_what_is_behind_and_was_good_the_last_time_is_named_when_it_is_old(host: Bench, tmp_path: Path) -> None:
    """Somebody stopped the service, and nobody noticed."""
    lines = host.lines()
    host.file.write_bytes(b"".join(lines[:15]))
    with journal(host, tmp_path):
        host("log", "forward", "--journal", check=True)
        host.file.write_bytes(b"".join(lines))
        found = said(host)[0]
        assert found["level"] == "bad" and "days: the records from 15 on" in found["seen"]
        assert found["repair"] == "fhir-hook log forward --journal"


def test_a_witness_that_could_not_be_asked_or_saw_another_history_is_named(host: Bench, tmp_path: Path) -> None:
    host("log", "key", "new", "--origin", "test.example/log", check=True)
    host("log", "checkpoint", check=True)
    other = Bench(Sandbox(tmp_path / "other"))
    made = other.sandbox.run(other.argv(
        "log", "witness-serve", "--state", tmp_path / "w", "--log-key", host.key(), "--listen", "256.0.0.1:1",
        "--name", "witness.example",
    ), env={"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert made.returncode == 3, made
    key = str(note.Signer.parse((tmp_path / "w" / "witness.key").read_text()).verifier)
    url = f"http://{nowhere()}"
    assert host("log", "witness", "--url", url, "--witness-key", key).returncode == 3
    (finding,) = said(host)
    assert finding["level"] == "note" and "witness.example" in finding["seen"] and "reached" in finding["seen"]
    assert finding["repair"].startswith(f"fhir-hook log witness --url {url}")


@pytest.mark.parametrize("data", [b"", b"{", b'{"to": 5, "command": [], "problem": {}}', b"\xff" * 100, b"[]"])
def test_attack_a_state_that_is_damaged_is_no_end_of_the_doctor(host: Bench, data: bytes) -> None:
    folder = host.sandbox.state / "forward"
    folder.mkdir()
    (folder / "syslog-0123456789ab.last").write_bytes(data)
    (folder / "syslog-0123456789ab").write_bytes(data)
    (finding,) = said(host)
    assert finding["level"] == "bad" and "remove it" in finding["seen"] and "cut off" not in finding["why"]


def archived(host: Bench) -> list[dict[str, Any]]:
    """What the doctor says of archives."""
    findings = json.loads(host("doctor", "--json").stdout)["findings"]
    return [finding for finding in findings if finding["check"] == "log.archived"]


def test_segments_that_no_archive_has_or_that_are_due_to_go_are_named_with_the_command(
    host: Bench, tmp_path: Path
) -> None:
    assert [finding["level"] for finding in archived(host)] == ["good"]
    host("log", "key", "new", "--origin", "test.example/log", check=True)
    host("log", "rotate", check=True)
    (finding,) = archived(host)
    assert finding["level"] == "note" and "decisions-000000000000.jsonl" in finding["seen"]
    assert finding["repair"] == "fhir-hook log archive --to DIRECTORY"
    host("log", "archive", "--to", tmp_path / "archive", check=True)
    assert [finding["level"] for finding in archived(host)] == ["good"]
    closed = host.log / "decisions-000000000000.jsonl"
    os.utime(closed, (1_000_000_000, 1_000_000_000))
    (finding,) = archived(host)
    assert finding["repair"] == f"fhir-hook log remove --archive {tmp_path / 'archive'}"
    host("log", "rotate", "--now", check=True)
    assert {f["repair"].split()[2] for f in archived(host)} == {"archive", "remove"}


def test_how_large_old_and_long_kept_segments_are_is_a_setting(host: Bench, tmp_path: Path) -> None:
    (host.sandbox.share / "profiles").symlink_to(ROOT / "profiles")
    settings = host.sandbox.etc / "config.toml"
    settings.write_text('[log]\nsegment_size = "10K"\nsegment_age = "900y"\nkeep = "1d"\n')
    host("policy", "compile", check=True)
    host("log", "key", "new", "--origin", "test.example/log", check=True)
    assert host.json("log", "rotate")["closed"] is None
    host.append(50)
    assert host.json("log", "rotate")["closed"]
    host("log", "archive", "--to", tmp_path / "archive", check=True)
    again = host.json("log", "remove", "--archive", tmp_path / "archive", "--dry-run")
    assert again["removable"] == [] and "not old enough" in again["kept"]
    for wrong in ('segment_size = "0M"', 'segment_age = "1"', 'keep = "-6y"', "keep = 6"):
        settings.write_text(f"[log]\n{wrong}\n")
        assert host("policy", "check").returncode == 1, wrong


def test_a_first_delivery_that_failed_goes_on_although_the_oldest_segment_has_gone(
    host: Bench, tmp_path: Path
) -> None:
    host("log", "rotate", "--now", check=True)
    (host.log / "decisions-000000000000.jsonl").rename(tmp_path / "gone")
    assert host("log", "forward", "--journal").returncode == 3
    assert "the records from 20 on" in said(host)[0]["seen"]
    with journal(host, tmp_path):
        assert host.json("log", "forward", "--journal")["delivered"] in (1, 2)
        assert said(host)[0]["level"] == "good"
