"""Attacks by labels: only the image's own labels identify, and a label can only tighten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from host.machine import Host, parse_status
from system.support import FHIR, HAPI_SOURCE, LIVE, PLAIN, codes, confined, only, tried, watching

PATHS = {"native": (), "live": LIVE}


@pytest.fixture(params=["native", "live"])
def before(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return PATHS[request.param]


@pytest.mark.parametrize("how", ["--label", "--annotation", "--env"])
def test_attack_a_container_label_denies_being_fhir(
    host: Host, run: Callable[..., Any], runtime: str, user: str | None, before: tuple[str, ...], how: str
) -> None:
    options = [how, "org.opencontainers.image.source=https://example.org/other", how, "io.fhir-hook.profile="]
    options += [how, "io.fhir-hook.disable=true"]
    with watching(host, user) as records:
        done = run(FHIR, "status", options=options, before=before, runtime=runtime, user=user, check=True)
    assert confined(parse_status(done.stdout))
    assert only(records, event="decision")["identified_by"]["labels"] == {
        "org.opencontainers.image.source": HAPI_SOURCE
    }


def test_attack_a_container_label_names_a_looser_profile(
    host: Host, run: Callable[..., Any], runtime: str, user: str | None, before: tuple[str, ...]
) -> None:
    options = ("--security-opt", "seccomp=unconfined", "--label", "io.fhir-hook.profile=test-loose")
    with watching(host, user) as records:
        done = run(FHIR, "try", "seccomp", options=options, before=before, runtime=runtime, user=user, check=True)
    assert tried(done.stdout) == {"seccomp": "EPERM"}
    assert [profile["name"] for profile in only(records, event="decision")["profile"]] == ["hapi"]


def test_an_image_s_own_label_names_its_profile(
    host: Host, run: Callable[..., Any], runtime: str, before: tuple[str, ...]
) -> None:
    """What the attack above would get if it worked: test-loose allows seccomp(2) and CAP_KILL."""
    tag = host.derive(PLAIN, "named:loose", "--label", "io.fhir-hook.profile=test-loose")
    more = {"options": ("--privileged",), "before": before, "runtime": runtime, "check": True}
    assert tried(run(tag, "try", "seccomp", "bpf", **more).stdout) == {"seccomp": "OK", "bpf": "EPERM"}
    assert int(parse_status(run(tag, "status", **more).stdout)["CapBnd"], 16) == 1 << 5


REFUSED = {
    "not meant to be named": ("test-locked", "FH102"),
    "not installed": ("nowhere", "FH101"),
    "empty": ("", "FH101"),
    "a path": ("../../../etc/passwd", "FH101"),
    "terminal control": ("\x1b[2J\x1b]0;evil\x07\u202enekot", "FH101"),
    "very long": ("x" * 100_000, "FH101"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_attack_an_image_label_names_a_profile_it_may_not(
    host: Host, marker: Callable[..., Any], run: Callable[..., Any], runtime: str, before: tuple[str, ...], name: str
) -> None:
    value, code = REFUSED[name]
    tag = host.derive(FHIR, f"named:{'-'.join(name.split())}", "--label", f"io.fhir-hook.profile={value}")
    mount, ran = marker()
    with watching(host) as records:
        done = run(tag, "sh", "-c", "status >/marker/ran", options=mount, before=before, runtime=runtime)
    assert done.returncode == 126
    assert ran() == ""
    refusal = only(records, event="decision")
    assert (refusal["decision"], codes(refusal)[0]) == ("refused", code)
    if runtime == "runc" or not before:
        assert code in done.stderr
    assert done.stderr.isascii() or "\u202e" not in done.stderr
    assert "\x1b" not in done.stderr
    assert len(done.stderr) < 5000
