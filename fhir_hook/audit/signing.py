"""Signing checkpoints: never one that contradicts one that was signed before.

The order is: the log's records are durable, then the tree's hashes, its state, the checkpoint beside the key, the one
that is published, the history. After a kill at any point the next run goes on from there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

from fhir_hook.audit import checkpoint, tiles, tree
from fhir_hook.audit.checkpoint import Checkpoint, Signed
from fhir_hook.audit.keys import Keys
from fhir_hook.audit.note import Signer
from fhir_hook.audit.places import Places
from fhir_hook.store import files, log

_LIMIT = 1 << 20


class Refused(Exception):
    """Nothing was signed, because it would contradict what was signed before; str() is one line."""


class Made:
    """What making a checkpoint did: the `signed` checkpoint, whether it is `new`, and how the tree was brought up to
    date."""

    def __init__(self, signed: Signed, new: bool, update: tree.Update) -> None:
        self.signed = signed
        self.new = new
        self.update = update


def make(places: Places, signers: list[Signer] | None = None) -> Made:
    """Bring the tree up to date and sign it, unless the newest checkpoint says the same already.

    `signers` are the current key alone, unless given. Raises Refused, keys.KeyProblem, tree.TreeError, OSError,
    log.LogError.
    """
    keys = Keys(places.keys)
    with tree.locked(places.tree):
        before = keys.signed() or _published(places, keys)
        chosen = signers or [keys.signer()]
        try:
            update = tree.update(places.tree, places.log)
        except tree.LogChanged as error:
            raise Refused(f"{error}; nothing was signed: run 'fhir-hook log verify'") from None
        root = update.state.root
        if before:
            _consistent(places, before.checkpoint, update.state)
        now = Checkpoint(chosen[-1].verifier.name, update.state.size, root)
        if before and before.checkpoint.text == now.text and signers is None:
            publish(places, before.data)
            return Made(before, False, update)
        data = checkpoint.sign(now, chosen)
        keys.remember(data)
        publish(places, data)
        _add_to_history(places, data)
        names = [f"{signer.verifier.name}+{signer.verifier.id.hex()}" for signer in chosen]
        return Made(Signed(data, now, names), True, update)


def _published(places: Places, keys: Keys) -> Signed | None:
    """The published checkpoint, where the one beside the key is lost."""
    try:
        return checkpoint.opened(files.read(str(places.checkpoint), _LIMIT), keys.verifiers())
    except (FileNotFoundError, files.FileError, checkpoint.CheckpointError):
        return None


def _consistent(places: Places, before: Checkpoint, state: tree.State) -> None:
    if before.size > state.size:
        raise Refused(
            f"the log has {state.size} records, {before.size} were signed before: {before.size - state.size} were cut "
            "off, or an older copy was put in its place; nothing was signed: run 'fhir-hook log verify'"
        )
    with tiles.Tiles(places.tree) as stored:
        if stored.root(before.size) != before.root:
            raise Refused(
                f"the first {before.size} records are not those that were signed before; nothing was signed: "
                "run 'fhir-hook log verify'"
            )


def publish(places: Places, data: bytes) -> None:
    """Put a signed checkpoint where it is read from; raises OSError."""
    try:
        if places.checkpoint.read_bytes() == data:
            return
    except FileNotFoundError:
        pass
    files.replace(str(places.checkpoint), data)


def _add_to_history(places: Places, data: bytes) -> None:
    line = json.dumps({"time": log.timestamp(time.time_ns()), "checkpoint": data.decode()}) + "\n"
    fd = os.open(places.history, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        size = os.fstat(fd).st_size
        tail = os.pread(fd, min(size, _LIMIT), max(0, size - _LIMIT))
        os.ftruncate(fd, size - (len(tail) - tail.rfind(b"\n") - 1))  # a line that a kill has torn
        files.write_all(fd, line.encode())
        os.fdatasync(fd)
    finally:
        os.close(fd)


def history(places: Places) -> Iterator[tuple[str, bytes]]:
    """Every checkpoint that was signed, oldest first: time and note. Lines that can't be read are left out."""
    try:
        lines = places.history.open("rb")
    except FileNotFoundError:
        return
    with lines:
        for line in lines:
            try:
                entry: dict[str, Any] = json.loads(line)
                yield entry["time"], entry["checkpoint"].encode()
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue


def of_size(places: Places, size: int) -> bytes | None:
    """The newest checkpoint of `size` records that was signed; None when there is none."""
    found = None
    for _, data in history(places):
        if data.split(b"\n")[1:2] == [str(size).encode()]:
            found = data
    return found
