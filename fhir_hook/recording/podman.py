"""Podman as recording and trying profiles use it: with the machine's hooks but for this product's own."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

HOOKS = ("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d")
OWN_HOOK = "50-fhir-hook.json"


class PodmanError(Exception):
    """Podman could not do it; str() is one line."""


class Podman:
    """A context with a folder of hooks: those of the machine without fhir-hook's."""

    def __init__(self, runtime: str = "") -> None:
        """Raises PodmanError when there is no podman."""
        if shutil.which("podman") is None:
            raise PodmanError("podman is not installed: apt install podman, or record a process with --pid")
        self._runtime = ["--runtime", runtime] if runtime else []
        self._folder = tempfile.TemporaryDirectory(prefix="fhir-hook-")
        for folder in HOOKS:
            for path in Path(folder).glob("*.json"):
                if path.name != OWN_HOOK:
                    link = Path(self._folder.name, path.name)
                    link.unlink(missing_ok=True)
                    link.symlink_to(path)

    def __enter__(self) -> Podman:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """A folder that lasts as long as the context."""
        return Path(self._folder.name)

    def hook(self, command: Sequence[str], environment: Sequence[str]) -> None:
        """Have a command edit every container's config.json before the runtime reads it, as fhir-hook's own does."""
        entry = {
            "version": "1.0.0",
            "hook": {"path": command[0], "args": list(command), "env": list(environment)},
            "when": {"always": True},
            "stages": ["precreate"],
        }
        (self.folder / "99-fhir-hook-trial.json").write_text(json.dumps(entry))

    def words(self, *arguments: str) -> list[str]:
        """The command line of a podman command."""
        return ["podman", *self._runtime, "--hooks-dir", self._folder.name, *arguments]

    def run(self, *arguments: str, timeout: float = 120) -> str:
        """Run a podman command and return what it printed; raises PodmanError with what it said."""
        try:
            done = subprocess.run(
                self.words(*arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            raise PodmanError(f"podman {arguments[0]} did not end within {timeout:.0f} s") from None
        if done.returncode != 0:
            raise PodmanError(f"podman {arguments[0]}: {_last_line(done.stderr)}")
        return done.stdout.strip()

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a podman command whose end need not be waited for."""
        return subprocess.Popen(
            self.words(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """podman container|image inspect; raises PodmanError."""
        found: list[dict[str, Any]] = json.loads(self.run(kind, "inspect", name))
        return found[0]

    def create(self, options: Sequence[str], image: str, command: Sequence[str]) -> str:
        """Make a container; returns its id."""
        return self.run("create", *options, image, *command).splitlines()[-1]

    def initialize(self, container: str) -> int:
        """Have the runtime set a container up until just before its entry point; returns its first process."""
        self.run("init", container)
        pid: int = self.inspect("container", container)["State"]["Pid"]
        return pid

    def remove(self, container: str) -> None:
        """podman rm -f; says nothing when there is nothing to remove."""
        subprocess.run(
            self.words("rm", "-f", "-t", "0", "-v", container),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else "it failed and said nothing"
