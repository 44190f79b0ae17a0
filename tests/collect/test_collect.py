"""The collector: users' records reach the host's log, and nothing that a user does gets further than that."""

from __future__ import annotations

import json
import pwd
import signal
import socket
import subprocess
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from audit.conftest import killing
from collect.conftest import Collecting, UserLog
from fhir_hook.audit import deliver
from fhir_hook.audit.cursor import Line
from fhir_hook.collect.server import CONNECTIONS, PER_USER
from fhir_hook.collect.users import Limits
from hook.conftest import write_policy

DAEMON, WWW = pwd.getpwnam("daemon").pw_uid, pwd.getpwnam("www-data").pw_uid


def sound(collecting: Collecting) -> bool:
    """Whether the host's log is whole."""
    done = collecting.bench("log", "--json")
    return done.returncode == 0


def test_records_come_in_order_with_the_user_that_the_kernel_names_and_their_place(collecting: Collecting) -> None:
    log = UserLog()
    sent = [log.append(profile=[{"name": "hapi"}]), log.append(event="outcome", seen="count", decided_by=0)]
    assert collecting.results("daemon", sent) == ["taken", "taken"]
    first, second = collecting.records()
    assert (first["event"], first["decision"]) == ("decision", "confined")
    assert first["container"] == {"id": "c" * 64, "name": "fhir"} and first["profile"] == [{"name": "hapi"}]
    assert first["user"] == {"uid": DAEMON, "login": None} and first["host"] != "another"
    assert first["from"] == {
        "log": "rootless", "uid": DAEMON, "seq": 0, "prev": "0" * 64, "digest": sha256(sent[0]).hexdigest(),
        "time": "2026-11-21T10:00:00.000000Z",
    }  # fmt: skip
    assert second["from"]["prev"] == first["from"]["digest"] and second["from"]["decided_by"] == 0
    assert "decided_by" not in second and second["seen"] == "count"
    assert sound(collecting)


def test_what_is_sent_again_is_there_once_whether_or_not_the_collector_was_restarted(collecting: Collecting) -> None:
    log = UserLog()
    sent = [log.append() for _ in range(5)]
    assert collecting.results("daemon", sent) == ["taken"] * 5
    assert collecting.results("daemon", sent) == ["known"] * 5
    collecting.stop()
    collecting.start()
    assert collecting.results("daemon", [*sent[3:], log.append()]) == ["known", "known", "taken"]
    collecting.stop(signal.SIGKILL)
    (collecting.bench.sandbox.state / "collect").unlink()
    collecting.start()
    assert collecting.results("daemon", sent) == ["known"] * 5
    assert [r["from"]["seq"] for r in collecting.records()] == list(range(6))


def test_where_the_host_hides_names_no_users_record_has_one_in_the_clear(collecting: Collecting) -> None:
    sandbox, log = collecting.bench.sandbox, UserLog("patient-mueller")
    assert collecting.results("daemon", [log.append()]) == ["taken"]
    write_policy(sandbox, names="hashed")
    before = collecting.bench.file.stat().st_size
    chosen = {"container": {"id": "mueller", "name": "patient-mueller", "label": "mueller"}}
    token = {"container": {"id": "c" * 64, "name": "name-" + "0" * 32}}
    odd = {"container": {"id": ["mueller"], "name": {"mueller": 1}}}
    sent = [log.append(), log.append(**chosen), log.append(**token), log.append(**odd), log.append(event="outcome")]
    assert collecting.results("daemon", sent) == ["taken"] * len(sent)
    plain, first, second, third, fourth, fifth = (record["container"] for record in collecting.records())
    assert plain["name"] == "patient-mueller" and first["id"] == "c" * 64
    assert first["name"] == second["name"] == fifth["name"] and first["name"].startswith("name-")
    assert second["id"].startswith("name-") and set(second) == {"id", "name"}
    assert third == token["container"] and fourth == {"id": "", "name": ""}
    assert b"mueller" not in collecting.bench.file.read_bytes()[before:]
    assert collecting.bench("log", "token", "patient-mueller", check=True).stdout.strip() == first["name"]


