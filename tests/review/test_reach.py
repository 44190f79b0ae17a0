"""reach.py: a CVE is closed only when a step that it needs has no way left."""

from __future__ import annotations

import dataclasses
import json

import pytest

from authoring.sandbox import SHIPPED
from fhir_hook.review import kernel_data, reach
from fhir_hook.review.subject import Subject
from review.support import ALLOW, WORD, allow, args, finder, subject

CVES = reach.load(SHIPPED)
EVERY = {cve.name: cve for cve in CVES}


def closed(filter_: Subject, name: str) -> bool:
    return reach.judge(filter_, [EVERY[name]])[0].closed


def test_every_entry_of_the_table_has_steps_and_its_source() -> None:
    raw = json.loads((SHIPPED / "kernel" / "cves.json").read_text())
    assert len(CVES) == len(raw) == 194
    assert all(cve.steps and cve.source for cve in CVES)
    known = {way.call for cve in CVES for _, ways in cve.steps for way in ways if way.call}
    features = {c for entry in kernel_data.load(SHIPPED, "features")["features"] for c in entry["calls"]}
    assert known <= features


def test_without_a_filter_nothing_is_closed_by_it() -> None:
    unconfined = finder().find("unconfined")
    without = dataclasses.replace(unconfined, capabilities=("CAP_NET_ADMIN", "CAP_SYS_ADMIN"))
    assert reach.counts(reach.judge(without, CVES))["closed"] == 0


def test_a_filter_that_allows_nothing_closes_everything() -> None:
    nothing = dataclasses.replace(subject(), new_privileges=False)
    counts = reach.counts(reach.judge(nothing, CVES))
    assert counts["closed"] == counts["cves"] and counts["closed_of_docker_leaves"] == counts["docker_leaves"] == 67


def test_dockers_default_comes_out_as_the_table_has_it_but_for_what_slips_past_its_comparison() -> None:
    verdicts = reach.judge(finder().find("docker"), CVES)
    different = {v.cve.name for v in verdicts if v.closed != (v.cve.docker_default == "blocked")}
    assert different == {cve.name for cve in CVES if cve.syscalls == ("socket(AF_VSOCK=40)",)}
    said = {way for v in verdicts if v.cve.name in different for way in v.open_ways}
    assert said == {"socket(AF_VSOCK (with 0x1 in the register's upper half))"}


@pytest.mark.parametrize(
    ("rule", "name", "is_closed"),
    [
        (allow("socket", args=args((0, "MASKED_EQ", WORD, 2))), "CVE-2017-7308", False),  # SOCK_PACKET over AF_INET
        (allow("socket", args=args((0, "MASKED_EQ", WORD, 2), (1, "MASKED_EQ", 15, 1))), "CVE-2017-7308", True),
        (allow("socket", args=args((0, "EQ", 17))), "CVE-2017-7308", False),
        (allow("socket", args=args((0, "LT", 17))), "CVE-2017-7308", False),  # SOCK_PACKET again
        (allow("socket", args=args((0, "NE", 40))), "CVE-2021-26708", False),  # the upper half
        (allow("socket", args=args((0, "LE", 39))), "CVE-2021-26708", True),
        (allow("socket", args=args((0, "MASKED_EQ", WORD, 2), (2, "MASKED_EQ", WORD, 0))), "CVE-2019-8956", False),
        (allow("clone", args=args((0, "MASKED_EQ", 0x7E020000, 0))), "CVE-2022-24122", True),
        (allow("clone", args=args((0, "MASKED_EQ", 0x6E020000, 0))), "CVE-2022-24122", False),
        (allow("clone3"), "CVE-2022-24122", False),
        (allow("unshare"), "CVE-2022-24122", False),
        (allow("setsockopt", args=args((1, "MASKED_EQ", WORD, 1))), "CVE-2023-0461", True),
        (allow("setsockopt", args=args((2, "MASKED_EQ", WORD, 31))), "CVE-2023-0461", False),
        (allow("futex", args=args((1, "MASKED_EQ", 0x7F, 0))), "CVE-2021-3347", True),
        (allow("futex", args=args((1, "MASKED_EQ", 0x7E, 6))), "CVE-2021-3347", False),
        (allow("sendto", "socketpair", args=args((3, "MASKED_EQ", 1, 0))), "CVE-2024-36972", True),
        (allow("ioctl", args=args((1, "EQ", 0x5423))), "CVE-2017-2636", False),
        (allow("timer_create"), "CVE-2025-38352", True),
    ],
)
def test_arguments_decide(rule: dict[str, object], name: str, is_closed: bool) -> None:
    assert closed(subject(rule), name) is is_closed


@pytest.mark.parametrize(
    ("calls", "name"),
    [
        (("splice", "pipe"), "CVE-2022-0847"),
        (("sendfile", "pipe2"), "CVE-2022-0847"),
        (("io_uring_setup", "pipe2"), "CVE-2022-0847"),
        (("sendmmsg", "socketpair"), "CVE-2025-40214"),
        (("unshare", "socket"), "CVE-2022-1015"),
        (("unshare", "fsopen"), "CVE-2023-0386"),
        (("pidfd_getfd",), "CVE-2026-46333"),
    ],
)
def test_another_call_that_leads_to_the_same_code_keeps_it_open(calls: tuple[str, ...], name: str) -> None:
    assert not closed(subject(allow(*calls)), name)
    for missing in calls:
        assert closed(subject(allow(*(set(calls) - {missing}))), name)


def test_a_capability_opens_what_a_new_user_namespace_would() -> None:
    netlink = allow("socket", args=args((0, "MASKED_EQ", WORD, 16)))
    assert closed(subject(netlink), "CVE-2022-1015")
    assert not closed(dataclasses.replace(subject(netlink), capabilities=("CAP_NET_ADMIN",)), "CVE-2022-1015")


def test_no_new_privs_closes_what_needs_a_set_user_id_program() -> None:
    filter_ = subject(allow("execve"))
    assert not closed(filter_, "CVE-2018-14634")
    assert closed(dataclasses.replace(filter_, new_privileges=False), "CVE-2018-14634")


def test_a_filter_that_lets_i386_programs_run_does_not_close_sockets() -> None:
    rules = (allow("socket", args=args((0, "EQ", 2))), allow("socketcall"))
    both = subject(*rules, architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
    assert not closed(both, "CVE-2026-31431")
    assert closed(subject(*rules), "CVE-2026-31431")


@pytest.mark.parametrize("action", ["SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE"])
def test_what_a_supervisor_or_the_log_sees_is_not_closed(action: str) -> None:
    assert not closed(subject({"names": ["bpf"], "action": action}), "CVE-2017-16995")


def test_a_default_that_allows_is_looked_at_too() -> None:
    filter_ = subject({"names": ["bpf"], "action": "SCMP_ACT_ERRNO"}, default=ALLOW)
    assert closed(filter_, "CVE-2017-16995") and not closed(filter_, "CVE-2016-7117")


def test_every_profile_here_closes_more_than_dockers_default() -> None:
    found = finder()
    docker = reach.counts(reach.judge(found.find("docker"), CVES))
    for name in found.sources.profiles:
        counts = reach.counts(reach.judge(found.find(name), CVES))
        assert counts["closed"] > docker["closed"], name
        assert counts["closed_of_docker_leaves"] > 0, name
