"""Exported profiles in the hands of those they are for: Podman on runc and crun, and the kernel itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from authoring.sandbox import SHIPPED
from fhir_hook.authoring import libseccomp
from host.machine import Host
from review.support import finder


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_podman_runs_a_container_under_an_exported_profile(host: Host, runtime: str, kind: str) -> None:
    host.load("probe:plain")
    path = host.directory() / "hapi.json"
    host.run(["fhir-hook", "profile", "export", "hapi", "--format", kind, "-o", path], check=True)
    options = ["--rm", "--network", "none", "--security-opt", f"seccomp={path}", "--security-opt", "no-new-privileges"]
    attempts = ["unshare_user", "ptrace", "mount", "keyctl", "bpf", "io_uring_setup"]
    done = host.podman("run", *options, "localhost/probe:plain", "try", *attempts, runtime=runtime, hooks=False)
    assert done.returncode in (0, 1), done.stderr
    answers = dict(line.split()[:2] for line in done.stdout.splitlines())
    assert answers.keys() == set(attempts) and set(answers.values()) <= {"EPERM", "ENOSYS"}, done.stdout


CHILD = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
code = open(sys.argv[1], "rb").read()
buffer = ctypes.create_string_buffer(code)
libc.prctl(38, 1, 0, 0, 0)
program = Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0, ctypes.get_errno()
for family in (38, 38 | 1 << 32, 40, 40 | 1 << 32):
    ctypes.set_errno(0)
    kind = 5 if family & 0xff == 38 else 1
    fd = libc.syscall(ctypes.c_long(41), ctypes.c_ulong(family), ctypes.c_ulong(kind), ctypes.c_ulong(0))
    print("blocked" if fd < 0 and ctypes.get_errno() == 1 else "passed")
"""


def test_the_upper_half_of_the_register_passes_dockers_comparison_in_the_kernel_too(tmp_path: Path) -> None:
    """Why three CVEs that Docker means to close count as reachable: the kernel takes 32 bits, the filter sees 64."""
    document = json.loads((SHIPPED / "kernel" / "docker-default.json").read_text())
    program = tmp_path / "docker.bpf"
    program.write_bytes(libseccomp.compile_section(document["seccomp"]["x86_64"], "x86_64"))
    child = tmp_path / "child.py"
    child.write_text(CHILD)
    argv = [sys.executable, "-B", child, program]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["blocked", "passed", "blocked", "passed"], done.stderr


def test_no_shipped_profile_can_be_passed_that_way() -> None:
    found = finder()
    for name in found.sources.profiles:
        meaning = found.find(name).meaning
        for family in (17, 38, 40, 16):
            assert meaning.answer("socket", (family | 1 << 32, 3, 12))[0] != "SCMP_ACT_ALLOW", name