def test_users_are_apart(collecting: Collecting) -> None:
    one, other = UserLog("one"), UserLog("other")
    assert collecting.results("daemon", [one.append()]) == ["taken"]
    assert collecting.results("www-data", [other.append(), other.append()]) == ["taken", "taken"]
    assert collecting.results("daemon", [one.append()]) == ["taken"]
    found = [(r["user"]["uid"], r["from"]["seq"], r["container"]["name"]) for r in collecting.records()]
    assert found == [(DAEMON, 0, "one"), (WWW, 0, "other"), (WWW, 1, "other"), (DAEMON, 1, "one")]


def test_a_gap_and_a_log_that_began_anew_are_on_record(collecting: Collecting) -> None:
    log, anew = UserLog(), UserLog("anew")
    lines = [log.append() for _ in range(4)]
    assert collecting.results("daemon", [lines[0], lines[3]]) == ["taken", "taken"]
    assert collecting.results("daemon", [*lines[1:3], lines[3]]) == ["taken", "taken", "known"]
    assert collecting.results("daemon", [anew.append(), anew.append()]) == ["taken", "taken"]
    found = [(r["from"]["seq"], r["from"].get("gap", False), r["container"]["name"]) for r in collecting.records()]
    assert found == [(0, False, "fhir"), (3, True, "fhir"), (1, False, "fhir"), (2, False, "fhir"), (0, True, "anew"),
                     (1, False, "anew")]  # fmt: skip


def test_a_log_that_was_put_back_from_a_backup_and_written_on_is_kept_from_there(collecting: Collecting) -> None:
    log, back = UserLog(), UserLog()
    for _ in range(10):
        log.append()
    back.lines = log.lines[:5]
    for _ in range(7):
        back.append(duration_us=1)
    assert collecting.results("daemon", log.lines) == ["taken"] * 10
    collecting.stop()
    collecting.start()
    assert collecting.results("daemon", back.lines) == ["known"] * 5 + ["taken"] * 7
    assert collecting.results("daemon", [*back.lines, back.append()]) == ["known"] * 12 + ["taken"]
    found = [(r["from"]["seq"], r["from"].get("gap", False)) for r in collecting.records()[10:]]
    assert found == [(5, True), *((seq, False) for seq in range(6, 13))]
    assert sound(collecting)


@pytest.mark.parametrize("restarted", [False, True])
def test_attack_one_record_with_the_highest_seq_there_is(collecting: Collecting, restarted: bool) -> None:
    log = UserLog()
    forged = UserLog().append(seq=(1 << 53) - 1, prev="e" * 64)
    assert collecting.results("daemon", [log.append(), log.append(), forged]) == ["taken"] * 3
    if restarted:
        collecting.stop(signal.SIGKILL)
        collecting.start()
    sent = [log.append(), log.append(), *log.lines, forged]
    assert collecting.results("daemon", sent) == ["taken"] * 2 + ["known"] * 5
    found = [(r["from"]["seq"], r["from"].get("gap", False)) for r in collecting.records()]
    assert found == [(0, False), (1, False), ((1 << 53) - 1, True), (2, False), (3, False)]


def test_attack_a_record_that_says_who_it_is_from(collecting: Collecting) -> None:
    lie = {"log": "host", "uid": 0, "seq": 99}
    log = UserLog()
    line = log.append(user={"uid": 0, "login": 0}, owner=0, what="unobservable", **{"from": lie}, boot="0", uid=0)
    assert collecting.results("daemon", [line]) == ["taken"]
    (record,) = collecting.records()
    assert record["user"]["uid"] == DAEMON == record["from"]["uid"] and record["from"]["log"] == "rootless"
    assert "owner" not in record and "what" not in record and record["boot"] != "0"


@pytest.mark.parametrize("event", ["log", "policy", "hook", "recovery", "watch", "denial", "collect", "mode", "key"])
def test_attack_events_that_are_the_hosts_own(collecting: Collecting, event: str) -> None:
    """What a user's log says of itself keeps its place in the order, and nothing else."""
    line = UserLog().append(event=event, what="key", new="evil+key", result="rotated", container={"id": "e"})
    assert collecting.results("daemon", [line]) == ["taken"]
    (record,) = collecting.records()
    assert (record["event"], record["what"], record["from"]["event"]) == ("collect", "other", event)
    assert "evil" not in json.dumps(record) and "container" not in record


