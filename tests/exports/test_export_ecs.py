"""Documents against what the Elastic Common Schema 8.11 says of the fields that are used."""

from __future__ import annotations

import json
from typing import Any

import pytest

from audit.conftest import Bench
from exports.conftest import CONFINED, KINDS, add
from fhir_hook.exports import ecs, fhir

# elastic.co/guide/en/ecs/8.11: the allowed values, and the types of event that each category expects
KIND = {"alert", "asset", "enrichment", "event", "metric", "state", "pipeline_error", "signal"}
TYPES = {
    "process": {"access", "change", "end", "info", "start"},
    "configuration": {"access", "change", "creation", "deletion", "info"},
    "intrusion_detection": {"allowed", "denied", "info"},
}
# field -> type: every field that may occur outside of fhir_hook, which is ours
FIELDS: dict[str, type | tuple[type, ...]] = {
    "@timestamp": str, "message": str, "ecs.version": str, "event.kind": str, "event.category": list,
    "event.type": list, "event.outcome": str, "event.severity": int, "event.id": str, "event.module": str,
    "event.dataset": str, "event.provider": str, "event.action": str, "event.code": str, "event.reason": str,
    "event.sequence": int, "event.duration": int, "container.id": str, "container.name": str,
    "container.image.name": str, "container.image.tag": list, "container.image.hash.all": list, "host.hostname": str,
    "host.name": str, "host.boot.id": str, "user.id": str, "rule.name": str, "rule.version": str, "rule.uuid": str,
    "rule.ruleset": str, "observer.product": str, "observer.type": str, "observer.version": str,
}  # fmt: skip


def exported(bench: Bench) -> list[dict[str, Any]]:
    done = bench("log", "export", "--format", "ecs", check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def flat(value: dict[str, Any], before: str = "") -> dict[str, Any]:
    found = {}
    for name, each in value.items():
        if isinstance(each, dict):
            found |= flat(each, f"{before}{name}.")
        else:
            found[before + name] = each
    return found


def test_every_field_is_one_of_the_schemas_with_its_type_or_below_our_own_name(full: Bench) -> None:
    documents = exported(full)
    assert len(documents) == len(KINDS) + 1
    seen = set()
    for document in documents:
        for name, value in flat(document).items():
            if not name.startswith("fhir_hook."):
                seen.add(name)
                assert isinstance(value, FIELDS[name]) and value != [] and value != "", name
    assert seen == set(FIELDS)


def test_kinds_categories_types_and_outcomes_go_together_as_the_schema_says(full: Bench) -> None:
    for document in exported(full):
        event = document["event"]
        assert event["kind"] in KIND and event["outcome"] in ("success", "failure", "unknown")
        allowed = {type for category in event["category"] for type in TYPES[category]}
        assert set(event["type"]) <= allowed, event


def test_a_confined_container_is_told_as_it_was(full: Bench) -> None:
    document = exported(full)[0]
    assert document["container"] == {
        "id": "65" * 32,
        "name": "fhir",
        "image": {"name": "localhost/hapi", "tag": ["plain"], "hash": {"all": ["sha256:" + "ab" * 32]}},
    }
    assert document["rule"] == {"name": "hapi", "version": "1.0.0", "uuid": "cd" * 32, "ruleset": "ef" * 32}
    assert document["event"]["duration"] == 5_210_000 and document["event"]["sequence"] == 0
    assert document["fhir_hook"]["calls_allowed"] == 114 and document["fhir_hook"]["log"] == "test.example/log"


def test_attack_a_user_who_says_that_the_host_refused_or_was_disabled_is_no_alert() -> None:
    for record in KINDS:
        claim = {**record, "time": "2026-11-21T10:00:00Z", "from": {"log": "rootless", "uid": 1000, "seq": 0}}
        found = ecs.document(claim, "0" * 64)
        assert found["event"]["kind"] == "event" and found["event"]["severity"] <= 2
        assert found["message"].startswith("user 1000 says: ") and found["fhir_hook"]["sender"] == 1000
        resource = fhir.audit_event(claim, "0" * 64)
        assert resource["type"]["code"] != "110113" and resource["outcome"] in ("0", "4")
        assert resource["outcomeDesc"].startswith("user 1000 says: ")


def test_attack_a_registry_with_a_port_is_not_taken_for_a_tag() -> None:
    record = {**CONFINED, "time": "2026-11-21T10:00:00Z", "image": {"names": ["registry.example:5000/fhir/hapi"]}}
    assert ecs.document(record, "0" * 64)["container"]["image"] == {"name": "registry.example:5000/fhir/hapi"}


@pytest.mark.parametrize("text", ["a\x1b[31m", "a\nb", "\u2028", "\ud800", '"}{"'])
def test_attack_text_of_strangers_stays_in_its_field_and_on_its_line(host: Bench, text: str) -> None:
    hostile = {"container": {"id": text, "name": text}, "reasons": [{"code": text, "text": text}], "decision": text}
    add(host, [{**CONFINED, **hostile, "image": {"names": [text], "digest": text}}])
    document = exported(host)[0]
    for value in flat(document).values():
        for each in value if isinstance(value, list) else [value]:
            assert not isinstance(each, str) or each.isprintable()
