"""The compiled policy missing, truncated, stale, or writable by others; and a broken edit of its sources."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host.machine import Host, parse_status
from system.support import FHIR, LIVE, PLAIN, SETTINGS, STATE, codes, confined, only, policy_index, watching

SHIPPED = Path("/usr/share/fhir-hook/profiles")
SELECTORS, PREVIOUS = STATE / "selectors.json", STATE / "selectors.previous.json"
pytestmark = pytest.mark.usefixtures("kept")


def _body() -> Path:
    return STATE / str(policy_index()["body"])


def _remove_all() -> None:
    for path in STATE.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _truncate(*paths: Path) -> None:
    for path in paths:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    """Change one bit in every line, so that whichever profile is read is damaged."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(bytes([line[0]]) + bytes([line[1] ^ 1]) + line[2:] for line in lines))


def _owned_by_another(*paths: Path) -> None:
    for path in paths:
        os.chown(path, 65534, 65534)


def _replaced_by_link() -> None:
    for path in (SELECTORS, PREVIOUS):
        path.rename(path.with_suffix(".real"))
        path.symlink_to(path.with_suffix(".real"))


FAULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "all of it is missing": (_remove_all, "FH103"),
    "its body is missing": (lambda: _body().unlink(), "FH103"),
    "its body is truncated": (lambda: _body().write_bytes(_body().read_bytes()[:1000]), "FH103"),
    "its body is empty": (lambda: _body().write_bytes(b""), "FH103"),
    "a bit of its body is flipped": (lambda: _flip(_body()), "FH103"),
    "its selectors are truncated, the last good ones too": (lambda: _truncate(SELECTORS, PREVIOUS), "FH103"),
    "its selectors are links": (_replaced_by_link, "FH103"),
    "its selectors can be written by others": (lambda: [p.chmod(0o666) for p in (SELECTORS, PREVIOUS)], "FH104"),
    "its directory can be written by others": (lambda: STATE.chmod(0o777), "FH104"),
    "its body can be written by others": (lambda: _body().chmod(0o664), "FH104"),
}
# Not for an ordinary user: in a user namespace all ids that are not mapped, root's too, look alike (stat(2)).
OWNERS: dict[str, tuple[Callable[[], Any], str]] = {
    "its selectors belong to another user": (lambda: _owned_by_another(SELECTORS, PREVIOUS), "FH104"),
    "its body belongs to another user": (lambda: _owned_by_another(_body()), "FH104"),
}


CASES = [(user, fault) for user in (None, "rootless") for fault in FAULTS] + [(None, fault) for fault in OWNERS]


@pytest.mark.parametrize(("user", "fault"), CASES)
def test_fhir_is_refused_and_others_start_when(
    host: Host, run: Callable[..., Any], marker: Callable[..., Any], user: str | None, fault: str
) -> None:
    break_it, code = {**FAULTS, **OWNERS}[fault]
    break_it()
    mount, ran = marker(user)
    for before in ((), LIVE):
        with watching(host, user) as records:
            refused = run(FHIR, "sh", "-c", "status >/marker/ran", options=mount, before=before, user=user)
            other = run(PLAIN, "status", before=before, user=user)
        assert (refused.returncode, ran()) == (126, "")
        assert f"{code}: " in refused.stderr
        assert other.returncode == 0, other.stderr
        record = only(records, event="decision")
        assert (record["decision"], codes(record)[0]) == ("refused", code)


@pytest.mark.parametrize("fault", ["truncated", "written by others"])
def test_the_last_good_selectors_take_over_when_the_present_ones_are(
    host: Host, run: Callable[..., Any], fault: str
) -> None:
    if fault == "truncated":
        _truncate(SELECTORS)
    else:
        SELECTORS.chmod(0o666)
    for before in ((), LIVE):
        with watching(host) as records:
            assert confined(parse_status(run(FHIR, "status", before=before, check=True).stdout))
            run(PLAIN, "status", before=before, check=True)
        assert "FH212" in codes(only(records, event="decision"))


def test_a_policy_older_than_its_sources_is_used_and_the_record_says_so(host: Host, run: Callable[..., Any]) -> None:
    os.utime(SHIPPED / "hapi.json")
    (SETTINGS / "config.d" / "50-new.toml").write_text('mode = "complain"\n')
    for before in ((), LIVE):
        with watching(host) as records:
            assert confined(parse_status(run(FHIR, "status", before=before, check=True).stdout))
        decision = only(records, event="decision")
        assert "FH208" in codes(decision)
        text = next(item["text"] for item in decision["findings"] if item["code"] == "FH208")
        assert "hapi.json" in text
    shown = json.loads(host.run(["fhir-hook", "policy", "show", "--json"], check=True).stdout)
    assert str(SHIPPED / "hapi.json") in shown["changed"]
    host.run(["fhir-hook", "policy", "compile"], check=True)
    (SETTINGS / "config.d" / "50-new.toml").unlink()


def test_a_broken_edit_leaves_the_policy_in_force(host: Host, run: Callable[..., Any]) -> None:
    before = policy_index()["policy"]
    (SETTINGS / "profiles" / "test-loose.json").write_text('{"name": "test-loose", "syscalls": ')
    with watching(host) as records:
        done = host.run(["fhir-hook", "policy", "compile"])
        assert done.returncode == 3
        assert "test-loose.json" in done.stderr
        assert confined(parse_status(run(FHIR, "status", check=True).stdout))
    assert policy_index()["policy"] == before
    assert only(records, event="policy")["result"] == "refused"
    (SETTINGS / "profiles" / "test-loose.json").unlink()
    (SETTINGS / "config.toml").write_text('mode = "off"\n')
    done = host.run(["fhir-hook", "policy", "compile"])
    assert done.returncode == 3
    assert "config.toml" in done.stderr
    assert policy_index()["policy"] == before


def test_without_policy_and_profiles_nothing_is_known_to_be_fhir_and_the_record_says_so(
    host: Host, run: Callable[..., Any]
) -> None:
    """A stated limit: with selectors, last good selectors and all profile sources gone, FHIR can't be told from others.

    An image that names its profile itself still can, and is refused.
    """
    named = host.derive(PLAIN, "named:hapi", "--label", "io.fhir-hook.profile=hapi")
    _remove_all()
    away = [(path, path.with_name(path.name + ".away")) for path in (SHIPPED, SETTINGS / "profiles")]
    for path, other in away:
        path.rename(other)
    try:
        for before in ((), LIVE):
            with watching(host) as records:
                done = run(FHIR, "status", before=before, check=True)
                assert run(named, "status", before=before).returncode == 126
            assert parse_status(done.stdout)["NoNewPrivs"] == "0"
            assert [(r["decision"], codes(r)) for r in records] == [
                ("undetermined", ["FH303"]), ("refused", ["FH103"]),
            ]  # fmt: skip
    finally:
        for path, other in away:
            other.rename(path)
