"""Fixtures: the watcher on the machine's processes, containers in complain mode, the kernel's rate limit lifted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host.machine import ROOT, Host
from servers.kernel_log import unlimited
from system.support import FHIR, PLAIN, SETTINGS

# The kernel's records have the machine's process numbers, which the /proc below this host's own shows.
WATCH = "umount -l /proc; exec /usr/bin/python3 -P -s -B -m fhir_hook.cli.main log watch"
COMPLAINING = "complaining:1"


class Watch:
    """`fhir-hook log watch`, running, and the records that were written since `begin`."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._process: subprocess.Popen[str] | None = None
        self._before = 0

    def words(self, *options: str) -> list[str]:
        """The command line."""
        return ["unshare", "-m", "sh", "-c", f"{WATCH} {' '.join(options)}"]

    def begin(self, *options: str) -> None:
        """Begin to watch."""
        self._before = len(self.host.records())
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            self.words(*options), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.wait(lambda: bool(self.watch("watching")))

    def end(self) -> dict[str, Any]:
        """End it as systemd does, and return what it printed with --json."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        out, err = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, err
        self._process = None
        found: dict[str, Any] = json.loads(out)
        return found

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def once(self) -> dict[str, Any]:
        """Run it once."""
        self._before = len(self.host.records())
        done = self.host.run(self.words("--once", "--json"), env={"PYTHONPATH": str(ROOT)}, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def records(self, event: str) -> list[dict[str, Any]]:
        """Records of an event since `begin`."""
        return [record for record in self.host.records()[self._before :] if record["event"] == event]

    def watch(self, what: str) -> list[dict[str, Any]]:
        """Records of the watcher about itself."""
        return [record for record in self.records("watch") if record["what"] == what]

    def of(self, container: str) -> list[dict[str, Any]]:
        """Records of denials of a container."""
        return [r for r in self.records("denial") if r.get("container", {}).get("id") == container]

    def wait(self, holds: Callable[[], bool], seconds: float = 20) -> None:
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, self.host.records()[self._before :]
            time.sleep(0.1)


@pytest.fixture(scope="module")
def product(host: Host) -> Iterator[Host]:
    """The installed product, with an image whose profile is in complain mode."""
    profile = json.loads(Path("/usr/share/fhir-hook/profiles/hapi.json").read_text())
    profile.update({"name": "denials-complain", "mode": "complain"})
    profile.pop("match", None)
    path = SETTINGS / "profiles" / "denials-complain.json"
    path.write_text(json.dumps(profile))
    host.run(["fhir-hook", "policy", "compile"], check=True)
    host.load(FHIR)
    host.derive(PLAIN, COMPLAINING, "--label", "io.fhir-hook.profile=denials-complain")
    yield host
    path.unlink()
    host.run(["fhir-hook", "policy", "compile"], check=True)


@pytest.fixture
def watch(product: Host) -> Iterator[Watch]:
    """The watcher; the kernel's rate limit, which is the machine's, is lifted meanwhile."""
    with unlimited():
        found = Watch(product)
        yield found
        found.kill()


@pytest.fixture
def logging_filter(tmp_path: Path) -> Path:
    """An engine's seccomp profile that has what is denied logged."""
    path = tmp_path / "seccomp.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}))
    return path
