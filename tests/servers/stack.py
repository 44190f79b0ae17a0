"""What runs beside a FHIR server, and native servers: their images, how they are started, and that they are ready."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from host.machine import ROOT, Host, Result
from servers.fhir_server import Kind, Server, remove

SOFTWARE = {
    "postgresql": Kind("postgresql", "postgresql:15", "", (), "postgresql", 0, "stack"),
    "nginx": Kind("nginx", "nginx:1.22", "", (), "nginx", 0, "stack"),
    "redis": Kind("redis", "redis:7.0", "", (), "redis", 0, "stack"),
    "prometheus": Kind("prometheus", "prometheus:2.42", "", (), "prometheus", 0, "stack"),
    # built on request
    "pocketbase": Kind("pocketbase", "pocketbase:0.36", "", (), "fhir-native", 0, "stack"),
    "node": Kind("node", "node:18", "", (), "fhir-native", 0, "stack"),
}
# FHIR servers built on request: one in Rust, one in Python under gunicorn with uvloop
HELIOS = Kind(
    "helios", "helios:0.2.7", "", ("update", "history", "transaction", "patch", "delete"), "helios", 0, "native"
)
GUNICORN = Kind("gunicorn", "python-server:1", "", ("update",), "fhir-python", 0, "python")
# how to see that it is ready: a path to ask for and its port, or a command for exec
READY: dict[str, tuple[int, str] | tuple[str, ...]] = {
    "postgresql": ("pg_isready", "-q", "-h", "127.0.0.1"),
    "nginx": (80, "/"),
    "redis": ("redis-cli", "-e", "ping"),
    "prometheus": (9090, "/-/ready"),
    "pocketbase": (8080, "/api/health"),
    "node": (8080, "/"),
}


class Daemon(Server):
    """A running container of one of them."""

    ready: tuple[int, str] | tuple[str, ...] = ()

    def url(self, address: str = "127.0.0.1", port: int = 0) -> str:
        """Its base URL, if it has one, as seen in the container's network."""
        return f"http://{address}:{port or self.ready[0]}"

    def wait(self, seconds: float = 60) -> None:
        """Wait until it is ready."""
        if isinstance(self.ready[0], int):
            self.host.wait_http(self.id, self.url() + str(self.ready[1]), seconds, self.user)
            return
        words = [str(word) for word in self.ready]
        end = time.monotonic() + seconds
        while self.podman("exec", self.id, *words).returncode != 0:
            running = self.podman("inspect", "-f", "{{.State.Running}}", self.id, check=True).stdout.strip()
            assert running == "true" and time.monotonic() < end, f"{self.kind.name} is not ready\n{self.logs()}"
            time.sleep(0.2)

    def http(self, path: str, *options: str, port: int = 0) -> str:
        """What curl got for a path; AssertionError for an error."""
        done = self.host.http(self.id, self.url(port=port) + path, "-f", *options, user=self.user)
        assert done.returncode == 0, f"{path}: {done.stderr}\n{self.logs()}"
        return done.stdout

    def sql(self, *statements: str, user: str = "postgres", database: str = "postgres") -> str:
        """Statements sent to PostgreSQL by its own client in the container, one line a row."""
        words = [word for statement in statements for word in ("-c", statement)]
        return self.exec(
            "psql", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", "/tmp", "-U", user, "-d", database, *words
        ).stdout

    def redis(self, *words: str) -> str:
        """The answer of Redis to a command; AssertionError for an error."""
        return self.exec("redis-cli", "-e", *words).stdout.strip()


    def query(self, expression: str) -> str:
        """The first value of a query to Prometheus; "" when there is none."""
        found = json.loads(self.http(f"/api/v1/query?query={urllib.parse.quote(expression)}"))["data"]["result"]
        return str(found[0]["value"][1]) if found else ""


def fallen_back() -> set[str]:
    """Calls whose denial makes the caller do something else, as the groups say: these may be in the kernel's log.

    And getppid: shells ask for it at their start, and only $PPID is wrong without.
    """
    found = {"clone3", "getppid"}
    for file in (ROOT / "profiles" / "groups").glob("*.json"):
        for rule in json.loads(file.read_text())["syscalls"]:
            if rule["action"] == "SCMP_ACT_ERRNO" and "args" not in rule:
                found.update(rule["names"])
    return found


def named(host: Host, kind: Kind, profile: str, user: str | None = None) -> str:
    """An image of the software whose label names a profile."""
    tag = f"localhost/{kind.name}:as-{profile}"
    if host.podman("image", "exists", tag, user=user).returncode != 0:
        host.derive(kind.tag, tag, "--label", f"io.fhir-hook.profile={profile}", user=user)
    return tag


def start(
    host: Host,
    name: str,
    *options: str | Path,
    profile: str = "",
    ready: tuple[int, str] | tuple[str, ...] = (),
    runtime: str = "runc",
    user: str | None = None,
    tag: str = "",
    command: Sequence[str] = (),
    **more: Any,
) -> Daemon:
    """podman run -d of an image that names the profile (or of another tag), and wait until it is ready."""
    kind = SOFTWARE[name]
    host.load(kind.tag, user)
    tag = tag or named(host, kind, profile or kind.profile, user)
    id = host.start(tag, *options, runtime=runtime, user=user, command=command, **more)
    daemon = Daemon(host, kind, id, runtime, user)
    daemon.ready = ready or READY[name]
    try:
        daemon.wait()
    except AssertionError:
        remove(daemon)
        raise
    return daemon


def kill_process(daemon: Daemon, title: str, signal: str = "KILL") -> Result:
    """Send a signal from outside to the newest process of a container whose title matches."""
    words = ["pkill", f"-{signal}", "-n", "-f", title, "--ns", str(daemon.pid), "--nslist", "pid"]
    return daemon.host.run(words, check=True)
