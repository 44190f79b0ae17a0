"""The meet of two sections, judged by what libseccomp compiles it to: the emulated result is never looser than either side."""

from __future__ import annotations

import json
import random
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_hook.authoring import libseccomp
from fhir_hook.core import bpf, condition, jsonio, meet, oci_seccomp
from fhir_hook.core.syscalls_x86_64 import NUMBERS

Section = dict[str, Any]
ARCH = "SCMP_ARCH_X86_64"
NAMES = ("getpid", "socket", "clone", "personality")
ACTIONS = (
    ("SCMP_ACT_ALLOW", None),
    ("SCMP_ACT_ALLOW", None),
    ("SCMP_ACT_ERRNO", None),
    ("SCMP_ACT_ERRNO", 1),
    ("SCMP_ACT_ERRNO", 38),
    ("SCMP_ACT_LOG", None),
    ("SCMP_ACT_TRACE", 7),
    ("SCMP_ACT_NOTIFY", None),
    ("SCMP_ACT_TRAP", None),
    ("SCMP_ACT_KILL", None),
    ("SCMP_ACT_KILL_THREAD", None),
    ("SCMP_ACT_KILL_PROCESS", None),
)
VALUES = (0, 1, 2, 3, 0xFF, 0x7E020000, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, 1 << 63, condition.MAX - 1, condition.MAX)


@st.composite
def args(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The `args` of one rule: up to three conditions, now and then two on the same argument."""
    found = []
    for index in draw(st.lists(st.sampled_from((0, 0, 1, 2)), max_size=3)):
        entry = {
            "index": index,
            "value": draw(st.sampled_from(VALUES)),
            "op": draw(st.sampled_from(condition.OPERATORS)),
        }
        if draw(st.booleans()):
            entry["valueTwo"] = draw(st.sampled_from(VALUES))
        found.append(entry)
    return found


@st.composite
def sections(draw: st.DrawFn) -> Section:
    """A linux.seccomp section as an engine, a user or a profile could bring it."""

    def with_action(target: Section, errno: str, action: str) -> Section:
        name, number = draw(st.sampled_from(ACTIONS))
        target[action] = name
        if number is not None:
            target[errno] = number
        return target

    section = with_action({}, "defaultErrnoRet", "defaultAction")
    rules = []
    for _ in range(draw(st.integers(0, 5))):
        rule: Section = {"names": draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2))}
        conditions = draw(args())
        if conditions or draw(st.booleans()):
            rule["args"] = conditions
        rules.append(with_action(rule, "errnoRet", "action"))
    section["syscalls"] = rules
    return section


def met(left: Section, right: Section) -> Section:
    """The meet as core.tighten makes it: read, met, written."""
    return meet.write(meet.meet(meet.read(left), meet.read(right), set()), ARCH, left)


def calls(*given_sections: Section) -> list[tuple[str, tuple[int, ...]]]:
    """Calls with arguments on both sides of every edge that the sections name."""
    found: list[tuple[str, tuple[int, ...]]] = []
    for name in (*NAMES, "read"):
        edges: list[set[int]] = [{0, 1 << 40}, {0}, {0}]
        for section in given_sections:
            for rule in section["syscalls"]:
                for arg in rule.get("args") or () if name in rule["names"] else ():
                    value, two = arg["value"], arg.get("valueTwo", 0)
                    masked = arg["op"] == condition.MASKED_EQ
                    near = (two & value, two & value | ~value, ~two) if masked else (value - 1, value, value + 1)
                    edges[arg["index"]] |= {n & condition.MAX for n in near}
        every = list(product(*edges))
        found += [(name, call) for call in (every if len(every) < 80 else random.Random(1).sample(every, 80))]
    return found


def program(section: Section) -> bpf.Program:
    return bpf.decode(libseccomp.compile_section({**section, "architectures": [ARCH]}, "x86_64"))


def answer(filter_: bpf.Program, name: str, call: tuple[int, ...]) -> oci_seccomp.Answer:
    return bpf.decision(bpf.run(filter_, NUMBERS[name], bpf.ARCH["x86_64"], 0, call))


def rank(action: oci_seccomp.Answer) -> int:
    return oci_seccomp.RANK[action[0]]


@given(sections(), sections())
@settings(max_examples=400, deadline=None)
def test_the_compiled_meet_is_never_looser_than_either_side(left: Section, right: Section) -> None:
    """Than what a side means: libseccomp compiles some overlapping rules more strictly than that, never more loosely."""
    result = met(left, right)
    whole = program(result)
    sides = [oci_seccomp.Meaning(section) for section in (left, right)]
    for name, call in calls(left, right, result):
        found = rank(answer(whole, name, call))
        assert found >= max(rank(side.answer(name, call)) for side in sides), (name, call, result)


@given(sections(), sections())
@settings(max_examples=400, deadline=None)
def test_the_meet_is_never_looser_than_either_side_by_the_meaning_of_the_sections(
    left: Section, right: Section
) -> None:
    result = met(left, right)
    meanings = [oci_seccomp.Meaning(section) for section in (left, right, result)]
    for name, call in calls(left, right, result):
        one, other, whole = (rank(meaning.answer(name, call)) for meaning in meanings)
        assert whole >= max(one, other), (name, call, result)


@given(sections(), sections())
@settings(max_examples=300, deadline=None)
def test_meeting_again_changes_no_byte(left: Section, right: Section) -> None:
    once = met(left, right)
    assert jsonio.text(met(once, right)) == jsonio.text(once)
    assert jsonio.text(met(once, once)) == jsonio.text(once)
    assert jsonio.text(meet.write(meet.read(once), ARCH, once)) == jsonio.text(once)


@given(sections(), sections())
@settings(max_examples=300, deadline=None)
def test_the_order_of_the_sides_does_not_matter_to_any_call(left: Section, right: Section) -> None:
    one, other = oci_seccomp.Meaning(met(left, right)), oci_seccomp.Meaning(met(right, left))
    for name, call in calls(left, right):
        assert rank(one.answer(name, call)) == rank(other.answer(name, call)), (name, call)


@given(sections(), sections())
@settings(max_examples=200, deadline=None)
def test_the_meet_holds_no_rules_that_contradict_each_other(left: Section, right: Section) -> None:
    result = met(left, right)
    meaning = oci_seccomp.Meaning(result)
    for name, call in calls(left, right, result):
        answers = {rule.answer for rule in meaning.rules.get(name, ()) if rule.matches(call)}
        assert len({rank(a) for a in answers}) <= 1, (name, call, answers)


@given(sections())
@settings(max_examples=200, deadline=None)
def test_meeting_with_an_allow_all_section_loses_nothing_but_what_is_ambiguous(section: Section) -> None:
    result = oci_seccomp.Meaning(met(section, {"defaultAction": "SCMP_ACT_ALLOW"}))
    meaning = oci_seccomp.Meaning(section)
    denied: set[str] = set()
    meet.meet(meet.read(section), meet.read({"defaultAction": "SCMP_ACT_ALLOW"}), denied)
    simple = [n for n in NAMES if n not in denied and len({r.answer[0] for r in meaning.rules.get(n, ())}) <= 1]
    for name, call in calls(section):
        expected = meaning.answer(name, call)
        if name in simple and expected[0] == "SCMP_ACT_ALLOW" == meaning.default[0]:
            assert rank(result.answer(name, call)) == 0, (name, call)
