"""Whether a container's server listens, and what its C library is: read in /proc."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import psutil

MOST_OF_LIBC = 8 << 20
LISTEN = "0A"  # tcp_states.h, TCP_LISTEN


def head(path: str, limit: int) -> bytes:
    """The first bytes of a regular file that a container may have put there; empty when it is something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        return os.pread(descriptor, limit, 0)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def processes(init: int) -> list[int]:
    """A container's first process and all below it."""
    try:
        return [init, *(child.pid for child in psutil.Process(init).children(recursive=True))]
    except psutil.Error:
        return []


def ports(init: int) -> list[int]:
    """TCP ports on which a process of the container listens, whoever else is in its network namespace."""
    sockets: dict[int, int] = {}
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{init}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if words[3] == LISTEN:
                sockets[int(words[9])] = int(words[1].rpartition(":")[2], 16)
    if not sockets:
        return []
    held = {inode for pid in processes(init) for inode in _sockets(pid)}
    return sorted({port for inode, port in sockets.items() if inode in held})


def _sockets(pid: int) -> set[int]:
    found = set()
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            target = os.readlink(entry.path)
            if target.startswith("socket:["):
                found.add(int(target[8:-1]))
    except OSError:
        pass
    return found


def libc(init: int) -> str:
    """glibc 2.36, musl 1.2.4, or "" when the process has none that can be told."""
    try:
        maps = Path(f"/proc/{init}/maps").read_text(errors="replace")
    except OSError:
        return ""
    paths = dict.fromkeys(re.findall(r"(/\S*(?:libc\.so\.6|libc-\d\S*\.so|ld-musl-\S+\.so\.1))$", maps, re.MULTILINE))
    for path in paths:
        text = head(f"/proc/{init}/root{path}", MOST_OF_LIBC)
        glibc = re.search(rb"GNU C Library [^\n]*? version ([0-9.]+[0-9])", text)
        if glibc:
            return f"glibc {glibc[1].decode()}"
        if "musl" in path:
            version = re.search(rb"\x00(1\.\d+\.\d+)\x00", text)
            return f"musl {version[1].decode()}" if version else "musl"
    return ""
