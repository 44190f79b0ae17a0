"""Audit records of type 1326 as text."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fhir_hook.authoring.expand import NUMBERS
from fhir_hook.core.oci_seccomp import Meaning
from fhir_hook.kernel.seccomp_log import ERRNO, LOG, parse
from fhir_hook.recording import canary

RECORD = (
    "audit(1795265419.305:40971): auid=0 uid=65532 gid=0 ses=12 pid=22575 comm={} exe={} sig=0 arch=c000003e "
    "syscall=250 compat=0 ip=0x7fd990f1f829 code=0x{:x}"
)


@pytest.mark.parametrize("before", ["", "5,1234,99,-;audit: type=1326 "])
def test_a_record_is_read_from_either_way(before: str) -> None:
    denial = parse(before + RECORD.format('"java"', '"/opt/jre/bin/java"', 0x7FFC0000))
    assert denial is not None
    assert (denial.call, denial.comm, denial.exe, denial.code) == ("keyctl", "java", "/opt/jre/bin/java", LOG)
    assert (denial.uid, denial.session, denial.pid, denial.serial) == (65532, 12, 22575, 40971)


def test_attack_a_process_name_that_looks_like_the_rest_of_a_record() -> None:
    """Audit writes such names as hexadecimal digits (audit_log_untrustedstring)."""
    name = b'x" exe="/usr/bin/crun" syscall=1 \xff'
    denial = parse(RECORD.format(name.hex().upper(), '"/bin/evil"', 0x50001))
    assert denial is not None
    assert (denial.exe, denial.call, denial.code) == ("/bin/evil", "keyctl", ERRNO)
    assert denial.comm == 'x" exe="/usr/bin/crun" syscall=1 \\xff'


def test_calls_of_other_abis_and_unknown_numbers_have_a_name() -> None:
    text = RECORD.format('"a"', '"/a"', 0x50001)
    other = parse(text.replace("c000003e", "40000003"))
    newer = parse(text.replace("syscall=250", "syscall=999"))
    assert other is not None and other.call == "syscall_250 of another ABI"
    assert newer is not None and newer.call == "syscall_999"
    assert parse("audit(1.2:3): auid=0 type=1400 something else") is None


def test_the_canary_makes_its_call_and_ends(tmp_path: Path) -> None:
    program = tmp_path / "canary"
    program.write_bytes(canary.program("keyctl", "x86_64"))
    program.chmod(0o755)
    done = subprocess.run(["strace", "-n", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert [line.split("(")[0].split()[-1] for line in done.stderr.splitlines()[:3]] == [
        "execve",
        "keyctl",
        "exit_group",
    ]


def test_the_canarys_call_is_one_that_the_profile_denies_whatever_its_arguments_are() -> None:
    allow = {"names": ["keyctl"], "action": "SCMP_ACT_ALLOW"}
    assert canary.choose(Meaning({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [allow]})) == "add_key"
    assert canary.choose(Meaning({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []})) == ""
    assert set(canary.CALLS) <= set(NUMBERS["x86_64"]) & set(NUMBERS["aarch64"])
