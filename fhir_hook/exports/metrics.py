"""Metrics for Prometheus, in its text format (prometheus.io/docs/instrumenting/exposition_formats), for the textfile
collector of node_exporter."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from fhir_hook.audit import keys
from fhir_hook.audit.places import Places
from fhir_hook.core import paths
from fhir_hook.core.version import VERSION
from fhir_hook.exports.counting import Counts
from fhir_hook.store import files, segments

COUNTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "records": ("Records in the log, by what they are about.", ("event",)),
    "decisions": ("Decisions about containers.", ("decision", "profile", "path", "mode")),
    "refusals": ("Containers that were not started, by reason.", ("code",)),
    "findings": ("Findings on decisions.", ("code",)),
    "outcomes": ("Profiles seen in force, by what was looked at.", ("seen",)),
    "denials": (
        "Calls denied to running containers, where that can be observed; with the action log, let through.",
        ("profile", "call", "action"),
    ),
    "policy_changes": ("Policies that were compiled or refused.", ("result",)),
    "hook_changes": ("How often the hook was installed, removed, disabled, enabled.", ("what",)),
}
# Always there, so that an alert sees the first of them as a rise and not as a series that begins.
_ALWAYS = [("decisions", decision, "", "", "") for decision in ("refused", "undetermined")]
GAUGES = {
    "info": "The version that made these metrics.",
    "enabled": "1 unless the hook was disabled by 'fhir-hook host disable'.",
    "log_records": "Records in the log, also those in segments that were removed.",
    "log_bytes": "Size of the log's files.",
    "log_segments": "Files of the log.",
    "log_last_record_timestamp_seconds": "Time of the newest record.",
    "log_chain_breaks": "Places where a record does not follow the one before, and how often the log was cut off.",
    "log_checkpoint_timestamp_seconds": "When the newest checkpoint was signed; 0 without one.",
    "log_unsigned_records": "Records behind the newest checkpoint, which are only chained.",
    "delivery_waiting_records": "Records that were not delivered yet, by receiver.",
    "containers_unconfined": "Running containers that are FHIR and lack the confinement of the policy.",
}


@dataclasses.dataclass(frozen=True)
class Sample:
    """One value: `name` without prefix, labels, and whether it is a count."""

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


def counts(found: Counts) -> list[Sample]:
    """The counts of a log."""
    every = dict.fromkeys(_ALWAYS, 0) | dict(found.counts)
    samples = []
    for (name, *values), number in sorted(every.items()):
        labels = tuple(zip(COUNTS[name][1], values, strict=True))
        samples.append(Sample(f"{name}_total", number, labels))
    return samples


def log_state(places: Places, found: Counts) -> list[Sample]:
    """Size, chain and signature of the log; raises OSError."""
    with segments.snapshot(places.log) as parts:
        size, number = sum(part.size + part.torn for part in parts), len(parts)
    signed, when = _signed(places)
    samples = [
        Sample("log_records", found.records),
        Sample("log_bytes", size),
        Sample("log_segments", number),
        Sample("log_last_record_timestamp_seconds", found.last),
        Sample("log_chain_breaks", found.broken + found.cuts),
        Sample("log_checkpoint_timestamp_seconds", when),
        Sample("log_unsigned_records", max(0, found.records - signed)),
        Sample("enabled", 0 if Path(paths.DISABLED).exists() else 1),
        Sample("info", 1, (("version", VERSION),)),
    ]
    return samples + [_waiting(path, found.records) for path in _cursors(places)]


def _signed(places: Places) -> tuple[int, float]:
    """The size of the newest checkpoint that is verified, and when it was written."""
    try:
        kept = keys.Keys(places.keys)
        newest = kept.signed()
        return (newest.checkpoint.size, places.checkpoint.stat().st_mtime) if newest else (0, 0.0)
    except (keys.KeyProblem, FileNotFoundError):
        return 0, 0.0


def _cursors(places: Places) -> list[Path]:
    try:
        found = sorted((places.tree.parent / "forward").iterdir())
    except FileNotFoundError:
        return []
    return [path for path in found if "." not in path.name and path.is_file()]


def _waiting(path: Path, records: int) -> Sample:
    try:
        seq = int(json.loads(files.read(str(path), 1 << 16))["seq"])
    except (OSError, ValueError, KeyError, TypeError, files.FileError):
        seq = 0
    return Sample("delivery_waiting_records", max(0, records - seq), (("to", path.name),))


def text(samples: Iterable[Sample]) -> str:
    """The samples in the text format, those of one metric together."""
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    lines = []
    for name, some in by_name.items():
        count = name.removesuffix("_total") if name.endswith("_total") else ""
        help = COUNTS[count][0] if count else GAUGES[name]
        lines += [f"# HELP fhir_hook_{name} {help}", f"# TYPE fhir_hook_{name} {'counter' if count else 'gauge'}"]
        lines += [f"fhir_hook_{name}{_labels(sample)} {_number(sample.value)}" for sample in some]
    return "\n".join(lines) + "\n"


def _labels(sample: Sample) -> str:
    pairs = [f'{name}="{_escaped(value)}"' for name, value in sample.labels]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
