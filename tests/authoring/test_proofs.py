"""Proofs of programs that are kept: what they depend on, and whom they are believed from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fhir_hook.authoring import libseccomp, proofs, verify
from fhir_hook.core import bpf

SECTION: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}],
}
LOOSER = {**SECTION, "syscalls": [{"names": ["read", "write", "mount"], "action": "SCMP_ACT_ALLOW"}]}


@pytest.fixture(scope="module")
def program() -> bytes:
    return libseccomp.compile_section(SECTION, "x86_64")


def kept(program: bytes, tmp_path: Path) -> Path:
    """A file with the proof of the program."""
    made = proofs.Proofs()
    assert made.differences(SECTION, "x86_64", program) == []
    path = tmp_path / "proven"
    proofs.save(made, str(path))
    return path


def test_a_proof_that_was_kept_is_found_again(program: bytes, tmp_path: Path) -> None:
    loaded = proofs.load(str(kept(program, tmp_path)))
    assert len(loaded.known) == 1
    assert loaded.differences(SECTION, "x86_64", program) == []
    assert loaded.used == set(loaded.known)


def test_another_program_section_or_architecture_is_proven_anew(program: bytes, tmp_path: Path) -> None:
    loaded = proofs.load(str(kept(program, tmp_path)))
    looser = libseccomp.compile_section(LOOSER, "x86_64")
    assert any("mount" in line for line in loaded.differences(SECTION, "x86_64", looser))
    assert any("mount" in line for line in loaded.differences(LOOSER, "x86_64", program))
    assert loaded.differences(SECTION, "aarch64", program) != []
    assert loaded.used == set()


def test_what_is_wrong_is_never_kept(tmp_path: Path) -> None:
    made = proofs.Proofs()
    looser = libseccomp.compile_section(LOOSER, "x86_64")
    assert made.differences(SECTION, "x86_64", looser) == verify.differences(SECTION, "x86_64", looser) != []
    assert made.used == set()


def test_a_program_that_the_kernel_would_refuse_is_no_proof() -> None:
    with pytest.raises(bpf.BpfError):
        proofs.Proofs().differences(SECTION, "x86_64", b"\0" * 8)


@pytest.mark.parametrize("way", ["missing", "writable by others", "a link", "not text", "half a digest"])
def test_a_file_that_can_not_be_believed_has_no_proof(program: bytes, tmp_path: Path, way: str) -> None:
    path = kept(program, tmp_path)
    if way == "missing":
        path.unlink()
    elif way == "writable by others":
        path.chmod(0o666)
    elif way == "a link":
        os.rename(path, tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif way == "not text":
        path.write_bytes(b"\xff" + path.read_bytes())
    else:
        path.write_bytes(path.read_bytes()[:32])
    loaded = proofs.load(str(path))
    assert loaded.differences(SECTION, "x86_64", program) == []
    assert loaded.used and not loaded.used & loaded.known
