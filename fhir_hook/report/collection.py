"""One pass over the log for a report: everything that it shows, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime

from fhir_hook.audit.selection import Record, Selection, codes_of, part, text, time_of
from fhir_hook.report import naming
from fhir_hook.report.changes import Changes
from fhir_hook.report.grouping import FURTHER, Grouping
from fhir_hook.report.tally import Names, Tally
from fhir_hook.store.log_reader import Entry

MOST_ROWS = 2000
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
    """Rows by their keys, at most MOST_ROWS; what comes after is counted in one row more."""

    def __init__(self, cells: int) -> None:
        self._further = (FURTHER, *[""] * (cells - 1))
        self._rows: dict[Key, Row] = {}

    def add(self, key: Key, record: Record, weight: int = 1) -> Row:
        """Count a record in the row of `key`."""
        if key not in self._rows and len(self._rows) >= MOST_ROWS:
            key = self._further
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = Row(key)
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
    """

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.records = self.problems = self.before = 0
        self.first = self.last = self.policy = ""
        self.hosts, self.users = Names(), Grouping("user")
        self.events: Counter[str] = Counter()
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
        self._waiting: dict[tuple[int | None, int], Row] = {}
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
        if naming.sender_of(record) is not None:
            self.collected.add(record)
        event, kind = text(record, "event"), naming.kind_of(record)
        self.events[event if len(self.events) < MOST_ROWS else FURTHER] += 1
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
            self.unobservable.add((_image(record), naming.profiles_of(record)), record)
        elif event == "denial":
            call, action = text(record, "call") or "(others)", text(record, "action")
            key = (_image(record), naming.profiles_of(record), call, action)
            self.denials.add(key, record, naming.number(record, "count"))

    def _decision(self, record: Record, kind: str) -> None:
        decision = text(record, "decision")
        if naming.sender_of(record) is None:
            self.policy = text(record, "policy") or self.policy
        self.decisions[decision if len(self.decisions) < MOST_ROWS else FURTHER] += 1
        codes = [code for code in codes_of(record) if code]
        for code in dict.fromkeys(codes):
            if len(self.findings) < MOST_ROWS or code in self.findings:
                self.findings.setdefault(code, Tally()).add(record)
        image, sender = _image(record), naming.sender_of(record)
        if kind == "confined":
            profiles = naming.profiles_of(record)
            row = self.ran.add((image, profiles, naming.digests_of(record), text(record, "policy")[:12]), record)
            if naming.is_complain(record) and sender is None:
                self.complain.add((image, profiles), record)
            seq = record["seq"] if sender is None else naming.number(part(record, "from"), "seq", 0)
            self._waiting[sender, seq] = row
            if len(self._waiting) > MOST_WAITING:
                self._waiting.pop(next(iter(self._waiting)))
                self._forgotten += 1
        elif decision in ("exempt", "undetermined"):
            self.without.add((decision, image, " ".join(dict.fromkeys(codes))), record)

    def _outcome(self, record: Record) -> None:
        sender = naming.sender_of(record)
        decided_by = record.get("decided_by") if sender is None else part(record, "from").get("decided_by")
        row = self._waiting.pop((sender, decided_by), None) if type(decided_by) is int else None
        if record.get("decision") == "refused":
            self.seen["refused"] += 1
            self.kinds["confined"] -= row is not None  # it was decided, and did not start
            return
        self.seen[text(record, "seen") or "(not said)"] += 1
        if row:
            row.in_force += 1


def _image(record: Record) -> str:
    """The image, and whose word that is unless it is the host's own."""
    user = naming.claimed_by(record)
    return naming.image_of(record) + ("" if user is None else f" (as uid {user} says)")


def _hour(record: Record) -> str:
    """2026-11-21T10 in UTC, or "" when the time can't be read, or no host had it."""
    time: datetime | None = time_of(record)
    return time.strftime("%Y-%m-%dT%H") if time and 2000 <= time.year < 2200 else ""
