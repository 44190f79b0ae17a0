"""The native and the live path leave the same kernel state for a container's first process."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from fhir_hook.core import bpf
from host.machine import Host
from system.support import FHIR, LIVE, codes, differences, filters, kernel_state, only, tried, watching

# What people ask for, and what must come out alike whichever way the plan got into force.
ASKED = {
    "plain": (),
    "ordinary user": ("--user", "65532:65532"),
    "privileged": ("--privileged",),
    "all capabilities, unconfined": ("--cap-add=ALL", "--security-opt", "seccomp=unconfined"),
    "one capability as a user": ("--user", "65532:65532", "--cap-add=NET_ADMIN"),
}


@pytest.mark.parametrize("asked", list(ASKED))
def test_native_and_live_leave_the_same_kernel_state(
    host: Host, start: Callable[..., str], runtime: str, user: str | None, asked: str
) -> None:
    seen = []
    for before in ((), LIVE):
        with watching(host, user) as records:
            id = start(FHIR, *ASKED[asked], command=["sleeper"], before=before, runtime=runtime, user=user)
            pid = host.pid(id, user)
        decision = only(records, event="decision")
        assert (decision["decision"], decision["path"]) == ("confined", "live" if before else "native")
        seen.append((kernel_state(pid), filters(pid)))
    assert seen[0][0] == seen[1][0]
    assert [len(programs) for _, programs in seen] == [1, 1 if "unconfined" in asked or asked == "privileged" else 2]
    if user is None and asked in ("plain", "privileged"):
        assert differences(seen[0][1], seen[1][1]) == []


def test_live_says_what_the_kernel_has_and_what_exec_will_not_get(
    host: Host, start: Callable[..., str], runtime: str, user: str | None
) -> None:
    with watching(host, user) as records:
        id = start(FHIR, command=["sleeper"], before=LIVE, runtime=runtime, user=user)
    decision, outcome = only(records, event="decision"), only(records, event="outcome")
    assert "FH209" in codes(decision)
    assert outcome["decided_by"] == decision["seq"]
    assert outcome["seccomp"]["filters_after"] == outcome["seccomp"]["filters_before"] + 1 == 2
    assert outcome["no_new_privs"] is True
    assert set(outcome["capabilities"].values()) == {"0" * 16}
    if user is None:
        assert (outcome["seen"], codes(outcome)) == ("kernel", [])
        read = [hashlib.sha256(bpf.encode(program)).hexdigest() for program in filters(host.pid(id))]
        assert decision["seccomp"]["filters"] == read[1:]
    else:
        assert (outcome["seen"], codes(outcome)) == ("count", ["FH210"])
    exec_keyctl = host.podman("exec", id, "try", "bpf", "unshare", user=user, check=True).stdout
    assert set(tried(exec_keyctl)) == {"bpf", "unshare"}


@pytest.mark.parametrize("path", ["native", "live"])
def test_no_instruction_of_the_image_runs_before_the_filter(
    host: Host, run: Callable[..., Any], runtime: str, user: str | None, path: str
) -> None:
    """The program's very first instruction is keyctl, which needs no capability: only the filter can deny it.

    Podman was told to allow it. For root also unshare and bpf, by which a capability would show.
    """
    options = ("--privileged",) if user is None else ("--security-opt", "seccomp=unconfined")
    more = {"options": options, "runtime": runtime, "user": user, "check": True}
    for name, program in (("keyctl", "firstcall"), ("unshare", "firstcall-unshare"), ("bpf", "firstcall-bpf")):
        if user is None or name == "keyctl":
            unconfined = run(FHIR, program, hooks=False, **more)
            assert re.fullmatch(rf"{name} (\d+|-22)\n", unconfined.stdout), "without the hook the kernel takes the call"
        confined = run(FHIR, program, before=LIVE if path == "live" else (), **more)
        assert confined.stdout == f"{name} -1\n", "EPERM: the plan was in force"
