"""Debian's dockerd with its own containerd in the private host, with fhir-runc among its runtimes."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from host.machine import Host, Result

SHIM = "/usr/libexec/fhir-hook/fhir-runc"
DAEMON = Path("/etc/docker/daemon.json")
TASKS = Path("/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby")
# What it must not touch here: the machine's packet filter, and a bridge.
OPTIONS = ("--iptables=false", "--ip6tables=false", "--bridge=none", "--exec-opt", "native.cgroupdriver=cgroupfs")


class Docker:
    """One dockerd; `root` is its data root."""

    def __init__(self, host: Host, driver: str = "overlay2") -> None:
        self.host = host
        self.driver = driver
        self.root = host.directory() / "docker"
        self._daemon: subprocess.Popen[bytes] | None = None
        tree = host.images.directory("docker") / "root/usr"
        subprocess.run(["cp", "-a", f"{tree}/.", "/usr/"], check=True)

    def configure(self, **more: Any) -> None:
        """Write daemon.json: our runtime, and these members."""
        DAEMON.parent.mkdir(exist_ok=True)
        DAEMON.write_text(json.dumps({"runtimes": {"fhir-runc": {"path": SHIM}}, **more}))

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        with (self.root.parent / "dockerd.log").open("ab") as said:
            words = ["dockerd", "--data-root", str(self.root), "-s", self.driver, *OPTIONS]
            self._daemon = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        end = time.monotonic() + 30
        while self.docker("version").returncode != 0:
            log = (self.root.parent / "dockerd.log").read_text(errors="replace")
            assert time.monotonic() < end and self._daemon.poll() is None, log[-3000:]
            time.sleep(0.05)

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End the daemon, and with it its containerd; the containers' shims stay with live-restore or SIGKILL."""
        if self._daemon is not None:
            self._daemon.send_signal(how)
            self._daemon.wait(60)
            self._daemon = None

    def docker(self, *words: str | Path, **more: Any) -> Result:
        """One docker command."""
        return self.host.run(["docker", *words], **more)

    def run(self, tag: str, *command: str, options: tuple[str, ...] = (), runtime: str = "fhir-runc") -> Result:
        """docker run --network none."""
        return self.docker("run", "--network", "none", "--runtime", runtime, *options, tag, *command)

    def begin(self, tag: str, *command: str, options: tuple[str, ...] = (), runtime: str = "fhir-runc") -> str:
        """docker run -d; the container's id. AssertionError when it does not start."""
        done = self.run(tag, *command, options=("-d", *options), runtime=runtime)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[-1]

    def load(self, tag: str) -> str:
        """An image of the tests, as docker-archive(5): Debian 12's Docker reads no OCI archive. Returns its name."""
        name = f"localhost/{tag}"
        if self.docker("image", "inspect", name).returncode != 0:
            archive = self.host.directory() / "image.tar"
            source = self.host.images.archive(tag)
            words = ["skopeo", "copy", "-q", f"oci-archive:{source}", f"docker-archive:{archive}:{name}"]
            self.host.run(words, check=True)
            self.docker("load", "-q", "-i", archive, check=True)
            archive.unlink()
        return name

    def inspect(self, container: str, form: str) -> str:
        """docker inspect -f."""
        return self.docker("inspect", "-f", form, container, check=True).stdout.strip()

    def pid(self, container: str) -> int:
        """The first process of a container."""
        return int(self.inspect(container, "{{.State.Pid}}"))

    def remove_all(self) -> None:
        """Remove every container."""
        found = self.docker("ps", "-aq", check=True).stdout.split()
        if found:
            self.docker("rm", "-f", *found, check=True)
