"""Logs written by hand, chained as the hook chains them: a month of a busy host, and what an attacker would write."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</style><h1>owned</h1>",
    "]]><!--",
    "{{ 7*7 }}{% raw %}",
    "\x1b[2J\x1b]0;owned\x07red",
    "line\u2028separator\u2029",
    "\u202egnp.exe\u202c",
    "\ud800lone",
    "nul\x00byte\r\nnext",
    "=cmd|'/C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    " =1+1",
    "http://evil.example/x.js",
    "x" * 10_000,
)


def _id(text: str) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()


class Log:
    """Writes records to a directory, one after the other."""

    def __init__(self, directory: Path, start: datetime | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "decisions.jsonl"
        self.prev = "0" * 64
        self.seq = 0
        self.now = start or datetime(2026, 11, 1, tzinfo=UTC)
        self._file = self.path.open("ab")

    def add(self, **fields: Any) -> int:
        """Append one record; returns its seq."""
        record = {
            "time": self.now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "seq": self.seq, "prev": self.prev, **fields,
            "user": fields.get("user", {"uid": 0, "login": 1000}), "host": fields.get("host", "node1"), "boot": "b",
        }  # fmt: skip
        line = (json.dumps(record, ensure_ascii=True, separators=(",", ":")) + "\n").encode()
        self._file.write(line)
        self._file.flush()
        self.prev = sha256(line).hexdigest()
        self.seq += 1
        return self.seq - 1

    def pass_time(self, **span: float) -> None:
        """Let the clock go on."""
        self.now += timedelta(**span)

    def decision(self, decision: str = "confined", name: str = "fhir", image: str = "localhost/hapi:8.8.0",
                 **more: Any) -> int:  # fmt: skip
        """A decision as the hook writes it."""
        fields: dict[str, Any] = {
            "event": "decision", "decision": decision, "stage": "precreate", "path": "native",
            "container": {"id": _id(f"{name}{self.seq}"), "name": name},
            "image": {"id": _id(image), "digest": "sha256:0", "names": [image], "source": "containers/storage"},
            "policy": "2c23e4f25c7f" + "0" * 52, "mode": "enforce", "reasons": [], "findings": [],
        }  # fmt: skip
        if decision == "confined":
            fields |= {
                "profile": [{"name": "hapi", "version": "1.0.0", "digest": "78643deff673" + "0" * 52}],
                "seccomp": {"allowed_before": 312, "allowed": 114}, "no_new_privs": True,
                "capabilities": {"asked": ["CAP_CHOWN"], "left": [], "dropped": ["CAP_CHOWN"]},
                "findings": [{"code": "FH201", "text": "CAP_CHOWN"}],
            }  # fmt: skip
        return self.add(**{**fields, **more})

    def started(self, name: str = "fhir", **more: Any) -> None:
        """A start that went well."""
        seq = self.decision(name=name, **more)
        self.add(event="outcome", stage="gate", path="native", container={"id": "", "name": name}, seen="config",
                 decided_by=seq)  # fmt: skip

    def refused(self, code: str = "FH101", **more: Any) -> int:
        """A start that was refused."""
        return self.decision("refused", path="", reasons=[{"code": code, "text": "because"}], **more)

    def denial(self, call: str, count: int = 1, **more: Any) -> int:
        """A denied call, counted."""
        fields = {
            "container": {"id": "c" * 64, "name": "fhir"}, "image": {"id": "i" * 64, "names": ["localhost/hapi:8.8.0"]},
            "profile": [{"name": "hapi", "version": "1.0.0", "digest": "7" * 64}], "call": call, "action": "errno",
            "count": count, "first": "2026-11-01T00:00:00.000000Z", "last": "2026-11-02T00:00:00.000000Z",
        }  # fmt: skip
        return self.add(event="denial", **{**fields, **more})


def month(directory: Path, days: int = 21) -> Log:
    """Three weeks of a host with four kinds of servers; the same every time."""
    log, chance = Log(directory), random.Random(7)
    log.add(event="policy", result="compiled", new="2c23e4f25c7f" + "0" * 52)
    log.add(event="hook", what="installed", reason="dpkg 1.0.0")
    servers = (("hapi", "localhost/hapi:8.8.0"), ("ibm-fhir", "localhost/ibm-fhir:5.1.1"),
               ("fhirstarter", "localhost/fhirstarter:4.2.0"), ("postgresql", "localhost/postgresql:15"))  # fmt: skip
    for day in range(days):
        log.now = datetime(2026, 11, 1, 6, tzinfo=UTC) + timedelta(days=day)
        for _ in range(chance.randint(4, 16)):
            log.pass_time(minutes=chance.randint(5, 90))
            name, image = chance.choice(servers)
            digest = sha256(name.encode()).hexdigest()
            profile = [{"name": name, "version": "1.0.0", "digest": digest}]
            log.started(f"{name}-{chance.randint(1, 5)}", image=image, profile=profile)
        if day in (4, 5, 11, 17):
            log.refused(name="trial", image="registry.example/vendor/fhir-suite:2")
            log.refused("FH110", name="builder", image="localhost/hapi:build")
        if day == 8:
            log.add(event="settings", result="changed", old="a" * 64, new="b" * 64)
            log.add(event="mode", result="changed", old="enforce", new="complain")
            log.started("ibm-fhir-2", image="localhost/ibm-fhir:5.1.1", mode="complain", policy="5a3d" + "1" * 60)
            log.add(event="mode", result="changed", old="complain", new="enforce")
        if day in (9, 10, 18):
            log.denial("io_uring_setup", chance.randint(1, 40))
            log.denial("ptrace", chance.randint(1, 4))
        if day == 12:
            log.decision("exempt", name="builder", image="localhost/hapi:build", path="", findings=[
                {"code": "FH401", "text": "buildah"}])  # fmt: skip
            log.started("hapi-9", findings=[{"code": code, "text": ""} for code in ("FH201", "FH202", "FH203")])
    return log


def claims(log: Log, uid: int = 1000) -> None:
    """What a user may send of a log that this user writes: five records, none of which the host's hook wrote."""
    at = {"log": "rootless", "uid": uid}
    log.refused(name="theirs", image="localhost/theirs:1", **{"from": {**at, "seq": 0}})
    log.decision("exempt", name="theirs", image="localhost/theirs:1", **{"from": {**at, "seq": 1}})
    log.decision(name="theirs", image="localhost/theirs:1", mode="complain", policy="f" * 64, findings=[
        {"code": "FH203", "text": ""}], **{"from": {**at, "seq": 2}})  # fmt: skip
    log.add(event="outcome", seen="kernel", decided_by=0, **{"from": {**at, "seq": 3, "decided_by": 2}})
    log.add(event="outcome", decision="refused", decided_by=0, **{"from": {**at, "seq": 4, "decided_by": 1}})


