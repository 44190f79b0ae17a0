"""Counting denials without keeping them: a bounded number of kinds for each container, and when they are told. Pure.

A place is a container, or UNMAPPED. A kind is told soon after it was first seen, and then rarely while its count grows.
A flood of calls, of names or of containers makes no more records than `Limits` says; what can't be told apart is
counted all the same.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, deque
from collections.abc import Callable

HOUR = 3600.0


@dataclasses.dataclass(frozen=True)
class Place:
    """Where it was denied: a container's `id` and the `uid` below whose slice it runs; no id: not known which."""

    id: str
    uid: int


@dataclasses.dataclass(frozen=True)
class Kind:
    """What counts as the same denial. `action` is what the filter did: log, errno, kill, trap, trace, notify."""

    call: str
    action: str
    comm: str
    exe: str


UNMAPPED = Place("", -1)
OTHERS = Kind("", "", "", "")
"""Whatever is beyond the kinds of a place that are told apart."""


@dataclasses.dataclass
class Count:
    """How often a kind was seen: `total`, and since it was last told `count`, when `first` and `last` (epoch seconds).

    `at` is when it was told, on a clock that is never set, or first seen; `by` says how the container was found.
    """

    at: float
    by: str
    first: float = 0.0
    last: float = 0.0
    count: int = 0
    total: int = 0

    def add(self, when: float, count: int = 1) -> None:
        """Seen again."""
        self.first = min(self.first, when) if self.count else when
        self.last = max(self.last, when) if self.count else when
        self.count += count
        self.total += count

    @property
    def new(self) -> bool:
        """Whether it was never told."""
        return self.count == self.total

    def tell(self, now: float) -> None:
        """A record told it."""
        self.at, self.count = now, 0


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds. A kind is told `settle` seconds after it was first seen, then every `every` seconds while it grows.

    Records in an hour: of one place, of all of the host's that the log knows, and of all others.
    """

    kinds: int = 48
    places: int = 256
    settle: float = 2.0
    every: float = 600.0
    per_place: int = 120
    known: int = 1200
    strangers: int = 120


class Hour:
    """Room for so many records in any hour."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._times: deque[float] = deque()

    def room(self, now: float) -> int:
        """For how many more there is room."""
        while self._times and now - self._times[0] >= HOUR:
            self._times.popleft()
        return max(0, self._most - len(self._times))

    def take(self, now: float) -> None:
        """One was written."""
        if len(self._times) < self._most:
            self._times.append(now)


class _Counted:
    """The kinds of one place."""

    def __init__(self, limits: Limits) -> None:
        self.kinds: dict[Kind, Count] = {}
        self.hour = Hour(limits.per_place)


class Tally:
    """All places. `dropped` counts what was not told of places that had to be forgotten, `dropped_places` those."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.dropped = Count(0.0, "")
        self.dropped_places = 0
        self._places: OrderedDict[Place, _Counted] = OrderedDict()
        self._hours = {True: Hour(limits.known), False: Hour(limits.strangers)}

    def add(self, place: Place, kind: Kind, when: float, by: str, now: float) -> None:
        """One denial; `now` is a clock that is never set."""
        counted = self._places.get(place)
        if counted is None:
            if len(self._places) >= self.limits.places:
                self._forget()
            counted = self._places[place] = _Counted(self.limits)
        self._places.move_to_end(place)
        found = counted.kinds.get(kind)
        if found is None:
            full = len(counted.kinds) >= self.limits.kinds
            key, by = (OTHERS, "") if full else (kind, by)
            found = counted.kinds.setdefault(key, Count(now, by))
        found.add(when)

    def _forget(self) -> None:
        """Make room: of the place that was quiet for longest, an ordinary user's if there is one."""
        oldest = next((place for place in self._places if place.uid > 0), next(iter(self._places)))
        counted = self._places.pop(oldest)
        untold = [count for count in counted.kinds.values() if count.count]
        self.dropped_places += bool(untold)
        for count in untold:
            self.dropped.add(count.last, count.count)
            self.dropped.first = min(self.dropped.first, count.first)

    def due(self, now: float, known: Callable[[Place], bool]) -> list[tuple[Place, Kind, Count]]:
        """What is to be told now, as far as the hour has room; places that are not `known` take nobody else's room."""
        left = {which: hour.room(now) for which, hour in self._hours.items()}
        found = []
        for place, counted in self._places.items():
            ripe = [item for item in counted.kinds.items() if self._ripe(item[1], now)]
            if not ripe:
                continue
            which = known(place)
            room = min(left[which], counted.hour.room(now))
            left[which] -= len(ripe[:room])
            found += [(place, kind, count) for kind, count in ripe[:room]]
        return found

    def _ripe(self, count: Count, now: float) -> bool:
        return count.count > 0 and now - count.at >= (self.limits.settle if count.new else self.limits.every)

    def untold(self) -> list[tuple[Place, Kind, Count]]:
        """All that was seen and not told."""
        every = ((place, *item) for place, counted in self._places.items() for item in counted.kinds.items())
        return [entry for entry in every if entry[2].count]

    def put_back(self, place: Place, kind: Kind, count: Count) -> None:
        """Count on from what an earlier watcher counted and did not tell."""
        counted = self._places.setdefault(place, _Counted(self.limits))
        counted.kinds[kind] = count

    def tell(self, place: Place, count: Count, now: float, known: bool) -> None:
        """A record told a count."""
        count.tell(now)
        self._hours[known].take(now)
        self._places[place].hour.take(now)
