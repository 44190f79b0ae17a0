"""A distribution's root that has been booted: systemd is process 1, and everything runs as its services do."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from packaging_root import HERE, HOME, UID, USER, Root

from host.machine import Host

SYSTEMD = ("systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd")
# Podman's own choices are left to it: control groups by systemd, and the journal. But nobody can raise a limit that
# the machine has taken away, and control group controllers may be those of version 1 still.
CONTAINERS_CONF = """[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
pids_limit = 0
"""


class Booted(Root):
    """After boot(), commands run in the namespaces of systemd."""

    def __init__(self, suite: str, host: Host) -> None:
        super().__init__(suite, host)
        self._init: int | None = None
        self._group = f"fhir-hook-booted-{time.time_ns()}"
        self._boot: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Start systemd and wait until it is up, with the ordinary user's own instance."""
        program = self.share(HERE / "boot")
        self.run(["rm", "-f", "/usr/sbin/policy-rc.d"])
        self.write("/etc/containers/containers.conf", CONTAINERS_CONF)
        self.console = self.directory / "console"
        with self.console.open("wb") as console:
            words = self.words([program, self._group])
            self._boot = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        self.until(self._started, "systemd does not start")
        self.run(["loginctl", "enable-linger", USER])
        self.until(lambda: self.exists(f"/run/user/{UID}/bus"), "the user's own systemd does not start")

    def _started(self) -> bool:
        assert self._boot is not None
        children = Path(f"/proc/{self._boot.pid}/task/{self._boot.pid}/children").read_text().split()
        if not children or "systemd" not in Path(f"/proc/{children[0]}/comm").read_text():
            return False
        self._init = int(children[0])
        self.path = Path(f"/proc/{children[0]}/root")
        said = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
        return said in {"running", "degraded"}

    def until(self, holds: Callable[[], bool], otherwise: str, seconds: float = 150) -> None:
        """Wait for what a service does in its own time."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"{otherwise}\n{self._said()}"
            time.sleep(0.1)

    def _said(self) -> str:
        return (self.journal("-u", "fhir-hook-*") if self._init else self.console.read_text(errors="replace"))[-3000:]

    def close(self) -> None:
        if self._init is not None and self._boot is not None:
            super().podman("rm", "-af", "-t", "0")
            self._boot.kill()
            self._boot.wait()
            self._init = None
            self.run(["/srv/shared/boot", "--remove", self._group], check=False)
        self._holder.kill()
        self._holder.wait()

    def words(self, argv: Sequence[str | Path], user: str | None = None) -> list[str]:
        words = super().words(argv, user)
        if self._init is None:
            return words
        assert words[:5] == ["nsenter", "-t", str(self._holder.pid), "-m", "--"]
        env = words[5:]
        if user is not None:
            env.insert(env.index(f"HOME={HOME}"), f"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{UID}/bus")
        return ["nsenter", "-t", str(self._init), "-m", "-p", "-u", "-i", "-C", "--", *env]

    def show(self, unit: str, key: str) -> str:
        """A property of a unit."""
        return self.run(["systemctl", "show", "-P", key, unit]).stdout.strip()

    def journal(self, *options: str) -> str:
        """The journal's lines of this boot."""
        return self.run(["journalctl", "-b", "-q", "--no-pager", "-o", "cat", *options], check=False).stdout
