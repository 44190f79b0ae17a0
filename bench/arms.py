"""The arms: Podman without the hook, with it as installed (native), and with the prestart hook alone (live)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from bench import machine
from bench.result import Result
from host.machine import ROOT, Archives, Host, missing_packages

# as the files in hooks.d/ give it to the hook
HOOK_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
HOOK = "/usr/libexec/fhir-hook/hook"
PRESTART_ONLY = "/usr/share/containers/oci/hooks.d"
_ENGINE = {"podman", "conmon", "runc", "crun"}


class BenchError(Exception):
    """A measurement can't be made; str() says why in one line or more."""


class Bench:
    """The private host with the product installed."""

    def __init__(self, install: bool) -> None:
        packages = missing_packages()
        if packages:
            raise BenchError(f"tools are missing: apt-get install {' '.join(packages)}")
        if os.environ.get("FHIR_HOOK_HOST") != "1":
            raise BenchError("needs the private host: run make bench, or tests/host/enter bench/run")
        if install:
            done = subprocess.run(["make", "-s", "-C", ROOT, "install"], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise BenchError(f"make install failed:\n{done.stdout}{done.stderr}")
        self.host = Host(Archives())
        self.no_hooks = self.host.directory()
        self.machine = machine.describe()

    def result(self, name: str, unit: str, arms: list[str], blocks: list[list[float]], **about: object) -> Result:
        """A result of this machine."""
        return Result(name, unit, arms, blocks, self.machine, about)

    def podman(self, arm: str, *arguments: str | Path, runtime: str = "runc") -> list[str]:
        """The command line of one arm: "none", "native" or "live"."""
        hooks = {"none": ["--hooks-dir", str(self.no_hooks)], "native": [], "live": ["--hooks-dir", PRESTART_ONLY]}
        return ["podman", "--runtime", runtime, *hooks[arm], *(str(argument) for argument in arguments)]

    def settle(self) -> None:
        """Waits until no engine or runtime is still tidying up after the container that has just ended."""
        end = time.monotonic() + 5
        while time.monotonic() < end and _ENGINE & set(_names()):
            time.sleep(0.005)

    def config(self, tag: str, *command: str) -> tuple[str, bytes]:
        """Starts a container and returns its name and the config.json that Podman shows to a precreate hook."""
        kept = self.host.directory()
        shell = f"cat >{kept}/config.json; cat {kept}/config.json"
        hook = {"path": "/bin/sh", "args": ["sh", "-c", shell], "env": ["PATH=/usr/bin:/bin"]}
        entry = {"version": "1.0.0", "hook": hook, "when": {"always": True}, "stages": ["precreate"]}
        (kept / "hooks").mkdir()
        (kept / "hooks" / "keep.json").write_text(json.dumps(entry))
        self.host.load(tag)
        self.host.run(
            ["podman", "--hooks-dir", kept / "hooks", "run", "-d", "--network", "none", tag, *command], check=True
        )
        name = self.host.podman("ps", "-lq", "--no-trunc", check=True).stdout.strip()
        return name, (kept / "config.json").read_bytes()

    def remove(self, *containers: str) -> None:
        """Removes containers at once."""
        self.host.podman("rm", "-f", "-t", "0", *containers, hooks=False)


def timed(
    argv: list[str], stdin: Path | None = None, stderr: int = subprocess.PIPE, env: dict[str, str] | None = None
) -> float:
    """Wall time of one command in milliseconds; BenchError with what it said on `stderr` when it fails."""
    source = stdin.open("rb") if stdin else None
    try:
        began = time.perf_counter_ns()
        done = subprocess.run(
            argv, stdin=source or subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, env=env, check=False
        )
        took = time.perf_counter_ns() - began
    finally:
        if source:
            source.close()
    if done.returncode != 0:
        said = (done.stderr or b"").decode(errors="replace")
        raise BenchError(f"{' '.join(argv)}: exit code {done.returncode}: {said}")
    return round(took / 1e6, 4)


def compiled(name: str, directory: Path) -> Path:
    """A static program from bench/programs/NAME.c."""
    source = Path(__file__).resolve().parent / "programs" / f"{name}.c"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-static", "-no-pie"]
    subprocess.run(["gcc", *flags, "-o", directory / name, source], check=True, stdout=sys.stderr)
    return directory / name


def _names() -> list[str]:
    names = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                names.append(Path(entry.path, "comm").read_text().strip())
            except OSError:
                continue
    return names
