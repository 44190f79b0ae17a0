"""AuditEvent resources against the models of fhir.resources and HL7's own definitions, codes and examples of R4."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle

from audit.conftest import Bench
from exports.conftest import CONFINED, DECISION, KINDS, Definitions, add
from fhir_hook.exports import fhir

HOSTILE = ["a\x1b[31mred", "line\nbreak", "\u2028\u2029", "\ud800lone", "x" * 500, " ", "\x00", "<script>", '"}']
SYSTEMS = ("dicom-dcim", "audit-entity-type", "object-role", "audit-source-type", "audit-event-outcome",
           "audit-event-action")  # fmt: skip


def exported(bench: Bench, *options: str | Path, code: int = 0) -> list[dict[str, Any]]:
    done = bench("log", "export", "--format", "fhir-ndjson", *options)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def codings(value: Any) -> list[tuple[str, str, str]]:
    """Every Coding in a resource."""
    if isinstance(value, list):
        return [each for item in value for each in codings(item)]
    if not isinstance(value, dict):
        return []
    own = [(value["system"], value["code"], value["display"])] if {"system", "code"} <= set(value) else []
    return own + [each for item in value.values() for each in codings(item)]


def test_every_kind_of_record_becomes_a_resource_that_the_r4_models_accept(full: Bench) -> None:
    events = exported(full)
    assert len(events) == len(KINDS) + 1  # the key's own record
    for event in events:
        AuditEvent.model_validate(event)
        assert sum(agent["requestor"] for agent in event["agent"]) == 1


def test_a_resource_is_named_by_the_digest_of_its_line(full: Bench) -> None:
    assert [event["id"] for event in exported(full)] == [sha256(line).hexdigest() for line in full.lines()]


def test_every_code_is_one_that_hl7_lists_with_this_display(full: Bench, definitions: Definitions) -> None:
    systems = {}
    for name in SYSTEMS:
        system = definitions.read(f"CodeSystem-{name}.json")
        systems[system["url"]] = {concept["code"]: concept.get("display") for concept in system["concept"]}
    events = exported(full)
    used = {coding for event in events for coding in codings(event)}
    assert len(used) > 8
    for system, code, display in used:
        assert systems[system][code] == display
    assert {event["outcome"] for event in events} <= set(systems["http://hl7.org/fhir/audit-event-outcome"])
    assert {event["action"] for event in events} <= set(systems["http://hl7.org/fhir/audit-event-action"])


def test_types_and_subtypes_are_of_the_value_sets_that_the_definition_binds(
    full: Bench, definitions: Definitions
) -> None:
    def members(name: str) -> set[tuple[str, str]]:
        include = definitions.read(f"ValueSet-{name}.json")["compose"]["include"]
        return {(each["system"], concept["code"]) for each in include for concept in each.get("concept", [])}

    types, subtypes = members("audit-event-type"), members("audit-event-sub-type")
    for event in exported(full):
        assert (event["type"]["system"], event["type"]["code"]) in types
        assert {(each["system"], each["code"]) for each in event.get("subtype", [])} <= subtypes


def misplaced(value: dict[str, Any], path: str, elements: dict[str, Any]) -> list[str]:
    """Elements that the definition does not have there, has in another number, or misses; data types are passed by."""
    given = {f"{path}.value[x]" if name.startswith("value") else f"{path}.{name}": each for name, each in value.items()}
    children = {name: each for name, each in elements.items() if name.rpartition(".")[0] == path}
    wrong = sorted(given.keys() - children.keys())
    wrong += [name for name, each in children.items() if each["min"] and name not in given]
    for name, each in given.items():
        definition = children.get(name, {"max": "1", "type": [{"code": ""}]})
        if isinstance(each, list) != (definition["max"] == "*"):
            wrong.append(name)
        elif definition["type"][0]["code"] == "BackboneElement":
            for item in each if isinstance(each, list) else [each]:
                wrong += misplaced(item, name, elements)
    return wrong


def test_every_element_is_in_hl7s_structure_definition_as_often_as_it_may_be(
    full: Bench, definitions: Definitions
) -> None:
    snapshot = definitions.read("StructureDefinition-AuditEvent.json")["snapshot"]["element"]
    elements = {each["path"]: each for each in snapshot}
    for event in exported(full):
        assert event.pop("resourceType") == "AuditEvent"
        assert misplaced(event, "AuditEvent", elements) == []
    assert misplaced({"type": {}, "agent": [{"x": 1}]}, "AuditEvent", elements) == [
        "AuditEvent.recorded", "AuditEvent.source", "AuditEvent.agent.x", "AuditEvent.agent.requestor"
    ]  # fmt: skip


def test_hl7s_own_examples_use_no_element_that_this_test_would_not_know(definitions: Definitions) -> None:
    names = definitions.names("AuditEvent-")
    assert len(names) == 9
    for name in names:
        AuditEvent.model_validate(definitions.read(name))


@pytest.mark.parametrize(
    ("record", "type", "subtype", "outcome"),
    [
        ({"event": "outcome", "seen": "kernel"}, "110100", "110120", "0"),
        ({"event": "decision", "decision": "refused"}, "110113", "110132", "8"),
        ({"event": "settings"}, "110113", "110129", "0"),
        ({"event": "denial", "call": "ptrace"}, "110113", "110132", "4"),
        ({"event": "policy", "result": "refused"}, "110113", "110129", "4"),
    ],
)
def test_a_kind_of_record_has_the_codes_that_the_documentation_lists(
    record: dict[str, Any], type: str, subtype: str, outcome: str
) -> None:
    event = fhir.audit_event({"time": "2026-11-21T10:00:00.000001Z", **record}, "0" * 64)
    assert (event["type"]["code"], event["subtype"][0]["code"], event["outcome"]) == (type, subtype, outcome)
    assert event["recorded"] == "2026-11-21T10:00:00.000001Z"


def test_a_security_alert_that_failed_describes_itself_in_a_detail(full: Bench) -> None:
    alerts = [event for event in exported(full) if event["type"]["code"] == "110113" and event["outcome"] != "0"]
    assert alerts
    for event in alerts:
        assert event["entity"][0]["detail"][0]["type"] == "Alert Description"


def test_a_bundle_is_a_batch_that_names_each_resource_so_that_sending_it_again_makes_none_twice(full: Bench) -> None:
    document = json.loads(full("log", "export", "--format", "fhir-bundle", check=True).stdout)
    Bundle.model_validate(document)
    assert document["type"] == "batch" and len(document["entry"]) == len(KINDS) + 1
    for entry in document["entry"]:
        assert entry["request"] == {"method": "PUT", "url": f"AuditEvent/{entry['resource']['id']}"}


def test_an_empty_log_gives_an_empty_bundle_and_no_lines(host: Bench) -> None:
    done = host("log", "export", "--format", "fhir-bundle")
    assert done.returncode == 0 and "entry" not in json.loads(done.stdout)
    assert "nothing was decided yet" in done.stderr
    assert exported(host) == []


def test_only_what_is_selected_is_exported(full: Bench) -> None:
    assert {event["outcome"] for event in exported(full, "--decision", "refused")} == {"8"}
    assert exported(full, "--container", "another") == []


def test_attack_text_of_strangers_stays_text_that_fhir_allows(host: Bench) -> None:
    add(host, [{**CONFINED, "container": {"id": name, "name": name}, "image": {"names": [name], "digest": name},
                "profile": [{"name": name, "version": name}], "reasons": [{"code": name, "text": name}]}
               for name in HOSTILE])  # fmt: skip
    for event in exported(host):
        AuditEvent.model_validate(event)
        for text in strings(event):
            assert text and text == text.strip() and text.isprintable() and len(text) <= 1000, text
            text.encode("utf-8")


def strings(value: Any) -> list[str]:
    if isinstance(value, (dict, list)):
        return [text for each in (value.values() if isinstance(value, dict) else value) for text in strings(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("wrong", [None, 7, [], {}, "x", [7], [[]], {"id": 7, "name": []}, True])
def test_attack_members_of_the_wrong_type_make_no_resource_that_is_wrong(wrong: Any) -> None:
    for member in CONFINED:
        record = {**CONFINED, "time": "2026-11-21T10:00:00Z", "user": wrong, "host": wrong, member: wrong, "seq": wrong}
        AuditEvent.model_validate(fhir.audit_event(record, "0" * 64, "test"))


def test_a_record_without_a_time_is_left_out_and_named_and_the_rest_is_exported(host: Bench) -> None:
    add(host, [DECISION])
    line = json.dumps({**DECISION, "time": "never", "seq": 1, "prev": sha256(host.lines()[0]).hexdigest()})
    host.file.write_bytes(host.file.read_bytes() + line.encode() + b"\n")
    done = host("log", "export", "--format", "fhir-ndjson")
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 1
    assert re.search(r"SHA-256 [0-9a-f]{64} is left out", done.stderr)


def test_a_changed_log_is_exported_and_said_to_be_changed(full: Bench) -> None:
    full.file.write_bytes(full.file.read_bytes().replace(b'"name":"fhir"', b'"name":"evil"', 1))
    done = full("log", "export", "--format", "ecs")
    assert done.returncode == 1 and "not the digest of the line before" in done.stderr
    assert len(done.stdout.splitlines()) == len(KINDS) + 1


def test_a_file_is_there_whole_or_not_at_all(full: Bench, tmp_path: Path) -> None:
    out = tmp_path / "out.ndjson"
    full("log", "export", "--format", "fhir-ndjson", "-o", out, check=True)
    before = out.read_bytes()
    assert before.count(b"\n") == len(KINDS) + 1 and out.stat().st_mode & 0o777 == 0o640
    done = full("log", "export", "--format", "fhir-ndjson", "-o", tmp_path / "missing" / "out")
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 1
    assert out.read_bytes() == before and [path.name for path in tmp_path.glob("*out*")] == ["out.ndjson"]
