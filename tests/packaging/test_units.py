"""The systemd units do their work under their own restrictions (under systemd itself: install/)."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path

from host.machine import ROOT, Host, Result

UNITS = ROOT / "packaging/systemd"
POLICY, LOG = UNITS / "fhir-hook-policy.service", UNITS / "fhir-hook-log.service"
METRICS, DELIVER = UNITS / "fhir-hook-metrics.service", UNITS / "fhir-hook-deliver.service"
SETTING = Path("/etc/fhir-hook/config.d/70-unit.toml")


def started(host: Host, unit: Path = POLICY, **variables: str) -> list[Result]:
    """Each ExecStart of the unit in turn, up to the first that fails and may not (systemd.service(5): not `-`).

    variables: what its EnvironmentFile sets; $NAME becomes several words, ${NAME} one.
    """
    done: list[Result] = []
    network = ["-n"] if "PrivateNetwork=yes" in unit.read_text() else []
    for line in re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.M):
        sandbox = ["unshare", "-m", *network, "/usr/bin/python3", ROOT / "tests/packaging/sandbox.py", unit]
        words: list[str] = []
        for word in line.removeprefix("-").split():
            value = variables.get(word.strip("${}"), "")
            words += [value] if word.startswith("${") else value.split() if word[0] == "$" else [word]
        done.append(host.run([*sandbox, *words]))
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


def test_runtimes_are_asked_for_their_versions_under_the_units_restrictions(host: Host) -> None:
    SETTING.write_text('[log]\ndenials = "all"\n')
    try:
        done = started(host)
        assert [d.returncode for d in done] == [0, 0], done[-1].stderr
        assert "(runc version 1.1" in done[-1].stderr and "crun" not in done[-1].stderr, done[-1].stderr
    finally:
        SETTING.unlink()
        assert [d.returncode for d in started(host)] == [0, 0]


def test_metrics_are_written_for_the_node_exporter_under_the_units_restrictions(host: Host) -> None:
    folder = Path("/var/lib/prometheus/node-exporter")
    there = folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "fhir-hook.prom"
    try:
        (done,) = started(host, METRICS, FHIR_HOOK_METRICS=str(output))
        assert done.returncode == 0, done.stderr
        assert "fhir_hook_records_total" in output.read_text() and output.stat().st_mode & 0o777 == 0o644
        (done,) = started(host, METRICS, FHIR_HOOK_METRICS="/etc/fhir-hook/elsewhere.prom")
        assert done.returncode == 3 and len(done.stderr.splitlines()) == 1, done.stderr
    finally:
        output.unlink(missing_ok=True)
        shutil.rmtree("/var/lib/fhir-hook/metrics", ignore_errors=True)
        if not there:
            shutil.rmtree(folder.parent)


def test_delivery_reaches_the_network_under_the_units_restrictions_and_the_doctor_says_what_it_met(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/fhir"
    try:
        (done,) = started(host, DELIVER, FHIR_HOOK_DELIVER=f"--to {address}")
        assert done.returncode == 3 and "Connection refused" in done.stderr, done.stderr
        assert f"fhir-hook log deliver --to {address}" in host.run(["fhir-hook", "doctor"]).stdout
    finally:
        shutil.rmtree("/var/lib/fhir-hook/forward", ignore_errors=True)


def test_what_is_off_until_it_is_configured_is_not_started_by_the_packages() -> None:
    for unit in (METRICS, DELIVER):
        condition = f"ConditionPathExists=/etc/default/{unit.stem}"
        assert condition in unit.read_text() and condition in unit.with_suffix(".timer").read_text()
    rules = (ROOT / "packaging/debian/rules").read_text()
    assert "--no-enable --no-start --no-stop-on-upgrade fhir-hook-metrics.timer fhir-hook-deliver.timer" in rules
