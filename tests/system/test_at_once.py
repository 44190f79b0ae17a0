"""Fifty starts at once: every decision and outcome is on record, in one unbroken chain."""

from __future__ import annotations

import subprocess
from collections import Counter

import pytest

from host.machine import Host, parse_status
from system.support import FHIR, LIVE, PLAIN, confined, unbroken, watching

COUNT = 50


@pytest.mark.parametrize("path", ["native", "live"])
def test_fifty_podman_run_at_once_make_fifty_decisions_and_one_chain(host: Host, path: str) -> None:
    before = LIVE if path == "live" else ()
    with watching(host) as records:
        running = []
        for number in range(COUNT + 6):
            tag = FHIR if number < COUNT else PLAIN
            runtime = ("runc", "crun")[number % 2]
            words = ["podman", "--runtime", runtime, *before, "run", "--rm", "--network", "none", tag, "status"]
            running.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        results = [(process.communicate(timeout=240), process.returncode) for process in running]
    for (_, error), code in results:
        assert code == 0, error
    assert all(confined(parse_status(output)) for (output, _), _ in results[:COUNT])
    assert not any(confined(parse_status(output)) for (output, _), _ in results[COUNT:])
    assert Counter(record["event"] for record in records) == {"decision": COUNT, "outcome": COUNT}
    decided = {record["seq"]: record["container"]["id"] for record in records if record["event"] == "decision"}
    assert len(set(decided.values())) == COUNT
    for record in records:
        if record["event"] == "outcome":
            assert decided[record["decided_by"]] == record["container"]["id"]
    assert unbroken()