HOSTILE: dict[str, bytes] = {
    "no JSON": b"x\n",
    "half a record": UserLog().append()[:100],
    "two lines": UserLog().append() * 2,
    "no object": b"[1]\n",
    "no seq": b'{"event":"decision"}\n',
    "a seq that is no number": UserLog().append(seq="0"),
    "a seq that is true": UserLog().append(seq=True),
    "a huge seq": UserLog().append(seq=10**30),
    "a prev that is none": UserLog().append(prev="x" * 64),
    "an event that is none": UserLog().append(event="decision\n"),
    "deep": b'{"seq":0,"prev":"' + b"0" * 64 + b'","event":"decision","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}\n",
    "a key twice": UserLog().append().replace(b'"seq":0', b'"seq":0,"seq":1'),
    "NaN": UserLog().append(duration_us=float("nan")),
    "not UTF-8": UserLog().append().replace(b"fhir", b"\xff\xfe"),
    "too long": UserLog().append(x=["y" * 60_000, "y" * 10_000]),
    "nothing at all": b"\0" * 65_535,
}


ODD: dict[str, dict[str, Any]] = {
    "a container that is a text": {"container": "x"},
    "an image that is a number": {"image": 7},
    "an image that is a list": {"image": []},
    "a profile that is an object": {"profile": {"name": "hapi"}},
    "a profile of texts": {"profile": ["hapi"]},
    "reasons that are a text": {"reasons": "x"},
    "findings with null": {"findings": [None]},
    "a decision that is a list": {"decision": ["refused"]},
    "a mode that is an object": {"mode": {}},
    "identified_by that is true": {"identified_by": True},
    "no_new_privs that is a number": {"no_new_privs": 1},
    "duration_us that is true": {"duration_us": True},
    "nothing but profiles": {"profile": [{"name": "x" * 500}] * 64, "image": {"names": ["y" * 500] * 64}},
}


@pytest.mark.parametrize("what", sorted(HOSTILE))
def test_attack_what_is_no_record_is_refused_and_said_once(collecting: Collecting, what: str) -> None:
    results = [collecting.results("daemon", [HOSTILE[what]]) for _ in range(3)]
    assert results == [["refused"]] * 3
    said = [r for r in collecting.bench.sandbox.records if r["event"] == "collect"]
    assert [(r["what"], r["user"]["uid"]) for r in said] == [("refused", DAEMON)]
    assert collecting.records() == [] and collecting.results("daemon", [UserLog().append()]) == ["taken"]


def test_attack_members_of_another_type_than_records_have(collecting: Collecting) -> None:
    """Who reads the host's log relies on what they are."""
    for name, members in ODD.items():
        assert collecting.results("daemon", [UserLog().append(**members)]) == ["refused"], name
    known = {"decision", "container", "event", "from", "user", "host", "boot", "time", "seq", "prev"}
    line = UserLog().append(surprise="x", findings_={}, result="x", count=1, call="x", owner=0, readers=[])
    assert collecting.results("daemon", [line]) == ["taken"]
    assert set(collecting.records()[0]) == known
    for command in (["log"], ["log", "metrics"], ["log", "summary"], ["log", "export", "--format", "ecs"], ["report"]):
        assert collecting.bench(*command).returncode == 0, command


def test_attack_one_packet_whose_time_is_five_thousand_nested_lists(collecting: Collecting) -> None:
    line = UserLog().append().replace(b'"2026-11-21T10:00:00.000000Z"', b"[" * 5_000 + b"]" * 5_000)
    assert collecting.results("daemon", [line]) == ["taken"]
    assert collecting.alive and collecting.records()[0]["from"]["time"] == ""
    assert collecting.results("www-data", [UserLog().append()]) == ["taken"]


