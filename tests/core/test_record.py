"""What a record holds: bounded, nothing of the container's arguments or environment, and never too long for the log."""

from __future__ import annotations

import json

import pytest

from fhir_hook.core import decide, jsonio, record
from fhir_hook.core.decide import Decision
from fhir_hook.core.image import Container, Image
from fhir_hook.core.spec import Spec
from fhir_hook.core.tighten import tighten
from fhir_hook.store import log

HOSTILE = "\U0001f4a9" * 100_000
PROFILE = {
    "name": "p",
    "version": "1",
    "digest": "d" * 64,
    "capabilities": ["CAP_KILL"],
    "seccomp": {
        "x86_64": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}
    },
}


def fields(spec: Spec, names: tuple[str, ...] = (), value: str = "v") -> dict[str, object]:
    result = Decision(decide.CONFINED, {"by": "selector", "labels": {"key": value}})
    result.findings = [("FH205", value)] * 100
    result.reasons = [("FH101", value)]
    container = Container("c", "n", Image("a" * 64, {}, names, "sha256:x"), source="containers/storage")
    whole = record.decision(result, container, "precreate", "native", "e" * 64)
    whole.update(record.plan(tighten(spec, [PROFILE], "x86_64", False), [PROFILE], {"read": 0, "write": 1}))
    return whole


def test_a_record_says_what_was_found_decided_and_planned() -> None:
    found = fields(Spec({"process": {"capabilities": {"bounding": ["CAP_KILL", "CAP_CHOWN"]}}}), ("localhost/a:1",))
    assert (found["event"], found["decision"], found["stage"], found["path"]) == (
        "decision",
        "confined",
        "precreate",
        "native",
    )
    assert found["container"] == {"id": "c", "name": "n"}
    assert found["image"] == {
        "id": "a" * 64, "digest": "sha256:x", "names": ["localhost/a:1"], "source": "containers/storage"
    }  # fmt: skip
    assert found["profile"] == [{"name": "p", "version": "1", "digest": "d" * 64}]
    assert found["seccomp"] == {"allowed_before": 2, "allowed": 1, "inexpressible": []}
    assert found["capabilities"] == {"asked": ["CAP_KILL", "CAP_CHOWN"], "left": ["CAP_KILL"], "dropped": ["CAP_CHOWN"]}
    assert found["no_new_privs"] is True


def test_arguments_environment_and_mounts_of_the_container_are_not_in_a_record() -> None:
    secret = {"args": ["s3cret"], "env": ["PASSWORD=s3cret"], "cwd": "/s3cret"}
    found = fields(Spec({"process": secret, "mounts": [{"source": "/s3cret"}], "annotations": {"x": "s3cret"}}))
    assert "s3cret" not in json.dumps(found)


@pytest.mark.parametrize("text", [HOSTILE, "x" * 100_000])
def test_hostile_text_in_every_place_still_makes_a_record_that_the_log_takes(text: str) -> None:
    config = Spec({
        "process": {"capabilities": {"bounding": [f"CAP_{n}{text}" for n in range(100)]}},
        "annotations": {f"run.oci.{text}": "", f"krun.{text}": ""},
        "linux": {
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "syscalls": [
                    {
                        "names": [f"{n}{text[:5000]}" for n in range(100)],
                        "action": "SCMP_ACT_NOTIFY",
                        "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
                    },
                    {
                        "names": [f"{n}{text[:5000]}" for n in range(100)],
                        "action": "SCMP_ACT_ALLOW",
                        "args": [{"index": 0, "value": 3, "op": "SCMP_CMP_GT"}],
                    },
                ],
            }
        },
    })  # fmt: skip
    found = fields(config, tuple(f"{n}{text}" for n in range(100)), text)
    assert len(jsonio.text(found)) < log.LONGEST_RECORD - 2000


def test_text_is_cut_with_a_mark() -> None:
    assert record.bounded("a" * 512) == "a" * 512
    assert record.bounded("a" * 513) == "a" * 506 + "\u2026"
    for text in ("\u00e4" * 1000, HOSTILE, "\x00" * 600, '"\\' * 300, "a" * 505 + "\u00e4"):
        cut = record.bounded(text)
        assert len(jsonio.text(cut)) <= 2 * 512 and cut[:-1] == text[: len(cut) - 1]
