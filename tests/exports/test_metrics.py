"""Metrics as promtool, Prometheus' own program, reads them; the alert rules, and the dashboard's queries."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.conftest import Bench, killing
from exports.conftest import CONFINED, DECISION, KINDS, add
from fhir_hook.exports import metrics
from support.sandbox import ROOT

RULES = ROOT / "packaging/prometheus/fhir-hook.rules.yml"
DASHBOARD = ROOT / "packaging/grafana/fhir-hook.json"
SAMPLE = re.compile(r"fhir_hook_(\w+?)(?:\{(.*)\})? (\S+)")


def promtool(*words: str | Path, input: str | None = None) -> str:
    done = subprocess.run(["promtool", *words], input=input, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def samples(text: str) -> dict[tuple[str, str], float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = SAMPLE.fullmatch(line)
            assert match, line
            found[match[1], match[2] or ""] = float(match[3])
    return found


def written(bench: Bench, *options: str | Path) -> dict[tuple[str, str], float]:
    return samples(bench("log", "metrics", *options, check=True).stdout)


def test_promtool_has_nothing_against_the_metrics(full: Bench) -> None:
    text = full("log", "metrics", check=True).stdout
    assert promtool("check", "metrics", input=text) == ""


def test_the_numbers_are_those_of_the_log(full: Bench) -> None:
    full("policy", "compile", check=True)
    count = len(full.lines())
    full("log", "checkpoint", check=True)
    add(full, [CONFINED])
    found = written(full)
    assert found["decisions_total", 'decision="confined",profile="hapi",path="native",mode="enforce"'] == 2
    assert found["decisions_total", 'decision="confined",profile="hapi",path="native",mode="complain"'] == 1
    assert found["refusals_total", 'code="FH106"'] == 2
    assert found["denials_total", 'profile="hapi",call="ptrace",action="errno"'] == 12
    assert found["outcomes_total", 'seen="kernel"'] == 1
    assert found["log_records", ""] == count + 1 == found["log_unsigned_records", ""] + count
    assert found["log_chain_breaks", ""] == 0 and found["enabled", ""] == 1 and found["containers_unconfined", ""] == 0
    assert found["log_bytes", ""] == full.file.stat().st_size
    assert found["log_checkpoint_timestamp_seconds", ""] > 1.7e9


def test_how_many_are_unconfined_is_left_out_when_nobody_could_look(full: Bench) -> None:
    assert ("containers_unconfined", "") not in written(full)
    full("policy", "compile", check=True)
    assert written(full)["containers_unconfined", ""] == 0
    assert ("containers_unconfined", "") not in written(full, "--no-scan")


def test_every_metric_is_described_and_every_description_is_of_a_metric(full: Bench) -> None:
    full("policy", "compile", check=True)
    count = len(full.lines())
    (full.sandbox.state / "forward").mkdir()
    (full.sandbox.state / "forward/journal").write_text('{"seq":3}')
    found = written(full)
    names = {name.removesuffix("_total") for name, _ in found}
    assert names == set(metrics.COUNTS) | set(metrics.GAUGES)
    assert found["delivery_waiting_records", 'to="journal"'] == count - 3


def test_a_second_run_reads_what_is_new_and_comes_to_what_a_first_one_would(full: Bench) -> None:
    for _ in range(3):
        again = written(full, "--no-scan")
        add(full, [CONFINED, DECISION | {"decision": "refused"}])
        full("log", "rotate", "--now", check=True)
    again = written(full, "--no-scan")
    shutil.rmtree(full.sandbox.state / "metrics")
    assert written(full, "--no-scan") == again
    assert again["log_segments", ""] == 4


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_killed_anywhere_the_next_run_counts_no_record_twice(full: Bench, call: str) -> None:
    expected = written(full, "--no-scan")
    for argv in killing(call, full.argv("log", "metrics", "--no-scan")):
        shutil.rmtree(full.sandbox.state / "metrics")
        killed = full.sandbox.run(argv, env={"PYTHONPATH": str(ROOT)}).returncode
        assert written(full, "--no-scan") == expected
        if killed == 0:
            return
    raise AssertionError("never ran to its end")


def test_a_log_that_was_cut_off_is_counted_anew_and_a_changed_one_shows_its_break(full: Bench) -> None:
    written(full)
    lines = full.lines()
    full.file.write_bytes(b"".join(lines[:-3]))
    assert written(full)["log_records", ""] == len(lines) - 3
    lines[2] = lines[2].replace(b"fhir", b"evil")
    full.file.write_bytes(b"".join([*lines, b"no record\n"]))
    shutil.rmtree(full.sandbox.state / "metrics")
    assert written(full)["log_chain_breaks", ""] == 2


def test_a_log_that_was_cut_off_and_grew_again_shows_a_break_from_then_on(full: Bench) -> None:
    assert written(full, "--no-scan")["log_chain_breaks", ""] == 0
    lines = full.lines()
    for cuts in (1, 2):
        full.file.write_bytes(b"".join(lines[:-3]))
        assert written(full, "--no-scan")["log_chain_breaks", ""] == cuts
        add(full, [CONFINED] * 5)
        found = written(full, "--no-scan")
        assert (found["log_chain_breaks", ""], found["log_records", ""]) == (cuts, len(lines) + 2)
    shutil.rmtree(full.sandbox.state / "metrics")
    assert written(full, "--no-scan")["log_chain_breaks", ""] == 0


@pytest.mark.parametrize("call", ["rename", "unlink"])
def test_killed_anywhere_a_cut_is_not_forgotten(full: Bench, call: str) -> None:
    written(full, "--no-scan")
    counted = {path: path.read_bytes() for path in (full.sandbox.state / "metrics").iterdir()}
    full.file.write_bytes(b"".join(full.lines()[:-3]))
    for argv in killing(call, full.argv("log", "metrics", "--no-scan")):
        for path, data in counted.items():
            path.write_bytes(data)
        killed = full.sandbox.run(argv, env={"PYTHONPATH": str(ROOT)}).returncode
        assert written(full, "--no-scan")["log_chain_breaks", ""] >= 1
        if killed == 0:
            return
    raise AssertionError("never ran to its end")


def test_attack_a_user_who_says_that_the_host_refused_denied_or_was_disabled(full: Bench) -> None:
    before = written(full, "--no-scan")
    sent = {"log": "rootless", "uid": 1000, "seq": 0}
    said = [{**each, "from": sent} for each in KINDS]
    add(full, said)
    after = written(full, "--no-scan")
    changed = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    assert changed.pop(("records_total", 'event="claimed"')) == len(said)
    assert {name for name, _ in changed} <= {
        "log_records", "log_bytes", "log_unsigned_records", "log_last_record_timestamp_seconds"}  # fmt: skip
    denial = next(each for each in KINDS if each["event"] == "denial")
    add(full, [{**denial, "owner": 1000, "profile": [{"name": "named-by-a-user"}]}])
    found = written(full, "--no-scan")
    assert found["denials_total", 'profile="other",call="ptrace",action="errno"'] == 12
    assert not [labels for _, labels in found if "named-by-a-user" in labels]


def test_every_change_of_the_hook_counts_under_its_name(host: Bench) -> None:
    whats = ("installed", "upgraded", "removed", "disabled", "enabled", "configured", "unconfigured")
    add(host, [{"event": "hook", "what": what} for what in whats])
    assert {labels for name, labels in written(host) if name == "hook_changes_total"} == {f'what="{w}"' for w in whats}


@pytest.mark.parametrize("damage", ["{", "[]", '{"format":1}', '{"format":1,"counts":[[1]]}', ""])
def test_a_damaged_count_is_made_anew(full: Bench, damage: str) -> None:
    expected = written(full, "--no-scan")
    (full.sandbox.state / "metrics/counts.json").write_text(damage)
    assert written(full, "--no-scan") == expected


def test_attack_text_of_strangers_makes_no_label(host: Bench) -> None:
    evil = 'x"} 1\nfhir_hook_enabled 0\n'
    for n in range(300):
        add(host, [{**CONFINED, "decision": evil, "mode": [evil], "path": evil, "profile": [{"name": evil}],
                    "reasons": [{"code": evil}], "findings": [{"code": evil}], "event": "decision"},
                   {"event": evil, "seen": evil}, {"event": "denial", "call": evil, "count": -1},
                   {"event": "hook", "what": evil}, {"event": "policy", "result": evil},
                   *({**CONFINED, "profile": [{"name": f"p{i}"}]} for i in range(300 if n == 0 else 0))])  # fmt: skip
        if n == 3:
            break
    text = host("log", "metrics", check=True).stdout
    assert "x\\" not in text and promtool("check", "metrics", input=text) == ""
    found = samples(text)
    assert found["enabled", ""] == 1
    assert len({labels for name, labels in found if name == "decisions_total"}) < 210


def test_the_file_is_replaced_whole_and_readable_for_the_collector(full: Bench, tmp_path: Path) -> None:
    out = tmp_path / "fhir-hook.prom"
    full("log", "metrics", "-o", out, check=True)
    first = out.stat()
    full("log", "metrics", "-o", out, check=True)
    assert out.stat().st_ino != first.st_ino and first.st_mode & 0o777 == 0o644
    assert list(tmp_path.glob("*prom*")) == [out]


def test_without_a_log_there_are_metrics_all_the_same(host: Bench) -> None:
    found = written(host)
    assert found["log_records", ""] == 0
    assert found["decisions_total", 'decision="refused",profile="",path="",mode=""'] == 0


def test_the_alert_rules_are_rules_and_each_fires_when_it_should(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    shutil.copy(Path(__file__).with_name("rules.test.yml"), tmp_path)
    promtool("check", "rules", tmp_path / RULES.name)
    promtool("test", "rules", tmp_path / "rules.test.yml")
    tested = (tmp_path / "rules.test.yml").read_text()
    for alert in re.findall(r"alert: (\w+)", RULES.read_text()):
        assert tested.count(alert) >= 2


def queries() -> Iterator[str]:
    document = json.loads(DASHBOARD.read_text())
    for panel in document["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def known() -> set[str]:
    return {f"fhir_hook_{name}_total" for name in metrics.COUNTS} | {f"fhir_hook_{name}" for name in metrics.GAUGES}


def test_the_rules_and_the_dashboard_ask_for_metrics_and_labels_that_there_are(full: Bench) -> None:
    for text in [*queries(), *re.findall(r"expr: (.*)", RULES.read_text())]:
        asked = set(re.findall(r"fhir_hook_\w+", text))
        assert asked <= known(), text
        labels = {name for each in asked for name in metrics.COUNTS.get(_count(each), ("", ("to", "version")))[1]}
        used = {word for group in re.findall(r"by \(([^)]*)\)", text) for word in re.split(r",\s*", group)}
        used |= set(re.findall(r"(\w+)[!=]=?~?\"", text))
        assert not asked or used <= labels | {"instance"}, text
    shown = {name for text in queries() for name in re.findall(r"fhir_hook_\w+", text)}
    assert known() - shown == {"fhir_hook_records_total"}


def _count(name: str) -> str:
    return name.removeprefix("fhir_hook_").removesuffix("_total")


def test_promtool_reads_every_query_of_the_dashboard(tmp_path: Path) -> None:
    rules: list[dict[str, Any]] = []
    for number, text in enumerate(queries()):
        expression = text.replace("$__rate_interval", "5m").replace("$instance", ".*")
        rules.append({"record": f"query:{number}", "expr": expression})
    assert len(rules) > 15
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # YAML is a superset of JSON
    promtool("check", "rules", path)
