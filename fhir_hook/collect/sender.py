"""A user's side: what the host's log has not got of the user's own log is sent, in order, and stays where it is."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

from fhir_hook.audit.cursor import Cursor, Line
from fhir_hook.collect.server import LATER, REFUSED

SECONDS = 20.0
_PORTION = 50


class SendError(Exception):
    """The collector can't be reached, or does not answer; str() is one line."""


class Sender:
    """Sends the log in the directory `where`, from the cursor kept in `cursor` on. `sent` and `refused` count records.

    `wait` is the number of seconds after which the collector wants to be asked again; 0: everything was sent.
    """

    def __init__(self, socket_path: str, where: Path, cursor: Path) -> None:
        self._path = socket_path
        self._where = where
        self._cursor = Cursor(cursor)
        self.sent = 0
        self.refused: list[tuple[int, str]] = []
        self.wait = 0

    def run(self) -> None:
        """Send what is there. Raises SendError, CursorError, OSError, LogError; what was taken is not sent again."""
        lines = self._cursor.lines(self._where, _PORTION)
        if not lines:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as stream:
            try:
                stream.settimeout(SECONDS)
                stream.connect(self._path)
            except OSError as error:
                raise SendError(f"{self._path}: {error.strerror or error}") from None
            while lines and not self.wait:
                self._portion(stream, lines)
                lines = self._cursor.lines(self._where, _PORTION) if not self.wait else []

    def _portion(self, stream: socket.socket, lines: list[Line]) -> None:
        done = 0
        try:
            for line in lines:
                answer = self._ask(stream, line)
                if answer["result"] == LATER:
                    self.wait = int(answer.get("seconds", 60))
                    return
                done += 1
                if answer["result"] == REFUSED:
                    self.refused.append((line.seq, str(answer.get("why", ""))[:200]))
                else:
                    self.sent += 1
        finally:
            self._keep(done, len(lines))

    def _keep(self, done: int, read: int) -> None:
        if done < read:
            self._cursor = self._cursor.again()
            if done:
                self._cursor.lines(self._where, done)
        if done:
            self._cursor.keep()

    def _ask(self, stream: socket.socket, line: Line) -> dict[str, Any]:
        try:
            with contextlib.suppress(BrokenPipeError):  # it has said why before it closed
                stream.send(line.data)
            answer = json.loads(stream.recv(1 << 12))
        except (OSError, ValueError) as error:
            raise SendError(f"{self._path}: {getattr(error, 'strerror', None) or 'it did not answer'}") from None
        if not isinstance(answer, dict) or "result" not in answer:
            raise SendError(f"{self._path}: it did not answer")
        return answer
