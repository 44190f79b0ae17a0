"""Counting denials: what is told when, and that nothing makes it many. Pure."""

from __future__ import annotations

import pytest

from fhir_hook.core import cgroup
from fhir_hook.denials.counting import OTHERS, UNMAPPED, Kind, Limits, Place, Tally
from fhir_hook.denials.records import denial

ID, OTHER = "a" * 64, "b" * 64
LIMITS = Limits(kinds=4, places=8, settle=2, every=600, per_place=10, known=20, strangers=5)
KIND = Kind("keyctl", "log", "java", "/opt/java")


def told(tally: Tally, now: float, known: bool = True) -> list[tuple[Place, Kind, int]]:
    """Tell what is due; returns it."""
    found = []
    for place, kind, count in tally.due(now, lambda _: known):
        found.append((place, kind, count.count))
        tally.tell(place, count, now, known)
    return found


def test_a_kind_is_told_soon_then_rarely_and_only_while_it_grows() -> None:
    tally, place = Tally(LIMITS), Place(ID, 0)
    for second in range(1000):
        tally.add(place, KIND, second, "cgroup", second)
        tally.add(place, KIND, second, "cgroup", second)
        found = told(tally, second)
        expected = {2: 6, 602: 1200}
        assert found == ([(place, KIND, expected[second])] if second in expected else [])
    assert [count.count for _, _, count in tally.untold()] == [2 * 397]
    told(tally, 1300)
    assert told(tally, 5000) == [] and tally.untold() == []


def test_counts_first_and_last_of_the_records_add_up_to_all_that_was_seen() -> None:
    tally, place = Tally(LIMITS), Place(ID, 0)
    spans = []
    for second in range(3000):
        tally.add(place, KIND, second, "cgroup", second)
        for _, _, count in tally.due(second, lambda _: True):
            spans.append((count.first, count.last, count.count, count.total))
            tally.tell(place, count, second, True)
    assert [span[0] for span in spans[1:]] == [span[1] + 1 for span in spans[:-1]]
    assert sum(span[2] for span in spans) == spans[-1][3] == spans[-1][1] + 1


def test_attack_a_process_that_calls_itself_something_else_for_every_call() -> None:
    tally, place = Tally(LIMITS), Place(ID, 0)
    for number in range(100_000):
        tally.add(place, Kind("keyctl", "log", f"x{number}", "/evil"), number / 100, "cgroup", number / 100)
    found = told(tally, 1000)
    assert len(found) == LIMITS.kinds + 1
    assert {kind: count for _, kind, count in found}[OTHERS] == 100_000 - LIMITS.kinds


def test_attack_names_that_change_take_no_more_records_in_an_hour_than_a_place_has() -> None:
    limits = Limits(kinds=1000, settle=0, every=1, per_place=10)
    tally, records = Tally(limits), 0
    for second in range(3600):
        tally.add(Place(ID, 0), Kind("keyctl", "log", f"x{second}", "/evil"), second, "cgroup", second)
        records += len(told(tally, second))
    assert records == 10
    assert sum(count.count for _, _, count in tally.untold()) == 3590


def test_attack_containers_that_nothing_was_decided_about_take_no_room_of_those_that_are_known() -> None:
    tally = Tally(LIMITS)
    for number in range(7):
        for call in ("bpf", "mount"):
            tally.add(Place(f"{number}", 0), Kind(call, "log", "x", "/x"), 0, "cgroup", 0)
    assert len(told(tally, 10, known=False)) == LIMITS.strangers
    tally.add(Place(ID, 0), KIND, 11, "cgroup", 11)
    assert [(place, kind) for place, kind, _ in tally.due(20, lambda place: place.id == ID)] == [(Place(ID, 0), KIND)]


def test_attack_more_containers_than_are_told_apart_are_counted() -> None:
    tally = Tally(LIMITS)
    for number in range(1000):
        tally.add(Place(f"{number:064x}", 0), KIND, number, "cgroup", number / 1000)
    told(tally, 10)
    assert tally.dropped_places == 1000 - LIMITS.places == tally.dropped.count
    assert (tally.dropped.first, tally.dropped.last) == (0, 1000 - LIMITS.places - 1)


def test_attack_a_user_with_more_containers_than_are_counted_makes_nothing_of_the_hosts_forgotten() -> None:
    tally, place = Tally(LIMITS), Place(ID, 0)
    tally.add(place, KIND, 0, "cgroup", 0)
    for number in range(100):
        tally.add(Place(f"{number:064x}", 1000), KIND, number, "cgroup", number / 100)
    assert place in [place for place, _, _ in tally.untold()] and tally.dropped_places == 93


def test_what_a_record_says_is_bounded_whatever_a_process_calls_itself() -> None:
    tally = Tally(LIMITS)
    tally.add(UNMAPPED, Kind("x" * 5000, "log", "\x1b[2J" * 5000, "\U0001f4a9" * 5000), 1.5, "", 0)
    (place, kind, count), = tally.untold()
    record = denial(place, None, kind, count)
    assert record["mapped"] == "unmapped" and "container" not in record
    assert len(record["call"]) <= 64 and len(record["exe"]) <= 512 and record["first"] == "1970-01-01T00:00:01.500000Z"


@pytest.mark.parametrize(
    "path",
    [
        "/machine.slice/libpod-{}.scope", "/machine.slice/libpod-{}.scope/container", "/system.slice/docker-{}.scope",
        "/docker/{}", "/libpod_parent/libpod-{}", "/kubepods/besteffort/pod1-2-3/{}", "/x/../libpod_parent/libpod-{}",
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-containerd-{}.scope",
        "/kubepods.slice/kubepods-pod1.slice/crio-{}.scope",
    ],
)  # fmt: skip
def test_a_container_is_known_by_its_group_under_every_engine(path: str) -> None:
    found = cgroup.container(path.format(ID))
    assert found is not None and (found.id, found.uid) == (ID, 0)


@pytest.mark.parametrize(
    "path", ["/", "/machine.slice/libpod-conmon-{}.scope", "/libpod_parent/conmon", "/a{}", "/x.slice/x-{}.service"]
)
def test_other_groups_are_no_containers(path: str) -> None:
    assert cgroup.container(path.format(ID)) is None


def test_attack_a_container_that_makes_a_group_named_after_another() -> None:
    found = cgroup.container(f"/machine.slice/libpod-{ID}.scope/libpod-{OTHER}.scope")
    assert found is not None and found.id == ID


def test_attack_a_user_who_names_a_group_after_roots_container() -> None:
    found = cgroup.container(f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container")
    assert found is not None and (found.id, found.uid) == (ID, 1000)


@pytest.mark.parametrize("below", ["user-0.slice", "user@0.service", "user@1000.service/user-0.slice/user@0.service"])
def test_attack_a_user_who_makes_a_slice_that_is_called_as_roots(below: str) -> None:
    found = cgroup.container(f"/user.slice/user-1000.slice/{below}/libpod-{ID}.scope")
    assert found is not None and (found.id, found.uid) == (ID, 1000)
    root = cgroup.container(f"/user.slice/user-0.slice/session-1.scope/libpod-{ID}.scope")
    assert root is not None and root.uid == 0
