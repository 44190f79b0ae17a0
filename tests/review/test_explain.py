"""explain.py and wording.py: what is said about calls, by whom they are allowed and who saw them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from authoring.sandbox import SHIPPED, Folder
from fhir_hook.authoring import expand
from fhir_hook.core import oci_seccomp
from fhir_hook.review import evidence, explain, kernel_data, wording
from review.support import WORD, allow, args, finder, run

SOURCES = finder().sources
REVIEWER = explain.Reviewer(SOURCES, SHIPPED, evidence.load(SHIPPED))


def texts(call: str, *rules: tuple[tuple[Any, ...], ...]) -> list[str]:
    conjunctions = [tuple(oci_seccomp.condition(entry) for entry in args(*rule)) for rule in rules]
    return wording.alternatives(call, conjunctions)


@pytest.mark.parametrize(
    ("call", "rules", "said"),
    [
        (
            "socket",
            (
                ((0, "MASKED_EQ", WORD, 2), (1, "MASKED_EQ", 15, 1), (2, "MASKED_EQ", WORD, 0)),
                ((0, "MASKED_EQ", WORD, 2), (1, "MASKED_EQ", 15, 1), (2, "MASKED_EQ", WORD, 6)),
            ),
            ["AF_INET, SOCK_STREAM, any protocol or IPPROTO_TCP"],
        ),
        ("socket", (((0, "EQ", 16), (2, "EQ", 0)),), ["AF_NETLINK, NETLINK_ROUTE"]),
        ("socket", (((0, "LT", 38),),), ["family < AF_ALG"]),
        ("clone", (((0, "MASKED_EQ", 0x30000000, 0),),), ["flags without CLONE_NEWUSER|CLONE_NEWPID"]),
        ("prctl", (((0, "MASKED_EQ", WORD, 15),), ((0, "MASKED_EQ", WORD, 16),)), ["PR_SET_NAME or PR_GET_NAME"]),
        ("ioctl", (((1, "MASKED_EQ", WORD, 0x5401),),), ["TCGETS"]),
        ("setsockopt", (((1, "EQ", 6), (2, "EQ", 31)),), ["IPPROTO_TCP, TCP_ULP"]),
        ("sendto", (((3, "MASKED_EQ", 0x8001, 0),),), ["flags without MSG_OOB|MSG_MORE"]),
        ("futex", (((1, "MASKED_EQ", 0x7F, 0),),), ["FUTEX_WAIT"]),
        ("personality", (((0, "EQ", 0xFFFFFFFF),),), ["asking only"]),
        ("read", (((2, "LE", 10),),), ["argument 2 <= 10"]),
        ("read", ((),), ["any arguments"]),
    ],
)
def test_conditions_read_as_the_constants_of_the_headers(call: str, rules: tuple[Any, ...], said: list[str]) -> None:
    assert texts(call, *rules) == said


def test_every_rule_of_every_shipped_group_can_be_put_in_words() -> None:
    for group in SOURCES.groups.values():
        for row in explain.rows(group.document["syscalls"]):
            assert row.calls and "argument" not in row.arguments.split(" ")[0], (group.name, row)


def test_an_allowed_call_is_explained_by_its_groups_and_who_saw_it() -> None:
    found = REVIEWER.explain(SOURCES.profiles["hapi"], "openat")
    assert found.allowed and "the group files-read" in found.why
    assert {rule.group for rule in found.rules} >= {"files-read", "runtime-runc"}
    assert any(sighting.recording == "hapi-plain-8.8.0" for sighting in (*found.sightings, *found.elsewhere))
    assert found.feature and found.answers["x86_64"] == "allowed"


def test_what_takes_the_place_of_a_call_on_aarch64_is_named() -> None:
    found = REVIEWER.explain(SOURCES.profiles["hapi"], "access")
    assert found.instead == "faccessat" and found.answers["aarch64"] == "not on aarch64"
    twins = kernel_data.load(SHIPPED, "twins")["aarch64"]
    for old, new in twins.items():
        assert old not in expand.NUMBERS["aarch64"] and new in expand.NUMBERS["aarch64"], old


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("clone3", "denied with ENOSYS, so that libraries use clone"),
        ("ptrace", "no group of the profile and no rule of its own names it"),
    ],
)
def test_a_denied_call_says_why(call: str, words: str) -> None:
    found = REVIEWER.explain(SOURCES.profiles["hapi"], call)
    assert not found.allowed and words in found.why and found.answers["x86_64"].startswith("denied")


def test_a_profiles_own_rule_and_its_reason_are_named(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.profile(seccomp={"include": ["process"], "syscalls": [allow("getitimer", reason="the old timer")]})
    sources = folder.load()
    found = explain.Reviewer(sources, SHIPPED, evidence.load(SHIPPED)).explain(sources.profiles["mine"], "getitimer")
    assert found.rules[0].group == explain.OWN and found.rules[0].reason == "the old timer"


def test_what_a_call_keeps_within_reach_is_listed_only_where_it_does() -> None:
    assert "CVE-2021-1048" in REVIEWER.explain(SOURCES.profiles["hapi"], "epoll_ctl").cves
    assert REVIEWER.explain(SOURCES.profiles["hapi"], "getpid").cves == ()
    assert REVIEWER.explain(SOURCES.profiles["hapi"], "bpf").cves == ()


def test_every_known_call_has_a_feature_and_none_has_two() -> None:
    calls = [call for entry in kernel_data.load(SHIPPED, "features")["features"] for call in entry["calls"]]
    assert len(calls) == len(set(calls)) and set().union(*expand.NUMBERS.values()) == set(calls)


def test_the_command_answers_with_its_exit_code() -> None:
    assert run("explain", "hapi", "openat").returncode == 0
    assert run("explain", "hapi", "ptrace").returncode == 1
    unknown = run("explain", "hapi", "ptrac")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (3, 1) and "ptrace" in unknown.stderr
    assert run("explain", "docker", "read").returncode == 3


def test_json_holds_the_whole_explanation_and_the_whole_table() -> None:
    one = json.loads(run("explain", "hapi", "socket", "--json").stdout)
    assert one["allowed"] and {"answers", "rules", "sightings", "cves", "feature"} <= one.keys()
    table = json.loads(run("explain", "hapi", "--json").stdout)
    assert {"runtime-runc", "runtime-crun"} <= {section["group"] for section in table}


def test_why_not_counts_and_names() -> None:
    document = json.loads(run("why-not", "hapi", "--json", "--all").stdout)
    assert len(document["cves"]) == document["counts"]["cves"] == 194
    assert document["counts"]["closed"] == sum(cve["closed"] for cve in document["cves"])
    for cve in document["cves"]:
        assert bool(cve["closed_by"]) is cve["closed"] and bool(cve["open_ways"]) is not cve["closed"]
    assert any(feature["feature"] == "sockets" and "socket*" in feature["calls"] for feature in document["features"])
