"""Recordings as documents: shipped ones, reading, writing, merging."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fhir_hook.recording.recording import Recording, RecordingError, Seen, available, dumps, load, merge

SHIPPED = Path(__file__).resolve().parents[2] / "profiles"
RECORDINGS = available(SHIPPED)
ABOUT = {"server": "s", "method": "m", "date": "2026-01-02", "architecture": "x86_64"}


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_shipped_recording_is_valid_and_is_written_back_as_it_is(name: str) -> None:
    recording = load(RECORDINGS[name], SHIPPED)
    assert recording.name == name and recording.complete
    assert {"start", "serve", "stop"} <= set(recording.phases)
    assert dumps(recording.document()) == RECORDINGS[name].read_text()
    assert set(recording.arguments) <= recording.calls


def test_profiles_name_recordings_that_exist() -> None:
    for path in SHIPPED.glob("*.json"):
        for evidence in json.loads(path.read_text()).get("provenance", {}).get("recordings", ()):
            assert evidence.get("recording", next(iter(RECORDINGS))) in RECORDINGS, path.name


def recording(name: str, **more: object) -> Recording:
    """A small one."""
    fields: dict = {"about": ABOUT, "phases": {"start": frozenset({"read"})}, "lost": {"events": 0}}
    return Recording(name, **{**fields, **more})


def test_merging_unites_calls_sums_losses_and_joins_workloads() -> None:
    socket = Seen("AF_INET", ((0, 2),), ("start",))
    one = recording("one", about={**ABOUT, "workload": "a"}, arguments={"socket": (socket,)})
    two = recording(
        "two",
        about={**ABOUT, "workload": "b", "date": "2026-03-04"},
        phases={"start": frozenset({"write"}), "serve": frozenset({"read"})},
        arguments={"socket": (Seen("AF_INET", ((0, 2),), ("serve",)), Seen("AF_UNIX", ((0, 1),), ("serve",)))},
        lost={"events": 3},
        foreign={"i386": 1},
    )
    both = merge([one, two], "both")
    assert both.phases == {"start": {"read", "write"}, "serve": {"read"}}
    assert both.arguments["socket"] == (
        Seen("AF_INET", ((0, 2),), ("start", "serve")),
        Seen("AF_UNIX", ((0, 1),), ("serve",)),
    )
    assert both.lost == {"events": 3} and not both.complete
    assert both.about["workload"] == "a; b" and both.about["date"] == "2026-03-04"
    assert both.foreign == {"i386": 1}
    assert both.phases_of("read") == ("start", "serve")


def test_recordings_of_different_architectures_are_not_merged() -> None:
    with pytest.raises(RecordingError, match="different architectures"):
        merge([recording("a"), recording("b", about={**ABOUT, "architecture": "aarch64"})], "c")
    with pytest.raises(RecordingError, match="nothing to merge"):
        merge([], "c")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"phases": {"sleep": []}}, "#/phases"),
        ({"phases": {"start": ["rm -rf"]}}, "#/phases/start/0"),
        ({"lost": {}}, "#/lost"),
        ({"more": 1}, "'more'"),
        ({"architecture": "vax"}, "#/architecture"),
        ({"arguments": {"socket": [{"text": "x", "values": {"7": 1}, "phases": []}]}}, "#/arguments/socket/0/values"),
    ],
)
def test_a_document_of_another_shape_is_one_line_with_its_place(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**recording("x").document(), **change}))
    with pytest.raises(RecordingError) as error:
        load(path, SHIPPED)
    assert said in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_no_json_or_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    for name in ("x.json", "absent.json"):
        with pytest.raises(RecordingError, match=name):
            load(tmp_path / name, SHIPPED)
