"""What others get into the kernel log, or into the records that denials are joined with. Pure, but for the watcher."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from fhir_hook.core import jsonio
from fhir_hook.denials.counting import Kind, Limits, Place, Tally
from fhir_hook.denials.decisions import Decided
from fhir_hook.denials.records import denial
from fhir_hook.kernel.seccomp_log import loses, parse
from fhir_hook.store.log import LONGEST_RECORD
from support.sandbox import Sandbox

FORGED = (
    "audit({}): auid=0 uid=0 gid=0 ses=1 pid=1 comm=\"x\" exe=\"/x\" sig=0 arch=c000003e syscall=250 compat=0 "
    "ip=0x1 code=0x50000"
)
OVERLAY = "3,9000,77,-;overlayfs: failed to resolve 'type=1326 {}': -2\n"
ID = "a" * 64


@pytest.mark.parametrize("place", ["1.0:5", "1.0:4000000000000000000", "1.2.3:5", "1:5", ".:1", "9" * 400 + ".1:1"])
def test_attack_a_directory_that_is_called_like_a_record_of_audits(place: str) -> None:
    """Anybody may mount an overlay in a namespace of the own, and the kernel prints the name of what is missing."""
    assert parse(OVERLAY.format(FORGED.format(place))) is None
    assert parse(OVERLAY.format("audit: type=1326 " + FORGED.format(place))) is None
    assert parse("3,9000,77,-;audit: type=1326 " + FORGED.format("1.0:5")) is not None


@pytest.mark.parametrize("place", ["1.2.3:5", ".:1", "1:5", "9" * 400 + ".1:1"])
def test_attack_a_time_that_is_none(place: str) -> None:
    assert parse("3,9000,77,-;audit: type=1326 " + FORGED.format(place)) is None


@pytest.mark.parametrize("facility", [12, 20, 191])
def test_attack_a_line_that_root_of_a_container_writes_into_the_kernel_log(facility: int) -> None:
    assert parse(f"{facility},9000,77,-;audit: type=1326 " + FORGED.format("1.0:5")) is None
    assert not loses(f"{facility},9000,77,-;audit: audit_lost=9 audit_rate_limit=0 audit_backlog_limit=64")


def test_attack_a_name_that_keeps_the_reader_busy() -> None:
    began = time.monotonic()
    for piece in ("audit(1.0:1): ", " uid=1 ", "ses=1 ", "pid=1 ", 'comm="a" exe="b" '):
        name = "type=1326 audit(1.0:1): " + piece * (2200 // len(piece))
        assert parse(OVERLAY.format(name)) is None and not loses(OVERLAY.format(name))
    assert time.monotonic() - began < 0.1


@pytest.mark.parametrize(
    "text",
    ["audit: audit_lost=9 audit_rate_limit=0 audit_backlog_limit=64", "audit: backlog limit exceeded",
     "audit: kauditd hold queue overflow", "kauditd_printk_skb: 17 callbacks suppressed"],
)  # fmt: skip
def test_attack_a_directory_that_is_called_as_if_records_were_lost(text: str) -> None:
    assert loses(f"4,9000,77,-;{text}\n")
    assert not loses(f"3,9000,77,-;overlayfs: failed to resolve '{text}': -2\n")
    assert not loses(f"3,9000,77,-;audit: of '{text}'\n") or "suppressed" in text


def users_decision(**more: Any) -> dict[str, Any]:
    """A record of a user's, as the collector keeps it."""
    about = {"event": "decision", "decision": "confined", "container": {"id": ID, "name": "n" * 512}}
    return {"seq": 1, "user": {"uid": 1000}, **about, **more}


def test_attack_a_users_record_as_large_as_can_be_makes_no_denial_too_long() -> None:
    profiles = [{"name": "x" * 512, "version": "\U0001f4a9" * 512, "digest": "d" * 512, "more": "y" * 512}] * 64
    large = {"names": ["z" * 512] * 64, "id": {"a": ["x" * 512] * 100}, "digest": ["x" * 512] * 100}
    texts = dict.fromkeys(("policy", "mode", "path"), "p" * 512)
    decided = Decided(Place(ID, 1000), users_decision(profile=profiles, image=large, **texts))
    tally = Tally(Limits())
    tally.add(decided.place, Kind("keyctl", "log", "\U0001f4a9" * 16, "\x01" * 4096), 1.0, "cgroup", 0)
    (place, kind, count), = tally.untold()
    record = denial(place, decided, kind, count)
    assert len(jsonio.text(record)) < LONGEST_RECORD // 2
    assert 0 < len(record["profile"]) <= 8 and set(record["profile"][0]) == {"name", "version", "digest"}


@pytest.mark.parametrize("value", [None, 7, "x", [7], {"a": 1}, [{"name": ["x"]}]])
def test_attack_members_that_are_not_what_a_decision_has(value: Any) -> None:
    names = ("profile", "image", "policy", "mode", "path")
    decided = Decided(Place(ID, 1000), users_decision(**dict.fromkeys(names, value)))
    tally = Tally(Limits())
    tally.add(decided.place, Kind("keyctl", "log", "x", "/x"), 1.0, "cgroup", 0)
    (place, kind, count), = tally.untold()
    record = denial(place, decided, kind, count)
    assert all(isinstance(record.get(name, ""), str) for name in ("policy", "mode", "path"))
    assert all(isinstance(text, str) for each in record.get("profile", []) for text in each.values())


WATCHED = """
import json, sys, time
from pathlib import Path
from fhir_hook.denials import watch
from fhir_hook.denials.counting import Limits
from fhir_hook.denials.stand import Stand
from fhir_hook.store import log
watcher = watch.Watcher(Path(log.directory()), Stand(Path("/var/lib/fhir-hook/denials")), Limits())
log.append({"event": "watch", "what": "watching"})
watcher.step(0.01)
for line in sys.stdin:
    fields, user = json.loads(line)
    log.append(fields, user)
time.sleep(1.1)
watcher.step(0.01)
"""


def watched(sandbox: Sandbox, records: list[tuple[dict[str, Any], dict[str, Any]]], code: str = WATCHED) -> None:
    """Have a watcher follow these records."""
    sandbox.python(code, data="".join(json.dumps(each) + "\n" for each in records).encode())


def test_attack_a_user_who_says_of_many_containers_that_they_are_confined(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    sent = []
    for uid, count in ((1000, 50), (0, 1)):
        user = {"uid": uid, "login": None}
        for number in range(count):
            about = {"container": {"id": f"{number:064x}", "name": "fhir"}, "path": "live", "mode": "enforce"}
            sent.append(({"event": "decision", "decision": "confined", **about}, user))
            sent.append(({"event": "outcome", "seen": "kernel", **about}, user))
    watched(sandbox, sent)
    said = [record for record in sandbox.records if record.get("what") == "unobservable"]
    assert [(record["owner"], record["container"]["id"]) for record in said] == [(0, "0" * 64)]