def hostile(directory: Path) -> Log:
    """Every text that a stranger could choose, hostile; members of every wrong type; times and counts out of range."""
    log = Log(directory)
    for text in HOSTILE:
        log.now += timedelta(hours=1)
        image = {"id": text, "digest": text, "names": [text, text]}
        container = {"id": text, "name": text}
        log.started(text, image=text, profile=[{"name": text, "version": text, "digest": text}], policy=text, mode=text)
        log.refused(text, name=text, image=text)
        log.decision("undetermined", name=text, image=text, findings=[{"code": text, "text": text}])
        log.decision(text, name=text)
        log.denial(text, action=text, image=image, container=container, profile=text)
        log.add(event=text, what=text, reason=text, old=text, new=text + "!")
        log.add(event="outcome", seen=text, decided_by=text, host=text)
        log.add(event="settings", **{"old": {text: text}, "new": {text: [text]}})
    for wrong in (None, 7, -1, 1e308, True, [], {}, [[]], [None], "text", 10**300, {"name": {"name": []}}):
        for event in ("decision", "outcome", "denial", "policy", wrong):
            members = ("decision", "container", "image", "profile", "reasons", "findings", "policy", "mode", "seccomp",
                       "capabilities", "count", "call", "action", "seen", "decided_by", "user", "host", "old", "new",
                       "what", "time", "no_new_privs", "stage", "path", "first", "last")  # fmt: skip
            log.add(event=event, **dict.fromkeys(members, wrong))
        log.add(event="decision", decision="confined", image={"names": wrong, "id": wrong}, profile=[wrong],
                container={"name": wrong, "id": wrong}, reasons=[wrong, {"code": wrong}])  # fmt: skip
    for time in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-01", "1970-01-01T00:00:00", "x"):
        log.add(event="decision", decision="confined", time=time)
    return log
