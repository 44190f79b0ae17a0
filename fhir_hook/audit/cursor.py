"""Where a forwarder has got to in the log, durably: the next record, and the digest of the line before it.

What it has not said to have delivered is delivered again after a restart; every message carries seq and digest, by
which a receiver tells a repetition.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from fhir_hook.store import files, log, segments
from fhir_hook.store.segments import Part

_LIMIT = 1 << 16


class CursorError(Exception):
    """The log does not go on where the cursor stands; str() is one line."""


class Line:
    """One record: `seq` is its place in the log, `data` its line, `digest` what names it."""

    __slots__ = ("data", "digest", "seq")

    def __init__(self, seq: int, data: bytes) -> None:
        self.seq = seq
        self.data = data
        self.digest = sha256(data).hexdigest()


class Cursor:
    """The cursor kept in `path`; a new one stands at the log's beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seq = 0
        self._segment = 0
        self._offset = 0
        self._prev = log.FIRST_PREV
        self._new = False
        try:
            kept = json.loads(files.read(str(path), _LIMIT))
            self.seq, self._segment, self._offset = (int(kept[name]) for name in ("seq", "segment", "offset"))
            self._prev = str(kept["prev"])
        except FileNotFoundError:
            self._new = True
        except (ValueError, KeyError, TypeError, files.FileError):
            raise CursorError(f"{path} can't be read: remove it to forward the log from its beginning") from None

    def lines(self, where: Path, most: int = 1000) -> list[Line]:
        """Up to `most` records from the cursor on, which it then stands behind; say so with keep().

        Raises CursorError when the log was cut off or replaced, OSError and log.LogError.
        """
        with segments.snapshot(where, durable=True) as parts:
            if self._new and parts:
                self._segment = self.seq = parts[0].first
                self._new = False
            position = self._position(parts)
            found: list[Line] = []
            for part in parts[position:] if position is not None else []:
                if part.first != self._segment:
                    self._segment, self._offset = part.first, 0
                for data in self._read(part, most - len(found)):
                    found.append(Line(self.seq, data))
                    self.seq += 1
                    self._offset += len(data)
                    self._prev = found[-1].digest
                if len(found) >= most:
                    break
            return found

    def _position(self, parts: list[Part]) -> int | None:
        """The file that the cursor stands in; the one before its first unread line must be the one that was read."""
        for position, part in enumerate(parts):
            if part.first == self._segment:
                if self._offset > part.size or (self._offset and self._before(part) != self._prev):
                    raise CursorError(f"{part.path}: record {self.seq - 1} is not the one that was forwarded")
                return position
        if self.seq or parts:
            raise CursorError(f"the log lacks the file from record {self._segment} on, where forwarding stands")
        return None

    def _before(self, part: Part) -> str:
        return segments.line_before(part, self._offset)

    def _read(self, part: Part, most: int) -> Iterator[bytes]:
        with part.opened() as fd:
            yield from segments.lines_from(fd, self._offset, part.size, most)

    def again(self) -> Cursor:
        """The cursor as it was kept last."""
        return Cursor(self._path)

    def keep(self) -> None:
        """Make the cursor durable where it stands; raises OSError."""
        kept = {"seq": self.seq, "segment": self._segment, "offset": self._offset, "prev": self._prev}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(str(self._path), (json.dumps(kept) + "\n").encode())
