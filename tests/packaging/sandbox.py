"""Runs a command as a unit's sandbox would, where systemd itself can't run: sandbox.py UNIT COMMAND [ARG...]

What is taken from the unit: ReadWritePaths with ProtectSystem=strict, CapabilityBoundingSet, NoNewPrivileges,
MemoryDenyWriteExecute, SystemCallFilter with its groups, RestrictAddressFamilies. Must be called in a mount namespace
of its own, as root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import seccomp

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fhir_hook.core import capabilities  # noqa: E402

PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN = 65, 1


def values(unit: Path, key: str) -> list[str]:
    """All values of a key, in order."""
    lines = unit.read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def calls(group: str) -> set[str]:
    """The system calls of a group, groups in it included."""
    if not group.startswith("@"):
        return {group}
    words = ["systemd-analyze", "syscall-filter", group]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    names = [line.strip() for line in said.splitlines()[1:] if line.startswith("    ")]
    found: set[str] = set()
    for name in names:
        if not name.startswith("#"):
            found |= calls(name)
    return found


def allowed(unit: Path) -> set[str]:
    result: set[str] = set()
    for value in values(unit, "SystemCallFilter"):
        groups = set().union(*(calls(group) for group in value.removeprefix("~").split()))
        result = result - groups if value.startswith("~") else result | groups
    return result | calls("@default") | {"execve"}


def families(unit: Path) -> list[int]:
    """The address families that sockets may have."""
    names = " ".join(values(unit, "RestrictAddressFamilies")).split()
    return [getattr(socket, name, 16) for name in names if name != "none"]  # 16: AF_NETLINK


def main(unit: Path, argv: list[str]) -> None:
    names = allowed(unit)
    writable = [path.lstrip("-") for value in values(unit, "ReadWritePaths") for path in value.split()]
    for path in writable:
        if os.path.isdir(path):
            subprocess.run(["mount", "--bind", path, path], check=True)
    # not recursive: /proc, /dev and the writable ones stay as they are
    for place in ("/usr", "/etc", "/var/lib", "/var/log"):
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
    assert not os.access("/etc/fhir-hook", os.W_OK)
    context = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for name in sorted(names - {"socket"}):
        try:
            context.add_rule(seccomp.ALLOW, name)
        except (RuntimeError, ValueError):
            continue  # newer than this libseccomp
    for family in families(unit):
        context.add_rule(seccomp.ALLOW, "socket", seccomp.Arg(0, seccomp.EQ, family))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
        print("no MDWE on this kernel", file=sys.stderr)
    kept = capabilities.mask(" ".join(values(unit, "CapabilityBoundingSet")).split())
    for capability in range(64):
        if not kept >> capability & 1:
            libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; of those that the kernel knows
    if not kept:
        libc.prctl(28, 0x2F, 0, 0, 0)  # PR_SET_SECUREBITS: root's id gives no capability back
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    context.load()
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
