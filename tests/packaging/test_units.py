"""The systemd units do their work under their own restrictions (systemd itself can't run in the private host)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from host.machine import ROOT, Host, Result

UNITS = ROOT / "packaging/systemd"
POLICY, LOG = UNITS / "fhir-hook-policy.service", UNITS / "fhir-hook-log.service"
SETTING = Path("/etc/fhir-hook/config.d/70-unit.toml")


def started(host: Host, unit: Path = POLICY) -> list[Result]:
    """Each ExecStart of the unit in turn, up to the first that fails and may not (systemd.service(5): not `-`)."""
    done: list[Result] = []
    for line in re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.M):
        sandbox = ["unshare", "-m", "-n", "/usr/bin/python3", ROOT / "tests/packaging/sandbox.py", unit]
        done.append(host.run([*sandbox, *line.removeprefix("-").split()]))
        if done[-1].returncode and not line.startswith("-"):
            break
    return done


def test_an_edit_is_compiled_under_the_units_restrictions(host: Host) -> None:
    SETTING.write_text('undetermined = "refuse"\n')
    try:
        done = started(host)
        assert [d.returncode for d in done] == [0, 0], done[-1].stderr
        assert "is in force" in done[1].stdout
        assert "undetermined = refuse" in host.run(["fhir-hook", "policy", "show"]).stdout
    finally:
        SETTING.unlink()
        assert [d.returncode for d in started(host)] == [0, 0]


def test_a_wrong_edit_fails_the_unit_names_it_on_stderr_and_in_the_log_and_keeps_the_policy(host: Host) -> None:
    before = host.run(["fhir-hook", "policy", "show"]).stdout.splitlines()[0]
    SETTING.write_text('undetermined = "maybe"\n')
    try:
        done = started(host)
        assert done[-1].returncode == 3 and SETTING.name in done[-1].stderr
        assert host.run(["fhir-hook", "policy", "show"]).stdout.splitlines()[0] == before
        assert [r for r in host.records() if r["event"] == "policy"][-1]["result"] == "refused"
        assert SETTING.name in host.run(["fhir-hook", "doctor"]).stdout
    finally:
        SETTING.unlink()
        assert [d.returncode for d in started(host)] == [0, 0]


def test_a_drop_in_that_is_gone_is_made_again_under_the_units_restrictions(host: Host) -> None:
    dropin = Path("/etc/containers/containers.conf.d/50-fhir-hook.conf")
    text = dropin.read_text()
    dropin.unlink()
    assert [d.returncode for d in started(host)] == [0, 0]
    assert dropin.read_text() == text


def test_the_log_is_signed_under_the_units_restrictions_with_a_key_that_is_made_once(host: Host) -> None:
    state = [Path("/var/lib/fhir-hook", name) for name in ("keys", "tree")]
    assert not [path for path in state if path.exists()], "another test left them"
    try:
        first = started(host, LOG)
        assert [d.returncode for d in first] == [0, 0], first[-1].stderr
        key = host.run(["fhir-hook", "log", "key", "show"]).stdout
        host.run(["fhir-hook", "host", "event", "enabled", "--reason", "a record more"])
        assert [d.returncode for d in started(host, LOG)] == [0, 0]
        assert host.run(["fhir-hook", "log", "key", "show"]).stdout == key
        assert host.run(["fhir-hook", "log", "verify"]).returncode == 0
        shutil.rmtree(state[0])
        lost = started(host, LOG)[-1]
        assert lost.returncode == 3 and not state[0].exists(), "a log that was signed gets no key without a person"
    finally:
        for path in state:
            shutil.rmtree(path, ignore_errors=True)
