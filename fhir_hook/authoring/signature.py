"""Signatures of the security officer on profiles and settings: OpenSSH's own (ssh-keygen -Y, PROTOCOL.sshsig).

Once /etc/fhir-hook/signers exists (ALLOWED SIGNERS in ssh-keygen(1)), a policy is compiled of signed files only: each
file below /etc/fhir-hook has its signature beside it, as FILE.sig. What the package ships is the package manager's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from fhir_hook.core import paths
from fhir_hook.core.digest import sha256_hex
from fhir_hook.store import files

NAMESPACE = "fhir-hook"
SUFFIX = ".sig"
MAX_BYTES = 1 << 20
SECONDS = 30
HOW = f"ssh-keygen -Y sign -n {NAMESPACE} -f KEY"


class SignersError(Exception):
    """Whose signatures count can't be told; str() is one line."""


@dataclasses.dataclass(frozen=True)
class Signers:
    """The keys that may sign, as their file was read: its `path` and its content."""

    path: str
    data: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the content, by which a change of it is seen."""
        return sha256_hex(self.data)

    def problem(self, path: Path, data: bytes) -> str:
        """Why `data`, which was read from `path`, does not count as signed, in one line; "" when it does."""
        beside = Path(f"{path}{SUFFIX}")
        try:
            signature = files.read(str(beside), MAX_BYTES)
        except FileNotFoundError:
            return f"it is not signed, and {self.path} asks for it: {HOW} {path}"
        except (OSError, files.FileError) as error:
            return f"its signature {beside}: {getattr(error, 'strerror', None) or error}"
        try:
            with _held(signature) as made, _held(self.data) as signers:
                return self._judge(path, data, ("-s", made, "-f", signers))
        except FileNotFoundError:
            return "signatures can't be checked: ssh-keygen is not installed (apt install openssh-client)"
        except subprocess.TimeoutExpired:
            return f"ssh-keygen did not judge its signature within {SECONDS} s"

    def _judge(self, path: Path, data: bytes, given: tuple[str, ...]) -> str:
        found = _ssh_keygen("find-principals", *given)
        if found.returncode != 0:
            return f"nobody in {self.path} made its signature: have one of these keys sign it: {HOW} {path}"
        who = found.stdout.decode(errors="replace").splitlines()[0].split(",")[0]
        if _ssh_keygen("verify", "-n", NAMESPACE, "-I", who, *given, data=data).returncode != 0:
            return f"its signature by {_printable(who)} is for another content or purpose: sign it anew: {HOW} {path}"
        return ""


def load(path: str = paths.SIGNERS) -> Signers | None:
    """Who may sign, None when nothing has to be signed. Raises SignersError."""
    try:
        data = files.read_trusted(path, MAX_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, files.FileError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).removeprefix(path).lstrip(": ")
        raise SignersError(f"{path}: {reason}") from None
    if not re.search(rb"(?m)^[^#\s]", data):
        raise SignersError(f"{path} names nobody: a line for each key, as in ssh-keygen(1), ALLOWED SIGNERS")
    return Signers(path, data)


def changed(before: str, now: Signers | None) -> str:
    """Why signers have to be accepted first, or "": `before` is the digest of those of the policy in force, or ""."""
    if not before or (now is not None and now.digest == before):
        return ""
    what = f"{now.path} is another than" if now is not None else f"{paths.SIGNERS} is gone, which was there"
    return f"{what} when the policy in force was compiled: fhir-hook policy compile --accept-signers, which is recorded"


@contextlib.contextmanager
def _held(data: bytes) -> Iterator[str]:
    """A path of what was read: it is what is judged, whoever replaces the files meanwhile."""
    descriptor = os.memfd_create("signed", 0)
    try:
        files.write_all(descriptor, data)
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _ssh_keygen(verb: str, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["ssh-keygen", "-Y", verb, *words],
        input=data,
        capture_output=True,
        timeout=SECONDS,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)[:64]
