"""One pass over the log for a report: everything that it shows, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from fhir_hook.audit.selection import Record, Selection, codes_of, part, text, time_of
from fhir_hook.report import naming
from fhir_hook.report.changes import Changes
from fhir_hook.report.grouping import FURTHER, Grouping
from fhir_hook.report.tally import Names, Tally
from fhir_hook.store.log_reader import Entry

MOST_ROWS = 2000
MOST_CLAIMED = 500  # rows by users' word, which leave room for the host's own
MOST_WAITING = 10_000
Key = tuple[str, ...]


class Row:
    """A line of a table: `key` (its cells), a tally, the containers it is about."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.tally = Tally()
        self.containers = Names()
        self.in_force = 0


class Rows:
    """Rows by their keys, at most MOST_ROWS and MOST_CLAIMED; what comes after is counted in one row more."""

    def __init__(self, cells: int) -> None:
        self._further = (FURTHER, *[""] * (cells - 1))
        self._rows: dict[Key, Row] = {}
        self._claimed = 0

    def add(self, key: Key, record: Record, weight: int = 1) -> Row:
        """Count a record in the row of `key`."""
        claimed = naming.claimed_by(record) is not None
        if key not in self._rows:
            full = self._claimed >= MOST_CLAIMED if claimed else len(self._rows) - self._claimed >= MOST_ROWS
            key = self._further if full else key
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = Row(key)
            self._claimed += claimed and key != self._further
        row.tally.add(record, weight)
        row.containers.add(naming.container_of(record))
        return row

    def __iter__(self) -> Iterator[Row]:
        return iter(sorted(self._rows.values(), key=lambda row: (-row.tally.count, row.key)))

    def __len__(self) -> int:
        return len(self._rows)


class Collection:
    """What the records say that `selection` means.

    `ran`: rows of image, profile, its digest, policy; `refusals` by reason; `denials`: rows of image, profile, call,
    action; `complain` and `unobservable` (nothing is heard of their denials): rows of image, profile; `without`: rows
    of decision, image, codes; `hours`: counts by (hour, kind); `seen`: outcomes by what was seen.

    What users sent of their own logs is in `collected`, by kinds in `claims`, and in rows that say whose word it is:
    no other count has it.
    """

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.records = self.problems = self.before = 0
        self.first = self.last = self.policy = ""
        self.hosts, self.users = Names(), Grouping("user")
        self.decisions: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.hours: Counter[tuple[str, str]] = Counter()
        self.seen: Counter[str] = Counter()
        self.findings: dict[str, Tally] = {}
        self.ran, self.denials, self.complain, self.without = Rows(4), Rows(4), Rows(2), Rows(3)
        self.unobservable = Rows(2)
        self.refusals = Grouping("reason")
        self.changes = Changes(selection.since, selection.until)
        self.collected = Tally()
        self.claims: Counter[str] = Counter()
        self._waiting: dict[int, Row] = {}
        self._claimed: dict[tuple[int, int], Row] = {}
        self._forgotten = 0

    def read(self, entries: Iterable[Entry]) -> Iterator[Record]:
        """Take the whole log, and yield the records that are meant; every one has a seq."""
        for entry in entries:
            self.problems += bool(entry.problem)
            if not entry.record:
                continue
            record = entry.record
            if type(record.get("seq")) is not int:
                record = {**record, "seq": entry.next - 1}
            self.changes.add(record)
            if self.selection.matches(record):
                self._add(record)
                yield record
            else:
                self.before += 1

    @property
    def unseen(self) -> int:
        """Confined, and no record says what was then seen to be in force."""
        return len(self._waiting) + self._forgotten

    def _add(self, record: Record) -> None:
        self.records += 1
        if time_of(record):
            self.first = self.first or text(record, "time")
            self.last = text(record, "time")
        self.hosts.add(text(record, "host"))
        event, kind = text(record, "event"), naming.kind_of(record)
        sender = naming.sender_of(record)
        if sender is not None:
            self._claim(sender, record, kind)
            return
        if kind:
            count = naming.number(record, "count") if kind == "denial" else 1
            self.kinds[kind] += count
            self.hours[_hour(record), kind] += count
            self.users.add(record)
        if kind == "refused":
            self.refusals.add(record)
        if event == "decision":
            self._decision(record, kind)
        elif event == "outcome":
            self._outcome(record)
        elif naming.is_unobservable(record):
            self.unobservable.add((image_of(record), naming.profiles_of(record)), record)
        elif event == "denial":
            call, action = text(record, "call") or "(others)", text(record, "action")
            key = (image_of(record), naming.profiles_of(record), call, action)
            self.denials.add(key, record, naming.number(record, "count"))

    def _decision(self, record: Record, kind: str) -> None:
        decision = text(record, "decision")
        self.policy = text(record, "policy") or self.policy
        self.decisions[decision if len(self.decisions) < MOST_ROWS else FURTHER] += 1
        for code in dict.fromkeys(filter(None, codes_of(record))):
            if len(self.findings) < MOST_ROWS or code in self.findings:
                self.findings.setdefault(code, Tally()).add(record)
        row = self._row(record, kind)
        if row and naming.is_complain(record):
            self.complain.add((image_of(record), naming.profiles_of(record)), record)
        if row and _kept(self._waiting, record["seq"], row):
            self._forgotten += 1

    def _row(self, record: Record, kind: str) -> Row | None:
        """Count a decision in `ran` or `without`; the row if it is one of `ran`."""
        if kind == "confined":
            policy = text(record, "policy")[:12]
            about = (image_of(record), naming.profiles_of(record), naming.digests_of(record), policy)
            return self.ran.add(about, record)
        if naming.is_without(record):
            self.without.add((text(record, "decision"), image_of(record), naming.joined_codes(record)), record)
        return None

    def _outcome(self, record: Record) -> None:
        decided_by = record.get("decided_by")
        row = self._waiting.pop(decided_by, None) if type(decided_by) is int else None
        if record.get("decision") == "refused":
            self.seen["refused"] += 1
            self.kinds["confined"] -= row is not None  # it was decided, and did not start
            return
        self.seen[text(record, "seen") or "(not said)"] += 1
        if row:
            row.in_force += 1

    def _claim(self, sender: int, record: Record, kind: str) -> None:
        """Take what a user sent."""
        self.collected.add(record)
        if kind:
            self.claims[kind] += 1
        place = part(record, "from")
        if text(record, "event") == "decision":
            row = self._row(record, kind)
            if row:
                _kept(self._claimed, (sender, naming.number(place, "seq", 0)), row)
        elif text(record, "event") == "outcome":
            row = self._claimed.pop((sender, naming.number(place, "decided_by", -1)), None)
            if row and record.get("decision") != "refused":
                row.in_force += 1


def _kept(waiting: dict[Any, Row], key: Any, row: Row) -> bool:
    """Keep the row until its outcome comes; whether the oldest one had to be forgotten for it."""
    waiting[key] = row
    if len(waiting) <= MOST_WAITING:
        return False
    waiting.pop(next(iter(waiting)))
    return True


def image_of(record: Record) -> str:
    """The image, and whose word that is unless it is the host's own."""
    return naming.as_said(naming.image_of(record), record)


def _hour(record: Record) -> str:
    """2026-11-21T10 in UTC, or "" when the time can't be read, or no host had it."""
    time: datetime | None = time_of(record)
    return time.strftime("%Y-%m-%dT%H") if time and 2000 <= time.year < 2200 else ""
