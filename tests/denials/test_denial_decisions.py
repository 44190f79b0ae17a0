"""Which decision a denial belongs to: the last one of that container, by its own user, however far back."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fhir_hook.denials import decisions
from fhir_hook.denials.counting import Place
from fhir_hook.store import segments

ID, OTHER = "a" * 64, "b" * 64


class Log:
    """A log that is written here."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.seq = 0
        self._prev = "0" * 64

    def append(self, **fields: Any) -> int:
        """Append a record; returns its seq."""
        record = {"seq": self.seq, "prev": self._prev, **{"user": {"uid": 0}, **fields}}
        line = (json.dumps(record, separators=(",", ":")) + "\n").encode()
        with (self.where / "decisions.jsonl").open("ab") as file:
            file.write(line)
        self._prev, self.seq = sha256(line).hexdigest(), self.seq + 1
        return self.seq - 1

    def decide(self, id: str = ID, name: str = "fhir", **more: Any) -> int:
        """Append a decision."""
        return self.append(event="decision", decision="confined", container={"id": id, "name": name}, **more)

    def fill(self, size: int) -> None:
        """Append records of other containers, about so many bytes."""
        for number in range(size // 30_000):
            self.append(event="decision", container={"id": f"{number:064x}", "name": "x" * 30_000})

    def rotate(self) -> None:
        """Close the file."""
        path = self.where / "decisions.jsonl"
        path.rename(self.where / segments.name_of(json.loads(path.open().readline())["seq"]))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_the_last_decision_counts_and_later_ones_are_followed_across_a_rotation(log: Log) -> None:
    log.decide()
    newest = log.decide(mode="complain", profile=[{"name": "hapi"}], image={"id": "i", "names": ["n", "m"]})
    found = decisions.Decisions(log.where)
    decided = found.of(Place(ID, 0))
    assert decided is not None and (decided.seq, decided.mode, decided.name) == (newest, "complain", "fhir")
    assert decided.about["image"] == {"id": "i", "names": ["n"]} and decided.confined
    assert found.of(Place(OTHER, 0)) is None
    log.decide(OTHER)
    log.rotate()
    newest = log.decide()
    log.append(event="outcome", seen="config", container={"id": ID}, decided_by=newest)
    assert [in_force.seq for in_force in found.follow()] == [newest]
    assert found.follow() == []
    assert all(found.has(Place(id, 0)) for id in (ID, OTHER))


@pytest.mark.parametrize("rotated", [False, True])
def test_a_decision_is_found_however_far_back(log: Log, rotated: bool) -> None:
    seq = log.decide()
    log.append(event="watch", what="unobservable", owner=0, container={"id": ID})
    log.fill(decisions.RECENT // 2)
    if rotated:
        log.rotate()
    log.fill(decisions.RECENT)
    found = decisions.Decisions(log.where)
    assert not found.has(Place(ID, 0))
    decided = found.of(Place(ID, 0))
    assert decided is not None and (decided.seq, decided.said) == (seq, True)


def test_what_was_said_of_an_earlier_start_is_said_again(log: Log) -> None:
    log.decide()
    log.append(event="watch", what="unobservable", owner=0, container={"id": ID})
    log.decide()
    decided = decisions.Decisions(log.where).of(Place(ID, 0))
    assert decided is not None and not decided.said


def test_attack_a_users_record_about_roots_container_is_not_believed(log: Log) -> None:
    seq = log.decide()
    log.decide(user={"uid": 1000}, owner=0, name="mine")
    found = decisions.Decisions(log.where)
    root, user = found.of(Place(ID, 0)), found.of(Place(ID, 1000))
    assert root is not None and user is not None
    assert (root.seq, root.name, user.name) == (seq, "fhir", "mine")


def test_attack_names_and_lines_that_look_like_a_decision(log: Log) -> None:
    seq = log.decide()
    log.decide(OTHER, name=f'","id":"{ID}"}}}}')
    log.append(event="decision", container=[{"id": ID}])
    log.append(event="decision", container={"id": ID}, user="root")
    with (log.where / "decisions.jsonl").open("ab") as file:
        file.write(f'"container":{{"id":"{ID}"\n'.encode() + b"[" * 100_000 + b'"container":\n')
    decided = decisions.Decisions(log.where).of(Place(ID, 0))
    assert decided is not None and decided.seq == seq
