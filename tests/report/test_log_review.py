"""fhir-hook log: filters, following, summaries."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from audit.conftest import Bench
from report.made_logs import Log, claims, month
from support.sandbox import ROOT


@pytest.fixture
def reviewed(bench: Bench) -> Bench:
    """Three weeks of records."""
    month(bench.log)
    return bench


MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


class Following:
    """'fhir-hook log --follow', and what it prints."""

    def __init__(self, bench: Bench, *options: str) -> None:
        argv = bench.sandbox.command(bench.argv("log", "--follow", *options))
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
        assert self.process.stdout
        os.set_blocking(self.process.stdout.fileno(), False)
        self.said = b""

    def until(self, count: int, seconds: float = 20) -> list[dict[str, object]]:
        """The records once there are `count` of them."""
        end = time.monotonic() + seconds
        assert self.process.stdout
        while self.said.count(b"\n") < count and time.monotonic() < end:
            self.said += self.process.stdout.read() or b""
            time.sleep(0.05)
        assert self.said.count(b"\n") >= count, self.said
        return [json.loads(line) for line in self.said.splitlines()]

    def ended(self) -> tuple[int, str]:
        """Its exit code and what it said on stderr."""
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said.decode()


@pytest.fixture
def following(bench: Bench) -> Iterator[Following]:
    """Follows a log of three records, from the last two on."""
    bench.append(3)
    follower = Following(bench, "--json", "-n", "2")
    follower.until(2)
    yield follower
    if follower.process.poll() is None:
        follower.process.kill()
    follower.process.communicate()


def test_records_are_chosen_by_user_event_and_profile(reviewed: Bench) -> None:
    def found(*options: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in reviewed("log", "--json", *options, check=True).stdout.splitlines()]

    everything = found()
    assert found("--user", "0") == found("--user", "root") == found("--user", "1000") == everything
    assert found("--user", "4242") == []
    assert {r["event"] for r in found("--event", "denial")} == {"denial"}
    assert {r["profile"][0]["name"] for r in found("--profile", "postgresql 1.0.0")} == {"postgresql"}  # type: ignore[index]
    assert found("--profile", "hapi", "--since", "2026-11-10", "--until", "2026-11-10") == [
        r for r in found("--profile", "hapi") if str(r["time"]).startswith("2026-11-10")
    ]
    assert found("-n", "3") == everything[-3:]


@pytest.mark.parametrize("option", [("--since", "soon"), ("--since", "999999w"), ("--user", "no such user")])
def test_what_can_not_be_meant_is_a_usage_error(reviewed: Bench, option: tuple[str, str]) -> None:
    done = reviewed("log", *option)
    assert done.returncode == 2 and "Error:" in done.stderr


def test_reading_a_large_log_takes_no_more_memory_than_a_small_one(bench: Bench) -> None:
    log = Log(bench.log)

    def peak(*options: str) -> int:
        """Peak memory in KiB."""
        argv = ["/usr/bin/python3", "-c", MEASURED, *bench.argv(*options)]
        done = bench.sandbox.run(argv, env={"PYTHONPATH": str(ROOT)})
        assert done.returncode == 0
        return int(done.stdout)

    commands = (("log", "--json", "-n", "1"), ("log", "--json"), ("log", "summary", "--json"), ("report", "--json"))
    for _ in range(200):
        log.started()
    small = [peak(*command) for command in commands]
    for _ in range(6000):
        log.started()
    large = [peak(*command) for command in commands]
    assert all(after < before + 4000 for before, after in zip(small, large, strict=True)), (small, large)


def test_following_begins_with_the_last_records_and_goes_on_with_what_comes(bench: Bench, following: Following) -> None:
    bench.append(2)
    assert [r["seq"] for r in following.until(4)] == [1, 2, 3, 4]
    following.process.send_signal(signal.SIGINT)
    assert following.ended() == (0, "")


def test_following_goes_on_across_rotations(bench: Bench, following: Following) -> None:
    for _ in range(3):
        bench("log", "rotate", "--now", check=True)
        bench.append(2)
    assert [r["seq"] for r in following.until(2 + 9)] == list(range(1, 12))
    following.process.send_signal(signal.SIGINT)
    assert following.ended() == (0, "")


def test_a_line_that_is_being_written_is_printed_when_it_is_whole(bench: Bench, following: Following) -> None:
    whole = bench.file.read_bytes()
    bench.append(1)
    line = bench.file.read_bytes()[len(whole) :]
    with bench.file.open("r+b") as file:
        file.truncate(len(whole) + 20)
        following.until(2)
        time.sleep(1.2)
        count = len(following.until(2))
        file.seek(len(whole) + 20)
        file.write(line[20:])
    assert count in (2, 3)  # 3: it had been read before it was torn
    assert following.until(3)[-1]["seq"] == 3


def test_a_torn_end_that_a_recovery_cuts_off_is_not_printed(bench: Bench, following: Following) -> None:
    with bench.file.open("ab") as file:
        file.write(b'{"torn": ')
    time.sleep(1.2)
    bench.append(1)
    assert [(r["seq"], r["event"]) for r in following.until(4)[2:]] == [(3, "recovery"), (4, "test")]
    following.process.send_signal(signal.SIGINT)
    assert following.ended() == (0, "")


def test_a_closed_pipe_ends_it_quietly_though_nothing_is_written_any_more(following: Following) -> None:
    assert following.process.stdout
    following.process.stdout.close()
    assert following.process.wait(timeout=20) == 0
    assert following.process.stderr and following.process.stderr.read() == b""
    following.process.stdout = open(os.devnull, "rb")  # noqa: SIM115 - closed by communicate()


def test_following_waits_for_a_log_that_is_not_there_yet(bench: Bench) -> None:
    follower = Following(bench, "--json")
    time.sleep(1)
    bench.append(2)
    assert [r["seq"] for r in follower.until(2)] == [0, 1]
    follower.process.send_signal(signal.SIGINT)
    assert follower.ended() == (0, "")


def test_following_waits_for_a_log_whose_directory_is_not_there_yet(bench: Bench, tmp_path: Path) -> None:
    follower = Following(bench, "--json", "--file", str(tmp_path / "later"))
    time.sleep(1)
    assert follower.process.poll() is None
    log = Log(tmp_path / "later")
    log.started()
    assert [r["seq"] for r in follower.until(2)] == [0, 1]
    follower.process.send_signal(signal.SIGINT)
    assert follower.ended() == (0, "")


def test_following_a_chain_that_does_not_hold_ends_with_exit_code_1_and_says_where(bench: Bench) -> None:
    bench.append(4)
    lines = bench.lines()
    bench.file.write_bytes(b"".join([lines[0], *lines[2:]]))
    follower = Following(bench, "--json")
    follower.until(3)
    follower.process.send_signal(signal.SIGINT)
    code, said = follower.ended()
    assert code == 1 and f"{bench.file.name}:2: " in said


@pytest.mark.parametrize("options", [("log",), ("log", "summary"), ("log", "summary", "--by", "day")])
def test_a_chain_that_does_not_hold_is_exit_code_1_and_a_line_that_says_where(
    bench: Bench, options: tuple[str, ...]
) -> None:
    bench.append(4)
    lines = bench.lines()
    bench.file.write_bytes(b"".join([lines[0], *lines[2:]]))
    done = bench(*options)
    assert done.returncode == 1 and f"{bench.file.name}:2: " in done.stderr and len(done.stderr.splitlines()) == 1


def test_no_lines_are_none(reviewed: Bench) -> None:
    assert reviewed("log", "-n", "0", "--json", check=True).stdout == ""


def test_a_time_without_a_zone_is_utc_and_days_are_of_the_zone_that_times_are_shown_in(bench: Bench) -> None:
    log = Log(bench.log)
    log.refused(time="2026-11-01T23:30:00")
    log.refused(time="2026-11-01T23:30:00Z")
    bench.sandbox.setup = "export TZ=Asia/Tokyo"
    assert bench("log", check=True).stdout.count("2026-11-02 08:30:00") == 2
    said = bench("log", "summary", "--by", "day", check=True).stdout
    assert "2026-11-02 08:30:00" in said and "2026-11-01" not in said
    assert [group["key"] for group in bench.json("log", "summary", "--by", "day")["day"]] == ["2026-11-02"]
    page = bench("report", check=True).stdout
    assert "2026-11-01 23:30:00" in page and "2026-11-02 08" not in page and "2026-11-01 14:30" not in page


def test_attack_a_user_who_says_that_the_host_refused_or_exempted_is_in_no_table_of_the_summary(bench: Bench) -> None:
    log = Log(bench.log)
    log.started("host")
    before = bench.json("log", "summary"), bench.json("log", "summary", "--by", "decision")
    claims(log)
    after = bench.json("log", "summary"), bench.json("log", "summary", "--by", "decision")
    assert [each.pop("collected")["count"] for each in (*before, *after)] == [0, 0, 5, 5]
    assert before == after
    said = bench("log", "summary", check=True).stdout
    assert "nothing was refused" in said and "5 records that users sent from their own logs are not counted" in said


def test_a_users_image_in_a_denial_is_marked_as_the_users_word(bench: Bench) -> None:
    log = Log(bench.log)
    log.denial("ptrace", owner=1000)
    groups = bench.json("log", "summary", "--by", "image")["image"]
    assert [group["key"] for group in groups] == ["localhost/hapi:8.8.0 (as uid 1000 says)"]


def test_a_user_without_a_log_is_told_where_the_hosts_is(bench: Bench) -> None:
    argv = ["setpriv", "--reuid", "65534", "--clear-groups", "env", "HOME=/nonexistent"]
    for options, option in ((("log",), "--file"), (("log", "summary"), "--file"), (("report",), "--log")):
        done = bench.sandbox.run([*argv, *bench.argv(*options)], env={"PYTHONPATH": str(ROOT)})
        assert f"{option} /var/log/fhir-hook" in done.stderr.decode(), done


def test_the_summary_says_refusals_who_runs_without_and_what_changed(reviewed: Bench) -> None:
    said = " ".join(reviewed("log", "summary", check=True).stdout.split())
    assert "FH101 4 the image names a profile that is not installed" in said
    assert "complain mode" in said and "exempt" in said
    assert "mode enforce → complain" in said and "new image localhost/postgresql:15" in said
    document = reviewed.json("log", "summary")
    assert {r["key"]: r["count"] for r in document["refusals"]} == {"FH101": 4, "FH110": 4}
    assert {(r["decision"], r["count"]) for r in document["without"]} == {("complain mode", 1), ("exempt", 1)}


def test_what_changed_since_a_day_names_only_what_is_new_since_then(reviewed: Bench) -> None:
    events = reviewed.json("log", "summary", "--since", "2026-11-13")["changes"]["events"]
    assert events == []  # nothing on the last days that had not been there before
    events = reviewed.json("log", "summary", "--since", "2026-11-09", "--until", "2026-11-10")["changes"]["events"]
    assert [e["kind"] for e in events] == [
        "settings", "mode", "new profile", "policy in use", "mode", "policy in use"]  # fmt: skip
    assert all("2026-11-09" <= e["time"] < "2026-11-11" for e in events)


def test_since_monday_means_the_last_monday_at_midnight(bench: Bench) -> None:
    today = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    monday = (today - timedelta(days=today.weekday())).astimezone(UTC)
    log = Log(bench.log, monday - timedelta(seconds=2))
    log.started("before")
    log.pass_time(seconds=4)
    log.started("after")
    found = [json.loads(line) for line in bench("log", "--json", "--since", "monday").stdout.splitlines()]
    assert {r["container"]["name"] for r in found} == {"after"}


@pytest.mark.parametrize("by", ["reason", "image", "profile", "container", "user", "day", "decision"])
def test_decisions_are_grouped(reviewed: Bench, by: str) -> None:
    groups = reviewed.json("log", "summary", "--by", by)[by]
    assert sum(group["refused"] for group in groups) == 8
    if by != "reason":
        assert sum(group["confined"] for group in groups) == 185
        assert sum(group["denial"] for group in groups) == 106
    people = reviewed("log", "summary", "--by", by, check=True).stdout
    assert all(group["key"].split("/")[-1][:20] in people for group in groups)


def test_an_empty_log_is_said_and_no_failure(bench: Bench, tmp_path: Path) -> None:
    done = bench("log", "summary")
    assert done.returncode == 0 and "nothing was decided yet" in done.stderr
    done = bench("report", "-o", tmp_path / "r.html")
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 1


def test_attack_a_users_own_record_can_not_be_taken_for_a_decision_of_the_host(bench: Bench) -> None:
    """A user's log says what its user likes, refusals and unknown decisions among it."""
    log = Log(bench.log)
    log.decision(name="real")
    claims(log)
    log.decision("\x1b[2Kconfined", name="odd", **{"from": {"log": "rootless", "uid": 1000, "seq": 9}})
    rows = bench("log", check=True).stdout.splitlines()[1:]
    begins = [row for row in rows if row[:2] == "20"]
    assert len(begins) == 7 and "claimed" not in begins[0], rows
    assert all("claimed: " in row and "user 1000 says" in row for row in begins[1:]), rows
    assert "\x1b" not in "".join(rows)


def test_what_the_host_wrote_and_what_users_sent_are_shown_apart(bench: Bench) -> None:
    log = Log(bench.log)
    log.decision(name="real")
    claims(log)
    assert bench("log", "--source", "host", "--json", check=True).stdout.count("\n") == 1
    assert '"from"' not in bench("log", "--source", "host", "--json").stdout
    theirs = bench("log", "--source", "users", "--json", check=True).stdout.splitlines()
    assert len(theirs) == 5 and all('"from"' in line for line in theirs)
    assert len(bench("log", "--source", "users", "--decision", "exempt", "--json").stdout.splitlines()) == 1
    assert bench("log", "--source", "root").returncode == 2
