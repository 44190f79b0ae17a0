"""Proofs for people and programs: that one record is in the log that was signed, that one checkpoint grew out of
another.

As JSON, and as text: C2SP tlog-proof for one record (the record itself is its `extra`), the body of C2SP tlog-witness'
add-checkpoint for consistency.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fhir_hook.audit import checkpoint, merkle, note, tiles
from fhir_hook.audit.checkpoint import Checkpoint, Signed
from fhir_hook.audit.merkle import ProofError
from fhir_hook.store import log, segments

INCLUSION = "fhir-hook inclusion proof 1"
CONSISTENCY = "fhir-hook consistency proof 1"
_TEXT = "c2sp.org/tlog-proof@v1"
_SEQ = re.compile(rb'\{"time":"[^"]{1,40}","seq":([0-9]{1,18}),')
_NEAR = 1 << 14
_READ = 1 << 12


def inclusion(where: Path, tree_directory: Path, seq: int, signed: Signed) -> dict[str, Any]:
    """The proof that record `seq` is in the tree that `signed` is of; raises ProofError, tiles.TilesError, OSError."""
    size = signed.checkpoint.size
    if seq >= size:
        raise ProofError(f"record {seq} is not signed: the checkpoint covers {size}; run 'fhir-hook log checkpoint'")
    with tiles.Tiles(tree_directory) as stored:
        path = merkle.inclusion_proof(stored.subtree, seq, size)
        leaf = stored.read(0, seq, 1)
    _sound(merkle.check_inclusion, leaf, seq, size, path, signed.checkpoint.root)
    line = record(where, seq)
    if merkle.leaf_hash(line) != leaf:
        raise ProofError(f"record {seq} is not what it was when it was signed: run 'fhir-hook log verify'")
    return {
        "proof": INCLUSION,
        "seq": seq,
        "record": line.decode("utf-8", "surrogateescape"),
        "hashes": [_b64(each) for each in path],
        "checkpoint": signed.data.decode(),
    }


def consistency(tree_directory: Path, old: Checkpoint, old_data: bytes, signed: Signed) -> dict[str, Any]:
    """The proof that the tree of `old` grew into that of `signed`; `old_data` is the old checkpoint as signed, or
    empty."""
    with tiles.Tiles(tree_directory) as stored:
        path = merkle.consistency_proof(stored.subtree, old.size, signed.checkpoint.size)
    at = signed.checkpoint
    _sound(merkle.check_consistency, old.size, old.root, at.size, at.root, path)
    return {
        "proof": CONSISTENCY,
        "old": {"size": old.size, "root": _b64(old.root), "checkpoint": old_data.decode()},
        "hashes": [_b64(each) for each in path],
        "checkpoint": signed.data.decode(),
    }


def _sound(check: Callable[..., None], *arguments: object) -> None:
    """Nobody is given a proof that does not hold; ProofError says where it comes from."""
    try:
        check(*arguments)
    except ProofError as error:
        advice = "'fhir-hook log verify' tells whether the log or the tree beside it was changed"
        raise ProofError(f"the tree's hashes do not give what was signed ({error}): {advice}") from None


def text(proof: dict[str, Any]) -> str:
    """A proof as text."""
    hashes = "".join(f"{each}\n" for each in proof["hashes"])
    if proof["proof"] == INCLUSION:
        extra = _b64(proof["record"].encode("utf-8", "surrogateescape"))
        return f"{_TEXT}\nextra {extra}\nindex {proof['seq']}\n{hashes}\n{proof['checkpoint']}"
    return f"old {proof['old']['size']}\n{hashes}\n{proof['checkpoint']}"


def parse(data: bytes) -> dict[str, Any]:
    """Read a proof, JSON or text; raises ProofError."""
    try:
        if data.lstrip()[:1] == b"{":
            document = json.loads(data)
            if not isinstance(document, dict) or document.get("proof") not in (INCLUSION, CONSISTENCY):
                raise ProofError("that is no proof of fhir-hook")
            return document
        head, border, signed = data.decode().partition("\n\n")
        lines = head.split("\n")
        if border and lines[0] == _TEXT and lines[1].startswith("extra ") and lines[2].startswith("index "):
            record = base64.b64decode(lines[1][6:], validate=True).decode("utf-8", "surrogateescape")
            return {
                "proof": INCLUSION,
                "seq": int(lines[2][6:]),
                "record": record,
                "hashes": lines[3:],
                "checkpoint": signed,
            }
        if border and lines[0].startswith("old "):
            old = {"size": int(lines[0][4:]), "root": "", "checkpoint": ""}
            return {"proof": CONSISTENCY, "old": old, "hashes": lines[1:], "checkpoint": signed}
    except (ValueError, IndexError, RecursionError):
        pass
    raise ProofError("that is no proof: neither JSON nor text of this program")


def check(proof: dict[str, Any], verifiers: list[note.Verifier], old: Signed | None = None) -> Signed:
    """Verify a proof with nothing but keys; returns the checkpoint that it rests on.

    `old` is the older checkpoint of a consistency proof, from where the proof did not come. Raises ProofError.
    """
    try:
        signed = checkpoint.opened(proof["checkpoint"].encode(), verifiers)
        hashes = [base64.b64decode(each, validate=True) for each in proof["hashes"]]
        if any(len(each) != merkle.HASH_SIZE for each in hashes) or len(hashes) > merkle.LONGEST_PROOF:
            raise ProofError("the proof's hashes are no hashes")
        if proof["proof"] == INCLUSION:
            leaf = merkle.leaf_hash(proof["record"].encode("utf-8", "surrogateescape"))
            merkle.check_inclusion(leaf, int(proof["seq"]), signed.checkpoint.size, hashes, signed.checkpoint.root)
            return signed
        before = old or _old(proof, verifiers)
        if before.checkpoint.size != int(proof["old"]["size"]):
            raise ProofError(f"the proof begins at {proof['old']['size']} records, the old checkpoint has another size")
        if before.checkpoint.origin != signed.checkpoint.origin:
            raise ProofError("the two checkpoints are of different logs")
        first, second = before.checkpoint, signed.checkpoint
        merkle.check_consistency(first.size, first.root, second.size, second.root, hashes)
        return signed
    except checkpoint.CheckpointError as error:
        raise ProofError(str(error)) from None
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error):
        raise ProofError("the proof lacks something, or it is not what it should be") from None


def _old(proof: dict[str, Any], verifiers: list[note.Verifier]) -> Signed:
    data = proof["old"].get("checkpoint") or ""
    if not data:
        raise ProofError("the proof holds no signed old checkpoint: give yours with --old")
    return checkpoint.opened(data.encode(), verifiers)


def record(where: Path, seq: int) -> bytes:
    """The line of record `seq`, found by halving: a few reads however long the log is. Raises ProofError, OSError."""
    with segments.snapshot(where) as parts:
        fitting = [part for part in parts if part.first <= seq]
        if not fitting:
            raise ProofError(f"record {seq} is not in this log any more: look in the archive (--log)")
        with fitting[-1].opened() as fd:
            return _search(fd, fitting[-1].size, seq)


def _search(fd: int, size: int, seq: int) -> bytes:
    low, high = 0, size  # `low` begins a line whose seq is at most `seq`; the wanted one begins before `high`
    while high - low > _NEAR:
        middle = (low + high) // 2
        start, found = _line_after(fd, middle, high)
        if found is None or found > seq:
            high = middle
        else:
            low = start
    data = os.pread(fd, high - low + log.LONGEST_RECORD, low)
    for line in data.split(b"\n"):
        match = _SEQ.match(line)
        if match and int(match[1]) == seq:
            return line + b"\n"
    raise ProofError(f"record {seq} is not where it should be: run 'fhir-hook log verify'")


def _line_after(fd: int, at: int, end: int) -> tuple[int, int | None]:
    """Where the first record behind byte `at` begins, and its seq; None when there is none before `end`."""
    while at < end:
        data = os.pread(fd, _READ, at)
        newline = data.find(b"\n")
        if newline < 0:
            at += len(data) or _READ
            continue
        start = at + newline + 1
        if start >= end:
            break
        match = _SEQ.match(os.pread(fd, 128, start))
        if match:
            return start, int(match[1])
        at = start
    return end, None


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
