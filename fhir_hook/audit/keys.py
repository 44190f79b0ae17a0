"""The log's signing key, its earlier ones, and the last checkpoint that it signed.

`log.key` (mode 0600) is the private key; `log.json` holds the log's origin, the machine it was made on, and every
verifier key with the time from which it signed; `signed` is the checkpoint that was signed last, written before it is
published. It lies beside the key, not beside the tree: whoever has the key knows what must not be contradicted.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from fhir_hook.audit import checkpoint, note
from fhir_hook.store import files, log

_KEY, _ABOUT, _SIGNED = "log.key", "log.json", "signed"
_LIMIT = 1 << 20


class KeyProblem(Exception):
    """The key can't be used; str() is one line that says what to do."""


class Keys:
    """The keys in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def exist(self) -> bool:
        """Whether a log identity was made here, even if its private key is lost."""
        return (self.directory / _ABOUT).exists()

    def about(self) -> dict[str, Any]:
        """origin, machine, keys; raises KeyProblem."""
        path = self.directory / _ABOUT
        try:
            document = json.loads(files.read(str(path), _LIMIT))
            [note.Verifier.parse(each["key"]) for each in document["keys"]]
            note.checked_name(document["origin"])
        except FileNotFoundError:
            raise KeyProblem("the log has no key yet: run 'fhir-hook log key new' as root") from None
        except OSError as error:
            raise KeyProblem(f"{path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, note.NoteError, files.FileError) as error:
            raise KeyProblem(f"{path} can't be read ({error}): restore it from a backup") from None
        return document  # type: ignore[no-any-return]

    def verifiers(self) -> list[note.Verifier]:
        """Every key that ever signed, the current one last; raises KeyProblem."""
        return [note.Verifier.parse(each["key"]) for each in self.about()["keys"]]

    def signer(self) -> note.Signer:
        """The private key, if it is the current one and was made on this machine; raises KeyProblem."""
        about = self.about()
        path = self.directory / _KEY
        try:
            signer = note.Signer.parse(files.read(str(path), _LIMIT).decode("utf-8", "replace"))
        except FileNotFoundError:
            advice = "restore it from a backup, or run 'fhir-hook log key new --lost'"
            raise KeyProblem(f"{path} is lost: {advice}") from None
        except OSError as error:
            raise KeyProblem(f"{path}: {error.strerror}") from None
        except (note.NoteError, files.FileError) as error:
            raise KeyProblem(f"{path}: {error}") from None
        if str(signer.verifier) != about["keys"][-1]["key"]:
            raise KeyProblem(f"{path} is not the current key of {about['origin']}: restore it from a backup")
        if about["machine"] != machine():
            raise KeyProblem(
                f"the key of {about['origin']} was made on another machine, and two hosts must not sign as one log: "
                "run 'fhir-hook log key new --copied' on the copy"
            )
        return signer

    def create(self, origin: str) -> note.Signer:
        """Make a key for a log that is called `origin` from now on, whatever was there; raises KeyProblem, OSError."""
        signer = _generate(origin)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.forget()
        self._keep(signer)
        self._describe({"origin": origin, "machine": machine(), "keys": [_entry(signer)]})
        return signer

    def successor(self) -> note.Signer:
        """A key that could take the place of the current one; nothing is kept. Raises KeyProblem."""
        return _generate(self.about()["origin"])

    def replace(self, signer: note.Signer) -> None:
        """Put `signer` in the place of the current key; raises KeyProblem, OSError."""
        about = self.about()
        # The description first: a key that is described and was not kept is lost, which is noticed, and put right.
        self._describe({**about, "machine": machine(), "keys": [*about["keys"], _entry(signer)]})
        self._keep(signer)

    def adopt(self, about: dict[str, Any], signed: bytes) -> None:
        """Take over a restored log: its public description and its newest checkpoint, without a private key."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._describe(about)
        self.remember(signed)

    def _keep(self, signer: note.Signer) -> None:
        files.replace(str(self.directory / _KEY), (signer.secret() + "\n").encode(), 0o600)

    def _describe(self, about: dict[str, Any]) -> None:
        files.replace(str(self.directory / _ABOUT), (json.dumps(about, indent=1) + "\n").encode(), 0o644)

    def signed(self) -> checkpoint.Signed | None:
        """The checkpoint that was signed last; None when there is none. Raises KeyProblem."""
        path = self.directory / _SIGNED
        try:
            return checkpoint.opened(files.read(str(path), _LIMIT), self.verifiers())
        except FileNotFoundError:
            return None
        except (OSError, files.FileError, checkpoint.CheckpointError) as error:
            advice = "put the newest checkpoint that is held elsewhere in its place"
            raise KeyProblem(f"{path} can't be used ({error}): {advice}") from None

    def remember(self, data: bytes) -> None:
        """Keep a checkpoint as the one that was signed last; raises OSError."""
        files.replace(str(self.directory / _SIGNED), data, 0o644)

    def forget(self) -> None:
        """A new log begins: nothing was signed for it yet."""
        (self.directory / _SIGNED).unlink(missing_ok=True)


def _entry(signer: note.Signer) -> dict[str, str]:
    return {"key": str(signer.verifier), "since": log.timestamp(time.time_ns())}


def _generate(name: str) -> note.Signer:
    try:
        return note.Signer(name, secrets.token_bytes(32))
    except note.NoteError as error:
        raise KeyProblem(str(error)) from None


def new_origin() -> str:
    """A name for this host's log that no other log has: HOST/fhir-hook/8 digits."""
    host = "".join(c for c in os.uname().nodename if c.isascii() and (c.isalnum() or c in ".-")) or "host"
    return f"{host}/fhir-hook/{secrets.token_hex(4)}"


def machine() -> str:
    """What tells this machine from others: a digest of /etc/machine-id (machine-id(5) asks not to show the id
    itself)."""
    try:
        id = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        id = b""
    return sha256(b"fhir-hook log\n" + id).hexdigest()[:16]
