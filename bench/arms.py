"""The arms: Podman without the hook, with it in each of its ways, and with what others would take in its place."""

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
_ENGINE = {"podman", "conmon", "runc", "crun", "runsc"}
# what each arm is, in the words of the tables
ARMS = {
    "unconfined": "no hook, no filter",
    "none": "no hook, the engine's default",
    "native": "fhir-hook, native",
    "live": "fhir-hook, live",
    "hand": "the same profile by hand",
    "conventional": "a conventional Python hook",
    "gvisor": "gVisor",
    "gvisor-debian": "gVisor of Debian 12",
}
PROGRAMS = Path(__file__).resolve().parent / "programs"
# gVisor is given the container's own network stack, and needs no cgroups: it can't handle those of an older kind
RUNSC = {"gvisor": "systrap", "gvisor-debian": "ptrace"}


class BenchError(Exception):
    """A measurement can't be made; str() says why in one line or more."""


class Bench:
    """The private host with the product installed; `full` asks for what takes long, too."""

    def __init__(self, install: bool, full: bool = False) -> None:
        self.full = full
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
        self._profiles: dict[str, Path] = {}
        self._conventional: Path | None = None
        self._runsc: Path | None = None

    def result(self, name: str, unit: str, arms: list[str], blocks: list[list[float]], **about: object) -> Result:
        """A result of this machine."""
        return Result(name, unit, arms, blocks, self.machine, about)

    def podman(
        self, arm: str, verb: str, *arguments: str | Path, runtime: str = "runc", profile: str = "hapi"
    ) -> list[str]:
        """The command line of one of ARMS; `profile` is the one that "hand" applies. Raises BenchError."""
        before, after = self._way(arm, profile)
        flags = [] if "--runtime" in before else ["--runtime", runtime]
        return ["podman", *flags, *before, verb, *after, *(str(argument) for argument in arguments)]

    def _way(self, arm: str, profile: str) -> tuple[list[str], list[str]]:
        """Podman's own options, and those of its `run`."""
        no_hooks = ["--hooks-dir", str(self.no_hooks)]
        if arm == "native":
            return [], []
        if arm == "live":
            return ["--hooks-dir", PRESTART_ONLY], []
        if arm == "unconfined":
            return no_hooks, ["--security-opt", "seccomp=unconfined"]
        if arm == "hand":
            seccomp = f"seccomp={self._by_hand(profile)}"
            return no_hooks, ["--cap-drop", "all", "--security-opt", "no-new-privileges", "--security-opt", seccomp]
        if arm == "conventional":
            return ["--hooks-dir", str(self.conventional())], []
        if arm in RUNSC:
            flags = ("network=host", "ignore-cgroups", f"platform={RUNSC[arm]}")
            return [*no_hooks, *self._runtime(arm), *(word for flag in flags for word in ("--runtime-flag", flag))], []
        return no_hooks, []

    def _by_hand(self, profile: str) -> Path:
        if profile not in self._profiles:
            path = self.host.directory() / f"{profile}.json"
            self.host.run(["fhir-hook", "profile", "export", profile, "-o", path], check=True)
            self._profiles[profile] = path
        return self._profiles[profile]

    def conventional(self) -> Path:
        """A hooks directory with bench/programs/conventional_hook.py in the place of fhir-hook."""
        if self._conventional is None:
            top = self.host.directory()
            self.host.run(["fhir-hook", "profile", "export", "hapi", "-o", top / "hapi.json"], check=True)
            hook = top / "hook"
            hook.write_bytes((PROGRAMS / "conventional_hook.py").read_bytes())
            hook.chmod(0o755)
            entry = {
                "version": "1.0.0",
                "hook": {"path": str(hook), "args": ["hook"], "env": ["PATH=/usr/bin:/bin"]},
                "when": {"always": True},
                "stages": ["precreate"],
            }
            (top / "hooks.d").mkdir()
            (top / "hooks.d" / "conventional.json").write_text(json.dumps(entry))
            self._conventional = top / "hooks.d"
        return self._conventional

    def _runtime(self, arm: str) -> list[str]:
        if self._runsc is None:
            build = subprocess.run([PROGRAMS.parent / "gvisor"], stdout=subprocess.PIPE, text=True, check=False)
            if build.returncode != 0:
                raise BenchError("gVisor is not built: run tests/host/enter --net bench/gvisor")
            self._runsc = Path(build.stdout.strip())
        program = self._runsc / ("runsc" if arm == "gvisor" else "runsc-debian")
        if not program.exists():
            raise BenchError(f"{program} is not there: run tests/host/enter --net bench/gvisor")
        return ["--runtime", str(program)]

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
    source = PROGRAMS / f"{name}.c"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-static", "-no-pie", "-pthread"]
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