def test_attack_hostile_text_is_bounded_and_escaped(collecting: Collecting) -> None:
    text = "\x1b[2J\u2028\u202e\U0001f4a9\n" * 80
    log = UserLog(text)
    line = log.append(image={"names": [text] * 6, text: text}, reasons=[{"code": text, "text": "\ud800"}])
    assert collecting.results("daemon", [line]) == ["taken"]
    raw = collecting.bench.lines()[-1]
    assert raw.isascii() and raw.count(b"\n") == 1 and b"\x1b" not in raw
    (record,) = collecting.records()
    assert len(json.dumps(record["container"]["name"])) <= 530 and sound(collecting)
    shown = collecting.bench("log", check=True).stdout
    assert "\x1b" not in shown and "\u202e" not in shown


def test_attack_a_hundred_mebibytes_in_one_packet(collecting: Collecting) -> None:
    """The kernel lets no such packet through; what fits its buffers is still longer than a record."""
    answers = collecting.results("daemon", [b"x" * (100 << 20), b"x" * 150_000])
    assert answers == ["Message too long", "refused"]
    assert collecting.memory() < 100_000


def test_attack_a_user_who_floods_waits_and_takes_nothing_from_others(collecting: Collecting) -> None:
    log, most = UserLog(), Limits().minute[0]
    lines = [log.append() for _ in range(most * 3)]
    began = time.monotonic()
    answers = collecting.send("daemon", lines)
    assert time.monotonic() - began < 30
    taken = [a["result"] for a in answers].count("taken")
    assert most <= taken <= 2 * most  # a minute may have ended meanwhile
    waits = [answer for answer in answers if answer["result"] == "later"]
    assert waits and 1 <= waits[0]["seconds"] <= 61
    assert collecting.results("www-data", [UserLog().append()]) == ["taken"]
    assert [a["result"] for a in collecting.send("daemon", lines[taken : taken + 1])] == ["later"]
    said = [r for r in collecting.bench.sandbox.records if r.get("what") == "later"]
    assert [r["user"]["uid"] for r in said] == [DAEMON]


def test_attack_a_user_who_floods_with_packets_that_are_too_long_waits_as_well(collecting: Collecting) -> None:
    answers = collecting.results("daemon", [b"x" * 150_000] * 40)
    most = Limits().minute[1] // (64 << 10)
    assert most <= answers.count("refused") <= 2 * most and "later" in answers  # a minute may have ended meanwhile
    assert collecting.results("www-data", [UserLog().append()]) == ["taken"]


def test_attack_a_user_who_connects_and_says_nothing(collecting: Collecting) -> None:
    clients = [collecting.client("daemon") for _ in range(3 * PER_USER)]
    try:
        time.sleep(1)
        assert collecting.results("www-data", [UserLog().append()]) == ["taken"]
        # a connection that says nothing is closed, and its place is free
        time.sleep(11)
        assert collecting.results("daemon", [UserLog().append()]) == ["taken"]
    finally:
        for client in clients:
            client.kill()
            client.communicate()


def test_attack_a_user_who_does_not_read_the_answers(collecting: Collecting) -> None:
    code = (
        "import socket, sys, time\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.connect(sys.argv[1])\n"
        "try:\n for _ in range(100000): s.send(b'x')\nexcept OSError: pass\ntime.sleep(30)"
    )
    argv = ["/usr/bin/python3", "-I", "-c", code, str(collecting.socket)]
    client = subprocess.Popen(argv, user=DAEMON, group=DAEMON)
    try:
        time.sleep(2)
        assert collecting.results("www-data", [UserLog().append()]) == ["taken"]
        assert collecting.alive
    finally:
        client.kill()
        client.wait()


