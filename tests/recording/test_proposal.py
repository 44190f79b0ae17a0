"""Proposals made of the shipped recordings and groups."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from fhir_hook.authoring.expand import gather
from fhir_hook.authoring.finding import errors
from fhir_hook.authoring.source import Source, Sources, load_sources
from fhir_hook.recording.proposal import Proposal, propose
from fhir_hook.recording.recording import Recording, Seen, available, load

SHIPPED = Path(__file__).resolve().parents[2] / "profiles"
RECORDINGS = available(SHIPPED)
ABOUT = {"server": "s", "method": "m", "date": "2026-01-02", "architecture": "x86_64"}


@pytest.fixture(scope="module")
def sources() -> Sources:
    """The shipped groups."""
    return load_sources(SHIPPED)


def proposal(sources: Sources, recording: Recording, labels: Mapping[str, str] = {}) -> Proposal:  # noqa: B006
    """A profile called mine."""
    made = propose(recording, sources, "mine", labels)
    assert errors(made.findings) == []
    return made


def small(*calls: str, arguments: Mapping[str, tuple[Seen, ...]] | None = None) -> Recording:
    """A recording of a few calls in the phase start."""
    return Recording("small", ABOUT, {"start": frozenset(calls)}, arguments or {}, {"events": 0})


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_proposal_allows_what_was_recorded_or_answers_so_that_callers_fall_back(sources: Sources, name: str) -> None:
    recording = load(RECORDINGS[name], SHIPPED)
    made = proposal(sources, recording)
    rules = gather(sources, Source("mine", Path("mine.json"), made.document, True), "x86_64")
    assert recording.calls - rules.allowed == set(made.fall_back) - rules.allowed
    assert "clone3" in recording.calls or "clone" in recording.calls
    assert "clone" in rules.under and "clone3" not in rules.allowed
    included = made.document["seccomp"]["include"]
    assert {"process", "threads"} <= set(included)
    assert len(rules.allowed) < 150


def test_a_jvm_is_known_by_its_calls(sources: Sources) -> None:
    made = proposal(sources, load(RECORDINGS["hapi-jpa-6.0.1"], SHIPPED))
    assert made.document["kind"] == "jvm"
    assert {"process", "threads", "files-read", "files-write", "tcp-server"} <= set(made.document["seccomp"]["include"])


def test_a_call_that_no_group_has_is_allowed_with_its_reason_and_its_arguments(sources: Sources) -> None:
    sockets = (Seen("AF_VSOCK, SOCK_STREAM, 0", ((0, 40), (1, 1), (2, 0)), ("start",)),)
    made = proposal(sources, small("socket", "mincore", arguments={"socket": sockets}))
    assert made.document["seccomp"]["syscalls"] == [
        {"names": ["mincore"], "reason": "seen in recording small, phase start", "action": "SCMP_ACT_ALLOW"},
        {
            "names": ["socket"],
            "reason": "AF_VSOCK, SOCK_STREAM, 0: seen in recording small, phase start",
            "action": "SCMP_ACT_ALLOW",
            "args": [
                {"index": 0, "value": 0xFFFFFFFF, "valueTwo": 40, "op": "SCMP_CMP_MASKED_EQ"},
                {"index": 1, "value": 15, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"},
                {"index": 2, "value": 0xFFFFFFFF, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"},
            ],
        },
    ]


def test_one_call_does_not_bring_a_group_of_grave_ones(sources: Sources) -> None:
    included = proposal(sources, small("mkdirat")).document["seccomp"]["include"]
    assert "entry-point" not in included


def test_a_call_newer_than_the_tables_is_told(sources: Sources) -> None:
    assert proposal(sources, small("read", "syscall_462")).unnamed == ("syscall_462",)


def test_the_images_own_labels_are_the_selector(sources: Sources) -> None:
    source = {"org.opencontainers.image.source": "https://example.org/x", "maintainer": "m"}
    made = proposal(sources, small("read"), source)
    assert made.document["match"] == [{"labels": {"org.opencontainers.image.source": "https://example.org/x"}}]
    assert "match" not in proposal(sources, small("read"), {"maintainer": "m"}).document


def test_a_proposal_says_what_it_stands_on(sources: Sources) -> None:
    document = proposal(sources, small("read")).document
    assert document["provenance"]["recordings"][0]["recording"] == "small"
    assert document["capabilities"] == {"keep": []} and document["noNewPrivileges"] is True
