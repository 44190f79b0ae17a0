"""The machine that measured, in words that a reader of the table needs."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

VERSIONS = {
    "podman": ["podman", "--version"],
    "runc": ["runc", "--version"],
    "crun": ["crun", "--version"],
    "python": ["/usr/bin/python3", "--version"],
}


def describe() -> dict[str, Any]:
    """Processor, memory, kernel, distribution, versions, the time and the load when it was asked."""
    return {
        "processor": _field("/proc/cpuinfo", "model name"),
        "cpus": os.cpu_count(),
        "memory_mib": int(_field("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "distribution": platform.freedesktop_os_release()["PRETTY_NAME"],
        "virtual": "hypervisor" in _field("/proc/cpuinfo", "flags").split(),
        "versions": {name: _version(command) for name, command in VERSIONS.items()},
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load": os.getloadavg()[0],
    }


def sentence(machine: dict[str, Any]) -> str:
    """One sentence of it."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    kind = "virtual machine" if machine["virtual"] else "machine"
    return (
        f"{machine['processor']}, {machine['cpus']} CPUs of a {kind}, {machine['memory_mib'] / 1024:.0f} GiB, "
        f"{machine['distribution']}, Linux {machine['kernel']} {machine['architecture']}; {versions}"
    )


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _version(command: list[str]) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+(\.\d+)+", said)
    return found.group() if found else "unknown"
