"""What the log says, in numbers that only grow: counted on from where the last count ended.

No count has a label that a person chose freely: decisions, paths, codes, calls and profiles are what this product
knows, and anything else is counted as "other". Containers, images and users are no labels.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from fhir_hook.audit.cursor import Cursor, CursorError, Line
from fhir_hook.audit.selection import Record, codes_of, items, text, time_of
from fhir_hook.core.syscalls_x86_64 import NUMBERS
from fhir_hook.store import files

OTHER = "other"
_FORMAT, _LIMIT, _BATCH = 1, 16 << 20, 2000
_MOST_PROFILES = 200
_CODE = re.compile(r"FH\d{3}")
_PROFILE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_KNOWN = {
    "decision": {"confined", "refused", "exempt", "undetermined", "ignored"},
    "path": {"native", "live", ""},
    "mode": {"enforce", "complain", ""},
    "action": {"log", "errno", "kill", "trap", "trace", "notify"},
    "seen": {"config", "kernel", "count"},
    "result": {"compiled", "refused", "not installed"},
    "what": {"installed", "upgraded", "removed", "disabled", "enabled", "configured", "unconfigured"},
    "event": {"decision", "outcome", "denial", "watch", "collect", "policy", "settings", "mode", "hook", "log",
              "recovery", "sealed"},
}  # fmt: skip
_PROFILE_AT = {"decisions": 2, "denials": 1}
Key = tuple[str, ...]
"""The name of a count, then the values of its labels (metrics.COUNTS names them)."""


class Counts:
    """`counts` by Key; `records` read so far, `last` the time of the newest in seconds, `broken` places where the chain
    does not hold, `cuts`: how often the log was found cut off or replaced, which no later count forgets."""

    def __init__(self) -> None:
        self.counts: Counter[Key] = Counter()
        self.records = 0
        self.last = 0.0
        self.broken = self.cuts = 0
        self._prev = ""
        self._profiles: set[str] = set()

    def add(self, line: Line) -> None:
        """Count one record."""
        try:
            record = json.loads(line.data)
        except (ValueError, RecursionError):
            record = None
        self.records = line.seq + 1
        before, self._prev = self._prev, line.digest
        if not isinstance(record, dict):
            self.broken += 1
            return
        if (before and text(record, "prev") != before) or record.get("seq") != line.seq:
            self.broken += 1
        when = time_of(record)
        self.last = when.timestamp() if when else self.last
        for key, by in keys_of(record, self._profile):
            self.counts[key] += by

    def _profile(self, name: str) -> str:
        """The profile as a label's value; after _MOST_PROFILES of them new ones are "other"."""
        if name in self._profiles:
            return name
        if not _PROFILE.fullmatch(name) or len(self._profiles) >= _MOST_PROFILES:
            return OTHER
        self._profiles.add(name)
        return name

    def kept(self) -> dict[str, Any]:
        """As a JSON document."""
        counts = [[list(key), value] for key, value in self.counts.items()]
        about = {"format": _FORMAT, "records": self.records, "last": self.last, "broken": self.broken}
        return {**about, "cuts": self.cuts, "prev": self._prev, "counts": counts}

    @classmethod
    def read(cls, document: dict[str, Any]) -> Counts:
        """From what kept() made; raises ValueError, KeyError, TypeError."""
        if document["format"] != _FORMAT:
            raise ValueError
        found = cls()
        found.records, found.broken = int(document["records"]), int(document["broken"])
        found.cuts = int(document.get("cuts", 0))
        found.last, found._prev = float(document["last"]), str(document["prev"])
        found.counts = Counter({tuple(map(str, key)): int(value) for key, value in document["counts"]})
        found._profiles = {key[at] for key in found.counts if (at := _PROFILE_AT.get(key[0]))}
        return found


def keys_of(record: Record, profile_of: Any) -> list[tuple[Key, int]]:
    """What one record adds to which counts."""
    event, decision = text(record, "event"), text(record, "decision")
    if "from" in record:  # what a user says: no alert of the host's, and no label of theirs
        return [(("records", "claimed"), 1)]
    found: list[tuple[Key, int]] = [(("records", _known("event", event)), 1)]
    profiles = [profile_of(text(each, "name")) for each in items(record, "profile")] or [""]
    if record.get("owner"):  # a user's container: what the denial repeats is the user's word
        profiles = [OTHER]
    if event == "decision":
        about = (_known("decision", decision), profiles[0], _known("path", record.get("path", "")))
        found.append((("decisions", *about, _known("mode", record.get("mode", ""))), 1))
        found += [(("findings", _code(code)), 1) for code in codes_of({"findings": record.get("findings")})]
    if decision == "refused":
        reasons = codes_of({"reasons": record.get("reasons")})
        found.append((("refusals", _code(reasons[0]) if reasons else OTHER), 1))
    elif event == "outcome":
        found.append((("outcomes", _known("seen", text(record, "seen"))), 1))
    elif event == "denial":
        count = record.get("count")
        by = count if type(count) is int and 0 < count < 1 << 40 else 1
        call = text(record, "call")
        action = _known("action", text(record, "action"))
        found.append((("denials", profiles[0], call if call in NUMBERS else OTHER, action), by))
    elif event == "policy":
        found.append((("policy_changes", _known("result", text(record, "result"))), 1))
    elif event == "hook":
        found.append((("hook_changes", _known("what", text(record, "what"))), 1))
    return found


def _known(member: str, value: Any) -> str:
    return value if isinstance(value, str) and value in _KNOWN[member] else OTHER


def _code(code: str) -> str:
    return code if _CODE.fullmatch(code) else OTHER


def counted(where: Path, directory: Path) -> Counts:
    """The counts over the whole log in `where`, reading what is new since they were kept in `directory`.

    Counts that do not fit the log any more (it was restored, or cut off) begin anew, and that is counted as a cut.
    Raises OSError, log.LogError, CursorError.
    """
    state, at = directory / "counts.json", directory / "cursor"
    cursor, counts = _from(state, at)
    try:
        lines = cursor.lines(where, _BATCH)
    except CursorError:
        counts = _fresh(counts.cuts + 1)
        _keep(state, counts)  # killed before the end, the next run knows of the cut
        at.unlink(missing_ok=True)
        cursor = Cursor(at)
        lines = cursor.lines(where, _BATCH)
    while lines:
        for line in lines:
            counts.add(line)
        lines = cursor.lines(where, _BATCH)
    directory.mkdir(parents=True, exist_ok=True)
    # A kill in between leaves two that do not fit, and everything is counted anew.
    _keep(state, counts)
    cursor.keep()
    return counts


def _keep(state: Path, counts: Counts) -> None:
    files.replace(str(state), json.dumps(counts.kept()).encode(), 0o640)


def _fresh(cuts: int) -> Counts:
    counts = Counts()
    counts.cuts = cuts
    return counts


def _from(state: Path, at: Path) -> tuple[Cursor, Counts]:
    """The cursor and the counts if they fit each other, else both from the beginning; the cuts stay."""
    cuts = 0
    try:
        counts = Counts.read(json.loads(files.read(str(state), _LIMIT)))
        cuts, cursor = counts.cuts, Cursor(at)
        if counts.records == cursor.seq:
            return cursor, counts
    except (OSError, ValueError, KeyError, TypeError, AttributeError, files.FileError, CursorError):
        pass
    at.unlink(missing_ok=True)
    return Cursor(at), _fresh(cuts)
