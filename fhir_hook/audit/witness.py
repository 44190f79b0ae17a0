"""A witness (C2SP tlog-witness): a machine elsewhere that cosigns a log's checkpoints, and never one that contradicts
another.

It needs to know the logs by their verifier keys and nothing more; it sees no records. For every log it keeps the newest
checkpoint, durably, before it answers.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import time
from hashlib import sha256
from pathlib import Path

from fhir_hook.audit import checkpoint, merkle, note
from fhir_hook.audit.checkpoint import CheckpointError, Signed
from fhir_hook.store import files

MOST_PROOF_LINES = 63
LONGEST_REQUEST = 1 << 18
_LIMIT = 1 << 20


class Answer:
    """What a witness says: an HTTP `status`, a body and its type."""

    def __init__(self, status: int, body: str, type: str = "text/plain; charset=utf-8") -> None:
        self.status = status
        self.body = body
        self.type = type


class Refused(Exception):
    """A request is not granted."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body.strip())
        self.answer = answer


class Witness:
    """Cosigns with `signer` for the logs whose keys are `known`; the newest checkpoints are kept in `directory`."""

    def __init__(self, directory: Path, signer: note.Signer, known: list[note.Verifier]) -> None:
        self._directory = directory
        self._signer = signer
        self._known = known

    def add(self, body: bytes) -> Answer:
        """Answer an add-checkpoint request; raises OSError when what it saw can't be kept."""
        try:
            old, hashes, data = _parsed(body)
            signed = self._verified(data)
            with _locked(self._directory):
                self._grown(old, hashes, signed)
                files.replace(str(self._path(signed.checkpoint.origin)), data)
        except Refused as refused:
            return refused.answer
        return Answer(200, self._signer.sign(signed.checkpoint.text, int(time.time())).line)

    def _verified(self, data: bytes) -> Signed:
        try:
            text, _ = note.split(data)
            origin = checkpoint.Checkpoint.parse(text).origin
        except (note.NoteError, CheckpointError) as error:
            raise Refused(Answer(400, f"{error}\n")) from None
        keys = [verifier for verifier in self._known if verifier.name == origin]
        if not keys:
            raise Refused(Answer(404, "this log is not known here\n"))
        try:
            return checkpoint.opened(data, keys)
        except CheckpointError:
            raise Refused(Answer(403, "no signature of a key of this log\n")) from None

    def _grown(self, old: int, hashes: list[bytes], signed: Signed) -> None:
        """The checks of add-checkpoint against what was cosigned last, in the specification's order."""
        now = signed.checkpoint
        if old > now.size:
            raise Refused(Answer(400, "the old size is larger than the checkpoint's\n"))
        last = self.last(now.origin)
        size = last.checkpoint.size if last else 0
        if old != size:
            raise Refused(Answer(409, f"{size}\n", "text/x.tlog.size"))
        root = last.checkpoint.root if last else merkle.EMPTY_ROOT
        if old == now.size and root != now.root:
            raise Refused(Answer(409, f"{size}\n", "text/x.tlog.size"))
        try:
            merkle.check_consistency(old, root, now.size, now.root, hashes)
        except merkle.ProofError as error:
            raise Refused(Answer(422, f"{error}\n")) from None

    def last(self, origin: str) -> Signed | None:
        """The newest checkpoint of a log that was cosigned; raises OSError, and Refused (500) when it can't be read."""
        path = self._path(origin)
        try:
            return checkpoint.opened(files.read(str(path), _LIMIT), [v for v in self._known if v.name == origin])
        except FileNotFoundError:
            return None
        except (files.FileError, CheckpointError):
            raise Refused(Answer(500, "the last checkpoint of this log can't be read; nothing is cosigned\n")) from None

    def _path(self, origin: str) -> Path:
        return self._directory / f"{sha256(origin.encode()).hexdigest()}.checkpoint"


class _locked:
    """One request at a time compares with the last checkpoint and replaces it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        self._fd = -1

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _parsed(body: bytes) -> tuple[int, list[bytes], bytes]:
    """The old size, the proof and the checkpoint of an add-checkpoint request; Refused when it is malformed."""
    head, border, data = body.partition(b"\n\n")
    lines = head.split(b"\n")
    size = lines[0].removeprefix(b"old ").decode("ascii", "replace")
    numeric = size.isascii() and size.isdigit() and len(size) < 19 and str(int(size)) == size
    if not border or not lines[0].startswith(b"old ") or not numeric or len(lines) > MOST_PROOF_LINES + 1:
        raise Refused(Answer(400, "not a request: 'old SIZE', proof lines, an empty line, a checkpoint\n"))
    try:
        hashes = [base64.b64decode(line, validate=True) for line in lines[1:]]
    except binascii.Error:
        hashes = [b""]
    if any(len(each) != merkle.HASH_SIZE for each in hashes):
        raise Refused(Answer(400, "a proof line is no hash\n"))
    return int(size), hashes, data
