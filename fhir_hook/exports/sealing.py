"""Sealing with age (age-encryption.org/v1): a file that only its readers can open, and what the log keeps of it.

Encrypting is done by the program age, as a subprocess between two pipes; nothing is on a disk in the clear. age does
not say who sealed a file, and can't take a reader away again: the log's record of its digest is what makes it ours.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from fhir_hook.audit.selection import items, text
from fhir_hook.exports.wording import clean

AGE = "/usr/bin/age"
RECOVERY = "recovery"
MOST_READERS = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@ -]{0,62}")
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")  # X25519 only: age1NAME1... would run a program age-plugin-NAME
_PIECE = 1 << 16
_LONGEST_HEADER = 1 << 16


class SealingError(Exception):
    """The file can't be sealed or opened; str() is one line."""


class Reader:
    """Who may open a file: a name for people, and an age recipient."""

    def __init__(self, name: str, recipient: str) -> None:
        if not _NAME.fullmatch(name):
            raise SealingError(f"{ascii(name)} is no name for a reader: letters, digits and . _ @ - only, at most 63")
        if not _RECIPIENT.fullmatch(recipient):
            raise SealingError(f"{ascii(recipient)} is no age recipient: age1 and 58 characters, as age-keygen -y says")
        self.name = name
        self.recipient = recipient


def readers(given: Sequence[str], recovery: str = "") -> list[Reader]:
    """NAME=age1... for each reader, and the recovery key; raises SealingError."""
    found = []
    for each in given:
        name, equals, recipient = each.partition("=")
        if not equals or name == RECOVERY:
            raise SealingError(f"{ascii(each)}: write NAME=age1..., with another name than {RECOVERY}")
        found.append(Reader(name, recipient))
    found += [Reader(RECOVERY, recovery)] if recovery else []
    return checked(found)


def checked(found: list[Reader]) -> list[Reader]:
    """The readers, if each name and each recipient occurs once; raises SealingError."""
    for values in ([each.name for each in found], [each.recipient for each in found]):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise SealingError(f"{twice[0]} is named twice")
    if not 0 < len(found) <= MOST_READERS:
        raise SealingError(f"{len(found)} readers, not 1 to {MOST_READERS}")
    return found


class Seen:
    """What went by: the SHA-256 and size of a file, and its beginning, in which age's header is."""

    def __init__(self) -> None:
        self._digest = sha256()
        self.size = 0
        self._head = b""

    def through(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces, unchanged."""
        for piece in pieces:
            self._digest.update(piece)
            self.size += len(piece)
            if len(self._head) < _LONGEST_HEADER:
                self._head += piece[:_LONGEST_HEADER]
            yield piece

    @property
    def digest(self) -> str:
        """SHA-256."""
        return self._digest.hexdigest()

    def wrapped(self) -> list[str]:
        """The stanzas of age's header, in each of which the file's key is wrapped for one reader."""
        header = self._head.partition(b"\n--- ")[0].decode("ascii", "replace").split("\n")
        stanzas: list[str] = []
        for line in header[1:]:
            if line.startswith("-> "):
                stanzas.append(line[3:])
            elif stanzas:
                stanzas[-1] += " " + line
        return [clean(stanza, 512) for stanza in stanzas[:MOST_READERS]]


def sealed(source: int, to: list[Reader], seen: Seen) -> Iterator[bytes]:
    """The ciphertext, for these readers, of what is read from `source`; raises SealingError at its end."""
    with running([AGE, *_recipients(to)], source) as age:
        yield from seen.through(_pieces(age))


def opened(source: int, identity: Path) -> Iterator[bytes]:
    """The plaintext of a sealed file; raises SealingError at its end, when a part of it may be out already."""
    with running([AGE, "--decrypt", "-i", str(identity.absolute())], source) as age:
        yield from _pieces(age)


def resealed(source: int, identity: Path, to: list[Reader], seen: Seen) -> Iterator[bytes]:
    """A sealed file anew for these readers, in the clear in two pipes only; raises SealingError."""
    with running([AGE, "--decrypt", "-i", str(identity.absolute())], source) as before:
        assert before.stdout is not None
        with running([AGE, *_recipients(to)], before.stdout.fileno()) as after:
            before.stdout.close()
            yield from seen.through(_pieces(after))


def _recipients(to: list[Reader]) -> list[str]:
    return [word for each in to for word in ("-r", each.recipient)]


@contextmanager
def running(argv: list[str], source: int) -> Iterator[subprocess.Popen[bytes]]:
    """age at work; leaving the block without an exception waits for its success."""
    try:
        age = subprocess.Popen(
            argv, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PATH": "/usr/bin:/bin"}
        )
    except OSError:
        raise SealingError(f"{AGE} can't be run: install the package age") from None
    try:
        yield age
        _finish(age)
    finally:
        age.kill()
        age.wait()
        for pipe in (age.stdout, age.stderr):
            if pipe is not None:
                pipe.close()


def _pieces(age: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert age.stdout is not None
    while piece := age.stdout.read(_PIECE):
        yield piece


def _finish(age: subprocess.Popen[bytes]) -> None:
    assert age.stderr is not None
    if age.stderr.closed:
        return
    said = age.stderr.read(4096).decode("utf-8", "replace").partition("\n")[0].removeprefix("age: error: ")
    if age.wait() != 0:
        raise SealingError(f"age: {clean(said, 200) or 'failed'}")


def record(to: list[Reader], seen: Seen, was: str = "") -> dict[str, Any]:
    """What the log keeps of a sealed file; `was` is the digest of the one that it takes the place of."""
    fields: dict[str, Any] = {
        "event": "sealed",
        "sha256": seen.digest,
        "bytes": seen.size,
        "readers": [{"name": each.name, "recipient": each.recipient} for each in to],
        "wrapped": seen.wrapped(),
    }
    return fields | ({"was": was} if was else {})


def readers_of(found: dict[str, Any]) -> list[Reader]:
    """The readers that a record names; raises SealingError."""
    return checked([Reader(text(each, "name"), text(each, "recipient")) for each in items(found, "readers")])


@contextmanager
def held(source: int) -> Iterator[tuple[int, str]]:
    """A copy of a sealed file and its SHA-256: what was looked up in the log is what is opened, whoever writes there.

    The copy is ciphertext, has no name, and is gone with the block.
    """
    found = sha256()
    with tempfile.TemporaryFile() as copy:
        while piece := os.read(source, 1 << 20):
            found.update(piece)
            copy.write(piece)
        copy.seek(0)  # writes what is buffered, and puts the descriptor there
        yield copy.fileno(), found.hexdigest()
