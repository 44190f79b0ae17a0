"""Attacks by what a user may ask an engine for, and by entry points that gain privileges."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host.machine import Host, parse_status
from system.support import DENIED, FHIR, LIVE, caps, codes, confined, filters, kernel_state, only, tried, watching

ALLOW_ALL = base64.b64encode(struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000)).decode()
OPTIONS = {
    "privileged": ("--privileged",),
    "cap-add ALL": ("--cap-add=ALL",),
    "unconfined": ("--security-opt", "seccomp=unconfined"),
    "new privileges": ("--security-opt", "no-new-privileges=false"),
    "all at once": (
        "--privileged", "--cap-add=ALL", "--security-opt", "seccomp=unconfined", "--security-opt",
        "no-new-privileges=false", "--pid=host", "--userns=host",
    ),
}  # fmt: skip
GAINS = ("--user", "65532:65532", "--cap-add", "SYS_ADMIN,NET_RAW")
FOREIGN = ("int80_getpid", "int80_unshare", "int80_socketcall", "x32_getpid")


@pytest.fixture(params=["native", "live"])
def before(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return LIVE if request.param == "live" else ()


def test_attack_a_setuid_entry_point_run_by_an_ordinary_user(
    run: Callable[..., Any], runtime: str, user: str | None, before: tuple[str, ...]
) -> None:
    more = {"options": GAINS, "runtime": runtime, "user": user, "check": True}
    assert parse_status(run(FHIR, "setuid-status", hooks=False, **more).stdout)["Uid"] == "65532 0 0 0", "others gain"
    status = parse_status(run(FHIR, "setuid-status", before=before, **more).stdout)
    assert confined(status)
    assert status["Uid"] == status["Gid"] == "65532 65532 65532 65532"


def test_attack_an_entry_point_with_file_capabilities_run_by_an_ordinary_user(
    host: Host, run: Callable[..., Any], runtime: str, user: str | None, before: tuple[str, ...]
) -> None:
    """With the effective flag execve itself refuses what the bounding set lacks (capabilities(7)); without, it runs."""
    more = {"options": GAINS, "runtime": runtime, "user": user}
    gained = parse_status(run(FHIR, "fcaps-status", hooks=False, check=True, **more).stdout)
    assert caps(gained)["CapEff"] == ["CAP_NET_RAW", "CAP_SYS_ADMIN"], "others gain"
    done = run(FHIR, "fcaps-status", before=before, **more)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "peration not permitted" in done.stderr.lower()
    tag = host.derive(FHIR, "fcaps:permitted", "--caps", "cap_net_raw,cap_sys_admin+p:/bin/status", user=user)
    gained = parse_status(run(tag, "status", hooks=False, check=True, **more).stdout)
    assert caps(gained)["CapPrm"] == ["CAP_NET_RAW", "CAP_SYS_ADMIN"], "others gain"
    assert confined(parse_status(run(tag, "status", before=before, check=True, **more).stdout))


@pytest.mark.parametrize("asked", list(OPTIONS))
def test_attack_options_that_loosen(
    host: Host, run: Callable[..., Any], runtime: str, user: str | None, before: tuple[str, ...], asked: str
) -> None:
    more = {"options": OPTIONS[asked], "before": before, "runtime": runtime, "user": user, "check": True}
    with watching(host, user) as records:
        done = run(FHIR, "sh", "-c", f"status; try {' '.join(DENIED)}", **more)
    assert confined(parse_status(done.stdout))
    results = tried(done.stdout)
    assert {name: results[name] for name in DENIED} == dict.fromkeys(DENIED, "EPERM")
    found = codes(only(records, event="decision"))
    assert ("FH202" in found) == ("seccomp=unconfined" in OPTIONS[asked] or "--privileged" in OPTIONS[asked])
    assert ("FH203" in found) == ("--privileged" in OPTIONS[asked])
    assert "FH201" in found


def test_attack_a_seccomp_file_that_allows_everything(
    host: Host, run: Callable[..., Any], runtime: str, before: tuple[str, ...]
) -> None:
    file = host.directory() / "all.json"
    file.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    options = ("--security-opt", f"seccomp={file}")
    assert tried(run(FHIR, "try", "keyctl", options=options, hooks=False, runtime=runtime, check=True).stdout) == {
        "keyctl": "OK"
    }
    done = run(FHIR, "try", "keyctl", options=options, before=before, runtime=runtime, check=True)
    assert tried(done.stdout) == {"keyctl": "EPERM"}


def test_attack_int_0x80_and_x32_calls(run: Callable[..., Any], runtime: str, before: tuple[str, ...]) -> None:
    more = {"options": ("--privileged",), "runtime": runtime, "check": True}
    unconfined = tried(run(FHIR, "try", *FOREIGN, hooks=False, **more).stdout)
    assert unconfined["int80_socketcall"] == "OK", "a raw socket, by a call that a 64-bit filter does not see"
    seen = tried(run(FHIR, "try", *FOREIGN, before=before, **more).stdout)
    assert seen == dict.fromkeys(FOREIGN, "SIGSYS")


def test_attack_an_annotation_replaces_crun_s_filter(
    host: Host, run: Callable[..., Any], user: str | None, before: tuple[str, ...]
) -> None:
    key = "run.oci.seccomp_bpf_data"
    more = {"options": ("--annotation", f"{key}={ALLOW_ALL}"), "runtime": "crun", "user": user}
    assert tried(run(FHIR, "try", "keyctl", hooks=False, **more).stdout) == {"keyctl": "OK"}, "what it does to others"
    _check_bypass(host, key, lambda: run(FHIR, "try", "keyctl", before=before, **more), user, before)


def test_attack_an_annotation_of_the_image_s_manifest_replaces_crun_s_filter(
    host: Host, run: Callable[..., Any], before: tuple[str, ...]
) -> None:
    key = "run.oci.seccomp_bpf_data"
    tag = host.derive(FHIR, "annotated:bpf", "--annotation", f"{key}={ALLOW_ALL}")
    assert tried(run(tag, "try", "keyctl", hooks=False, runtime="crun").stdout) == {"keyctl": "OK"}
    _check_bypass(host, key, lambda: run(tag, "try", "keyctl", before=before, runtime="crun"), None, before)


@pytest.mark.parametrize(
    "key", ["run.oci.seccomp.plugins", "run.oci.seccomp_fail_unknown_syscall", "run.oci.hooks.stdout", "krun.variant",
            "module.wasm.image/variant"]
)  # fmt: skip
def test_attack_annotations_by_which_a_runtime_leaves_the_plan(
    host: Host, run: Callable[..., Any], runtime: str, before: tuple[str, ...], key: str
) -> None:
    value = str(host.directory() / "written-by-the-runtime")
    more = {"options": ("--annotation", f"{key}={value}"), "before": before, "runtime": runtime}
    _check_bypass(host, key, lambda: run(FHIR, "try", "keyctl", **more), None, before)
    assert not Path(value).exists() or before


def _check_bypass(host: Host, key: str, go: Callable[[], Any], user: str | None, before: tuple[str, ...]) -> None:
    """Natively the annotation is removed, live the start is refused: the runtime has read it by then."""
    with watching(host, user) as records:
        done = go()
    decision = only(records, event="decision")
    if before:
        assert (done.returncode, done.stdout) == (126, "")
        assert (decision["decision"], codes(decision)[0]) == ("refused", "FH108")
    else:
        assert tried(done.stdout) == {"keyctl": "EPERM"}
        assert decision["decision"] == "confined"
        assert "FH204" in codes(decision)
    assert any(key in item["text"] for item in [*decision["reasons"], *decision["findings"]])


def test_exec_privileged_gets_capabilities_but_stays_under_the_filter(
    host: Host, start: Callable[..., str], runtime: str, user: str | None
) -> None:
    """What really happens: Podman gives `exec --privileged` its capabilities from its own state, past any hook.

    The filter comes from the runtime's state, so it is the very one that the container's first process has.
    """
    id = start(FHIR, command=["sleeper"], runtime=runtime, user=user)
    words = ["exec", "--privileged", id, "sh", "-c", f"status; try {' '.join(DENIED)}"]
    done = host.podman(*words, user=user, check=True)
    status = parse_status(done.stdout)
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "0"
    assert "CAP_SYS_ADMIN" in caps(status)["CapEff"]
    results = tried(done.stdout)
    assert {name: results[name] for name in DENIED} == dict.fromkeys(DENIED, "EPERM")
    host.podman("exec", "-d", "--privileged", id, "sleep", "1000", user=user, check=True)
    inside = host.podman("top", id, "hpid", "comm", user=user, check=True).stdout.splitlines()
    pid = int(next(line.split()[0] for line in inside if line.split()[-1] == "sleep"))
    assert filters(pid) == filters(host.pid(id, user))
    assert confined(kernel_state(host.pid(id, user)))


def test_exec_unprivileged_can_not_gain_anything_by_setuid_programs(
    host: Host, start: Callable[..., str], runtime: str
) -> None:
    """exec runs without no_new_privs: the reduced bounding set is what keeps a setuid program from capabilities."""
    id = start(FHIR, command=["sleeper"], runtime=runtime)
    done = host.podman("exec", "--user", "65532", id, "setuid-status", check=True)
    status = parse_status(done.stdout)
    assert not any(caps(status).values())
    assert status["Seccomp"] == "2"