def test_root_and_ids_that_belong_to_nobody_are_turned_away(collecting: Collecting) -> None:
    assert collecting.results("root", [UserLog().append()]) == ["refused"]
    code = (
        "import socket, sys\ns = socket.socket(1, 5)\ns.connect(sys.argv[1])\n"
        "s.send(b'x')\nprint(s.recv(999).decode())"
    )
    argv = ["/usr/bin/python3", "-I", "-c", code, str(collecting.socket)]
    done = subprocess.run(argv, user=1_099_999, group=1_099_999, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["result"] == "refused"
    assert collecting.records() == []


def connected(collecting: Collecting, uid: int) -> subprocess.Popen[bytes]:
    """Somebody who connects under an id, and says nothing."""
    code = "import socket, sys, time\ns = socket.socket(1, 5)\ns.connect(sys.argv[1])\nprint()\ntime.sleep(60)"
    argv = ["/usr/bin/python3", "-I", "-u", "-c", code, str(collecting.socket)]
    client = subprocess.Popen(argv, user=uid, group=uid, stdout=subprocess.PIPE)
    assert client.stdout is not None and client.stdout.readline() == b"\n"
    return client


def test_attack_a_user_who_connects_under_all_the_ids_of_subuid_and_says_nothing(collecting: Collecting) -> None:
    clients = [connected(collecting, 1_099_000 + number // PER_USER) for number in range(CONNECTIONS + PER_USER)]
    try:
        began = time.monotonic()
        assert collecting.results("www-data", [UserLog().append()]) == ["taken"]
        assert time.monotonic() - began < 5
    finally:
        for client in clients:
            client.kill()
            client.communicate()


@pytest.mark.parametrize("call", ["write", "fdatasync", "sendto", "rename", "recvmsg"])
def test_kill_9_at_every_boundary_loses_nothing_that_was_acknowledged_and_doubles_nothing(
    stopped: Collecting, call: str
) -> None:
    log, acknowledged, at = UserLog(), 0, 0
    lines = [log.append() for _ in range(20)]
    for argv in killing(call, []):
        stopped.start([argv[0], "-D", *argv[1:]])
        answers: list[dict[str, Any]] = stopped.send("daemon", lines[at : at + 4])
        for answer in answers:
            if answer["result"] not in ("taken", "known"):
                break
            at += 1
        acknowledged = max(acknowledged, at)
        stopped.end()
        seqs = [r["from"]["seq"] for r in stopped.records()]
        assert seqs == sorted(set(seqs)) and set(range(acknowledged)) <= set(seqs)
        if at >= 16:
            break
    stopped.start()
    assert set(stopped.results("daemon", lines[at:])) <= {"taken", "known"}
    assert [r["from"]["seq"] for r in stopped.records()] == list(range(20)) and sound(stopped)


def test_a_socket_that_systemd_passes_is_taken(stopped: Collecting) -> None:
    activate = ["systemd-socket-activate", "--seqpacket", "-l", str(stopped.socket), "-E", "PYTHONPATH"]
    stopped.start(activate)
    stopped.socket.chmod(0o666)
    assert stopped.results("daemon", [UserLog().append()]) == ["taken"]


def test_attack_records_of_another_shape_that_are_in_the_log_already(stopped: Collecting, tmp_path: Path) -> None:
    """A collector of before took them, and no record can be changed: who reads the log has to do with it."""
    place = {"log": "rootless", "uid": DAEMON, "seq": 0, "prev": "0" * 64, "digest": "d" * 64, "time": []}
    names = ("container", "image", "profile", "reasons", "findings", "decision", "mode", "policy", "seccomp", "path")
    odd = [
        {"event": event, "seen": value, **dict.fromkeys(names, value), "from": place}
        for event in ("decision", "outcome")
        for value in (None, 7, "x", True, ["x"], [7], [None], {"id": 7, "name": []}, [{"name": [], "code": {}}])
    ]
    bench = stopped.bench
    code = "import json\nfrom fhir_hook.store import log\nfor each in json.load(sys.stdin): log.append(each)"
    bench.sandbox.python(code, data=json.dumps(odd).encode())
    for command in (
        ["log"], ["log", "summary"], ["log", "summary", "--json"], ["log", "metrics"], ["report"], ["doctor"],
        ["log", "export", "--format", "ecs"], ["log", "export", "--format", "fhir-ndjson"], ["inspect", "x"],
        ["inspect", "0" * 64], ["log", "--container", "x"],
    ):  # fmt: skip
        bench(*command)  # which asserts that there is no traceback
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        for seq, line in enumerate(bench.lines()):
            deliver.Journal(str(tmp_path / "journal")).send([Line(seq, line)], "")
            assert line.rstrip(b"\n") in journal.recv(1 << 17)
    stopped.start()
    assert stopped.results("daemon", [UserLog().append()]) == ["taken"]
