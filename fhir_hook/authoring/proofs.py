"""Which programs were proven before: proving one takes longer than all the rest of compiling, and never ends otherwise.

A proof is known by the digest of everything that it depends on: the section, the architecture, the program, and the
code that proves. The package brings the proofs of its own profiles, made when it was built; a host adds its own.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from fhir_hook.authoring import expand, verify
from fhir_hook.core import bpf, condition, jsonio, oci_seccomp, paths
from fhir_hook.core.digest import sha256_hex
from fhir_hook.store import files

LONGEST = 4 << 20
PROVING = (verify, bpf, oci_seccomp, condition)


class Proofs:
    """Proofs that are known, and those of them (and new ones) that were asked for."""

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        self.known = known
        self.used: set[str] = set()

    def differences(self, section: dict[str, Any], arch: str, program: bytes) -> list[str]:
        """As verify.differences, from what is known where possible. Raises bpf.BpfError."""
        key = sha256_hex(jsonio.canonical([_code(), arch, section]) + program)
        if key in self.known or key in self.used:
            self.used.add(key)
            return []
        wrong = verify.differences(section, arch, program)
        if not wrong:
            self.used.add(key)
        return wrong


def load(*sources: str) -> Proofs:
    """The proofs of files of one digest a line; one that is missing, or that others could have written, has none."""
    known: set[str] = set()
    for path in sources or (paths.SHIPPED_PROOFS, paths.PROOFS):
        try:
            known.update(files.read_trusted(path, LONGEST).decode("ascii").split())
        except (OSError, files.FileError, UnicodeDecodeError):
            continue
    return Proofs(frozenset(known))


def save(proofs: Proofs, path: str = paths.PROOFS) -> None:
    """Keep what was used; raises OSError."""
    files.replace(path, "".join(f"{key}\n" for key in sorted(proofs.used)).encode("ascii"))


@functools.cache
def _code() -> str:
    """Digest of the modules that prove and of the call numbers that they go through."""
    texts = [Path(module.__file__ or "").read_bytes() for module in PROVING]
    return sha256_hex(b"\0".join(texts) + jsonio.canonical(expand.NUMBERS))
