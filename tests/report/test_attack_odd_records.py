"""Attacks by what users sent of their own logs: members of other types than records have, and names of the host's."""

from __future__ import annotations

from typing import Any

import pytest

from audit.conftest import Bench
from report.made_logs import Log, hostile
from support.sandbox import ROOT

WRONG: tuple[Any, ...] = (None, 7, -1, 1e308, True, "text", [], {}, [[]], [None], {"name": []},
                          [{"name": [], "code": 7}])  # fmt: skip
MEMBERS = ("decision", "stage", "path", "policy", "mode", "seen", "container", "image", "identified_by", "seccomp",
           "capabilities", "profile", "reasons", "findings", "no_new_privs", "duration_us", "from", "owner", "user",
           "time", "decided_by", "count", "call", "action", "what")  # fmt: skip
COMMANDS = (
    ("log",), ("log", "--json"), ("log", "summary"), *(("log", "summary", "--by", by) for by in (
        "reason", "image", "profile", "container", "user", "day", "decision")),
    ("log", "metrics"), ("log", "export", "--format", "ecs"), ("log", "export", "--format", "fhir-ndjson"),
    ("report",), ("report", "--json"), ("report", "--for", "hipaa", "--json"), ("log", "--user", "7"),
    ("log", "--container", "x", "--image", "x", "--profile", "x", "--code", "x"),
)  # fmt: skip


def odd(log: Log) -> None:
    """Each member of each wrong type, as a host's log may hold them that took them from users once."""
    at = {"log": "rootless", "uid": 1000}
    for event in ("decision", "outcome", "denial", "watch", "collect"):
        for number, wrong in enumerate(WRONG):
            for member in MEMBERS:
                fields: dict[str, Any] = {"decision": "refused", "container": {"id": "a", "name": "b"},
                                          "from": {**at, "seq": number}}  # fmt: skip
                log.add(event=event, **{**fields, member: wrong})
            log.add(event=event, **{"from": dict.fromkeys(("uid", "seq", "decided_by", "event"), wrong)})


@pytest.fixture
def attacked(bench: Bench) -> Bench:
    """A host whose log holds all of that."""
    odd(hostile(bench.log))
    return bench


@pytest.mark.parametrize("options", COMMANDS, ids=" ".join)
def test_attack_members_of_other_types_break_no_reader_of_the_log(attacked: Bench, options: tuple[str, ...]) -> None:
    assert attacked(*options, check=options[:2] != ("log", "export")).returncode in (0, 1)


@pytest.mark.parametrize("options", [("inspect", "not-there"), ("doctor",)], ids=" ".join)
def test_attack_members_of_other_types_break_neither_inspect_nor_doctor(
    attacked: Bench, options: tuple[str, ...]
) -> None:
    assert attacked(*options).returncode in (1, 3)


KNOWN_AS = """
import sys
from fhir_hook.authoring import containers
print(*(id for id, _ in containers._known_as(sys.argv[1])))
"""


def test_attack_a_users_container_with_the_name_of_one_of_the_hosts(bench: Bench) -> None:
    log = Log(bench.log)
    log.started("fhir", container={"id": "1" * 64, "name": "fhir"})
    for more in ({"from": {"uid": 1000}}, {"from": None}, {"owner": 1000}):
        log.decision(container={"id": "2" * 64, "name": "fhir"}, **more)
    done = bench.sandbox.run(["/usr/bin/python3", "-B", "-c", KNOWN_AS, "fhir"], env={"PYTHONPATH": str(ROOT)})
    assert done.stdout.decode().split() == ["fhir", "1" * 64], done


def test_an_id_is_not_looked_for_in_the_log(bench: Bench) -> None:
    bench.append(1)
    for target, read in (("1" * 64, False), ("some-name", True)):
        done = bench.sandbox.run(["strace", "-f", "-e", "trace=openat", *bench.argv("inspect", target)],
                                 env={"PYTHONPATH": str(ROOT)})  # fmt: skip
        assert done.returncode == 3
        assert (b"decisions.jsonl" in done.stderr) is read
