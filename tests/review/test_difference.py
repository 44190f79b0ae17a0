"""difference.py: the same meaning in another form is no difference, and whatever differs is found."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authoring.sandbox import Folder
from fhir_hook.core import condition as algebra
from fhir_hook.review import difference
from fhir_hook.review.cases import passes
from fhir_hook.review.difference import ANSWER, ARGUMENTS, ONLY_A, ONLY_B, differences
from review.support import ERRNO, WORD, allow, args, finder, run, subject


def kinds(*pair: Any) -> dict[str, str]:
    return {entry.call: entry.kind for entry in differences(*pair)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([allow("read", "write")], [allow("write"), allow("read")]),
        ([allow("read")], [allow("read"), allow("read", args=args((0, "EQ", 1)))]),
        ([allow("socket", args=args((0, "LT", 3)))], [allow("socket", args=args((0, "LE", 2)))]),
        ([allow("socket", args=args((0, "EQ", 3)))], [allow("socket", args=args((0, "MASKED_EQ", (1 << 64) - 1, 3)))]),
        ([allow("socket", args=args((0, "GE", 0)))], [allow("socket")]),
        ([allow("socket", args=args((0, "MASKED_EQ", 0, 0)))], [allow("socket")]),
        (
            [allow("socket", args=args((0, "LE", 3)))],
            [allow("socket", args=args((0, "MASKED_EQ", (1 << 64) - 4, 0)))],
        ),
        (
            [allow("socket", args=args((0, "EQ", v))) for v in (0, 1)],
            [allow("socket", args=args((0, "MASKED_EQ", (1 << 64) - 2, 0)))],
        ),
        (
            [allow("socket", args=args((0, "EQ", 1), (0, "EQ", 2)))],
            [allow("socket", args=args((0, "EQ", v))) for v in (1, 2)],
        ),
        ([allow("read"), {"names": ["write"], "action": ERRNO}], [allow("read")]),
    ],
)
def test_the_same_meaning_in_another_form_is_no_difference(one: list[Any], other: list[Any]) -> None:
    assert differences(subject(*one), subject(*other)) == []


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([allow("read")], [], {"read": ONLY_A}),
        ([], [allow("read")], {"read": ONLY_B}),
        ([allow("clone")], [allow("clone", args=args((0, "MASKED_EQ", 0x7E020000, 0)))], {"clone": ARGUMENTS}),
        (
            [allow("socket", args=args((0, "EQ", 1)))],
            [allow("socket", args=args((0, "EQ", 2)))],
            {"socket": ARGUMENTS},
        ),
        ([{"names": ["read"], "action": ERRNO, "errnoRet": 38}], [], {"read": ANSWER}),
        ([{"names": ["read"], "action": "SCMP_ACT_LOG"}], [allow("read")], {"read": ANSWER}),
        # the upper half of the register
        (
            [allow("socket", args=args((0, "EQ", 2)))],
            [allow("socket", args=args((0, "MASKED_EQ", WORD, 2)))],
            {"socket": ARGUMENTS},
        ),
    ],
)
def test_what_differs_is_said(one: list[Any], other: list[Any], expected: dict[str, str]) -> None:
    assert kinds(subject(*one), subject(*other)) == expected


def test_examples_are_calls_that_one_side_alone_lets_through() -> None:
    one = subject(allow("socket", args=args((0, "LT", 38))))
    other = subject(allow("socket", args=args((0, "EQ", 38))))
    (entry,) = differences(one, other)
    assert entry.only_b == ("socket(AF_ALG)",) and all("AF_ALG" not in text for text in entry.only_a)


RULES = st.lists(
    st.tuples(st.sampled_from(("EQ", "NE", "LT", "GE", "MASKED_EQ")), st.integers(0, 7), st.integers(0, 7)).map(
        lambda condition: allow("read", args=args((0, *condition)))
    ),
    max_size=3,
)


@settings(max_examples=200, deadline=None)
@given(RULES, RULES)
def test_differences_agree_with_trying_every_small_value(one: list[Any], other: list[Any]) -> None:
    a, b = subject(*one), subject(*other)
    # constants are below 8: 0 to 15 and a large value show everything
    values = (*range(16), algebra.MAX)
    one_says, other_says = ([passes(s.meaning.answer("read", (v,))) for v in values] for s in (a, b))
    assert bool(differences(a, b)) is (one_says != other_says)
    if any(one_says) and not any(other_says):
        assert kinds(a, b) == {"read": ONLY_A}


def test_the_answer_to_calls_that_no_table_knows_and_other_abis_count() -> None:
    one = subject(default=ERRNO, defaultErrnoRet=38)
    found = {entry.call: entry.kind for entry in differences(one, subject(default=ERRNO))}
    assert found[difference.NEWER] == ANSWER
    foreign = subject(architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
    assert kinds(foreign, subject()) == {"(calls of x86 programs)": ONLY_A}


def test_a_recording_differs_from_its_profile_only_by_what_was_not_seen() -> None:
    found = finder()
    recording = found.find("hapi-plain-8.8.0")
    assert recording.recording is not None
    for entry in differences(recording, found.find("hapi")):
        assert entry.kind != ANSWER
        assert entry.call in recording.recording.calls or entry.kind == ONLY_B


def test_the_command_exits_with_0_for_the_same_and_1_for_another_meaning(tmp_path: Any) -> None:
    assert run("diff", "hapi", "hapi").returncode == 0
    assert run("diff", "docker", "unconfined").returncode == 1
    both = {json.loads(run("diff", "docker", "podman", "--json").stdout)["same"]}
    assert both == {False}
    assert run("diff", "docker", "nothing").returncode == 3


def test_a_file_with_a_profile_is_compared_with_the_installed_groups(tmp_path: Any) -> None:
    folder = Folder(tmp_path)
    path = folder.profile(seccomp={"include": ["process"], "syscalls": [allow("getitimer")]})
    document = json.loads(run("diff", path, "unconfined", "--json").stdout)
    assert 20 < document["allowed"]["a"] < 120


def test_versions_of_a_profile_are_compared(tmp_path: Any) -> None:
    folder = Folder(tmp_path)
    older = folder.profile("older", seccomp={"include": ["process"], "syscalls": []})
    newer = folder.profile("newer", seccomp={"include": ["process"], "syscalls": [allow("getitimer")]})
    document = json.loads(run("diff", older, newer, "--json").stdout)
    assert [(entry["call"], entry["kind"]) for entry in document["differences"]] == [("getitimer", ONLY_B)]
