"""Checkpoints (C2SP tlog-checkpoint): which log, how many records, and the root of the tree over them, signed."""

from __future__ import annotations

import base64
import binascii

from fhir_hook.audit import merkle, note

MOST_RECORDS = (1 << 63) - 1


class CheckpointError(Exception):
    """A checkpoint can't be read or is not signed as it should be; str() is one line."""


class Checkpoint:
    """The tree of the log `origin` at `size` records has `root` (32 bytes)."""

    __slots__ = ("origin", "size", "root")

    def __init__(self, origin: str, size: int, root: bytes) -> None:
        self.origin = origin
        self.size = size
        self.root = root

    @property
    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read the text of a note as a checkpoint; lines behind the third are ignored. Raises CheckpointError."""
        lines = text.split("\n")
        if len(lines) < 4 or "" in lines[:-1] or lines[-1] != "":
            raise CheckpointError("not a checkpoint: it should be an origin, a size and a root hash, on three lines")
        size = lines[1]
        if not (size.isascii() and size.isdigit() and len(size) < 20 and str(int(size)) == size):
            raise CheckpointError("not a checkpoint: its second line is no size")
        if int(size) > MOST_RECORDS:
            raise CheckpointError("not a checkpoint: its size is larger than any log")
        try:
            root = base64.b64decode(lines[2], validate=True)
        except (binascii.Error, ValueError):
            root = b""
        if len(root) != merkle.HASH_SIZE or base64.b64encode(root).decode() != lines[2]:
            raise CheckpointError("not a checkpoint: its third line is no SHA-256 in base64")
        return cls(lines[0], int(size), root)


class Signed:
    """A checkpoint as it was signed: the `note` as bytes, the `checkpoint` in it, and the keys that verified."""

    def __init__(self, data: bytes, checkpoint: Checkpoint, keys: list[str]) -> None:
        self.data = data
        self.checkpoint = checkpoint
        self.keys = keys


def sign(checkpoint: Checkpoint, signers: list[note.Signer]) -> bytes:
    """The checkpoint as a note, signed by all of `signers`."""
    return note.written(checkpoint.text, [signer.sign(checkpoint.text) for signer in signers])


def opened(data: bytes, verifiers: list[note.Verifier]) -> Signed:
    """Read a checkpoint that one of `verifiers` has signed as the log (not as a witness); raises CheckpointError."""
    try:
        found = note.opened(data, verifiers)
        checkpoint = Checkpoint.parse(found.text)
    except note.NoteError as error:
        raise CheckpointError(str(error)) from None
    witnesses = {v.id for v in verifiers if v.kind == note.COSIGNATURE}
    logs = [s for s in found.verified if s.id not in witnesses]
    if not logs:
        raise CheckpointError("the checkpoint carries signatures of witnesses only, none of the log")
    if all(signature.name != checkpoint.origin for signature in logs):
        raise CheckpointError(f"a checkpoint of {ascii(checkpoint.origin)} signed by a key that is called otherwise")
    return Signed(data, checkpoint, [f"{s.name}+{s.id.hex()}" for s in found.verified])
