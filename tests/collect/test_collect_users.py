"""What is taken of a user's log, and how much. Pure, but for the kept snapshot."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from collect.conftest import UserLog
from fhir_hook.audit.cursor import Line
from fhir_hook.collect import shape
from fhir_hook.collect.sender import Sender
from fhir_hook.collect.users import KNOWN, NEW, RECENT, Limits, User, Users

LIMITS = Limits(minute=(3, 10_000), day=(5, 20_000))
DAY = 86_400.0


def take(user: User, line: bytes, now: float = 0.0) -> shape.Taken:
    """As the collector does it."""
    taken = shape.take(line, 1000)
    user.minute.take(now, len(line))
    user.day.take(now, len(line))
    user.take(taken.seq, taken.digest)
    return taken


def test_a_user_waits_for_the_next_minute_or_the_next_day_whichever_limit_is_reached() -> None:
    user, log = User(), UserLog()
    for _ in range(3):
        assert user.wait(DAY + 10, LIMITS, 100) == 0
        take(user, log.append(), DAY + 10)
    assert user.wait(DAY + 10, LIMITS, 100) == 50
    assert user.wait(DAY + 60, LIMITS, 20_000) == DAY - 60 and user.wait(DAY + 60, LIMITS, 11_000) == 60
    for _ in range(2):
        take(user, log.append(), DAY + 60)
    assert user.wait(DAY + 200, LIMITS, 100) == DAY - 200
    assert user.wait(2 * DAY, LIMITS, 100) == 0
    # a clock that is set back begins a stretch anew, and goes on
    assert user.wait(10, LIMITS, 100) == 0


def test_each_place_of_a_log_counts_once_and_another_log_may_begin() -> None:
    user, log, other = User(), UserLog(), UserLog("other")
    lines = [log.append() for _ in range(3)]
    for line in lines:
        assert user.judge(shape.take(line, 1000)) == NEW and not user.gap(shape.take(line, 1000))
        take(user, line)
    assert [user.judge(shape.take(line, 1000)) for line in lines] == [KNOWN] * 3
    other_at_1 = shape.take(UserLog().append(seq=1, prev="1" * 64), 1000)
    assert user.judge(other_at_1) == NEW and user.gap(other_at_1)
    begins = shape.take(other.append(), 1000)
    assert user.judge(begins) == NEW and user.gap(begins)
    take(user, other.lines[0])
    assert user.judge(begins) == KNOWN and not user.gap(shape.take(other.append(), 1000))


def test_places_are_told_apart_as_far_back_as_is_said_and_earlier_ones_are_known() -> None:
    user, log, back = User(), UserLog(), UserLog()
    for _ in range(RECENT + 50):
        take(user, log.append())
    assert {user.judge(shape.take(line, 1000)) for line in log.lines} == {KNOWN} and len(user.recent) == RECENT
    back.lines = log.lines[:40]
    judged = [user.judge(shape.take(back.append(duration_us=1), 1000)) for _ in range(20)]
    assert judged == [KNOWN] * 10 + [NEW] * 10 and user.gap(shape.take(back.lines[50], 1000))
    user = User()
    for line in (log.lines[0], log.lines[200], log.lines[100]):
        take(user, line)
    assert [user.judge(shape.take(log.lines[seq], 1000)) for seq in (0, 200, 100, 50, 150)] == [KNOWN] * 3 + [NEW] * 2
    assert [user.gap(shape.take(log.lines[seq], 1000)) for seq in (1, 50, 101, 201)] == [False, True, False, False]


def test_the_snapshot_and_the_log_behind_it_tell_the_same_as_the_log_alone(tmp_path: Path) -> None:
    where = tmp_path / "log"
    where.mkdir()
    logs = {1000: UserLog(), 1001: UserLog()}

    def collected(count: int) -> None:
        with (where / "decisions.jsonl").open("a") as file:
            for _ in range(count):
                for uid, log in logs.items():
                    record = {"seq": 0, **shape.take(log.append(), uid).fields, "user": {"uid": uid}}
                    file.write(json.dumps(record, separators=(",", ":")) + "\n")

    collected(3)
    users = Users(tmp_path / "kept", where)
    users.of(1000).day.take(DAY, 500)
    users.keep()
    collected(2)
    assert {uid: user.seq for uid, user in Users(tmp_path / "kept", where).by_uid.items()} == {1000: 4, 1001: 4}
    assert Users(tmp_path / "kept", where).of(1000).day.bytes == 500
    assert [*Users(tmp_path / "kept", where).of(1000).recent] == [0, 1, 2, 3, 4]
    for damaged in (b"", b"[]", b'{"users":[],"segment":0,"offset":0}', b"\xff"):
        (tmp_path / "kept").write_bytes(damaged)
        found = Users(tmp_path / "kept", where)
        assert [(found.of(uid).seq, found.of(uid).first) for uid in logs] == [
            (4, shape.take(log.lines[0], uid).digest) for uid, log in logs.items()
        ]


def test_attack_a_user_who_plants_what_looks_like_a_place(tmp_path: Path) -> None:
    lie = {"log": "rootless", "uid": 1000, "seq": 7, "digest": "e" * 64}
    fields = shape.take(UserLog().append(image={"from": lie}, **{"from": lie}), 1001).fields
    (tmp_path / "decisions.jsonl").write_text(
        json.dumps({**fields, "user": {"uid": 1001}}, separators=(",", ":")) + "\n"
    )
    assert set(Users(tmp_path / "kept", tmp_path).by_uid) == {1001}


def test_what_the_collector_said_before_it_closed_is_read(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.send(b'{"result": "later", "seconds": 60}')
    theirs.close()
    with ours:
        sender = Sender("/nowhere", tmp_path, tmp_path / "cursor")
        assert sender._ask(ours, Line(0, UserLog().append())) == {"result": "later", "seconds": 60}
