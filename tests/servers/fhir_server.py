"""Real FHIR servers as the tests run them: what each is, and a running one."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from host.machine import ROOT, Host, Result, proc_status

FULL = os.environ.get("FHIR_HOOK_SERVERS") == "all"
PROGRAMS = ROOT / "tests" / "servers" / "programs"
WORKLOAD = PROGRAMS / "workload.py"
SETTINGS = Path("/etc/fhir-hook/config.d/90-servers.toml")
JAVA = "/opt/jre/bin/java"
JCMD = "/opt/jre/bin/jcmd"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A FHIR server: its image, the path of its base URL, what it can do, how it ends at SIGTERM, where it listens."""

    name: str
    tag: str
    path: str
    features: tuple[str, ...]
    profile: str
    exit_code: int
    stack: str = "jvm"
    scheme: str = "http"
    port: int = 8080
    ready: str = "/metadata"


KINDS = {
    "plain": Kind(
        "plain", "hapi:plain", "/fhir", ("update", "vread", "history", "paging", "xml", "delete"), "hapi", 143
    ),
    "jpa": Kind(
        "jpa",
        "hapi:jpa",
        "/fhir",
        (
            *("update", "patch", "vread", "history", "paging", "xml"),
            *("transaction", "chained", "validate", "delete"),
        ),
        "hapi",
        143,
    ),
    "fhirstarter": Kind(
        "fhirstarter", "fhirstarter:4.2.0", "", ("update", "patch", "delete"), "fhirstarter", 0, "python"
    ),
}


class Server:
    """A running container of a FHIR server, on a runtime, of a user."""

    def __init__(self, host: Host, kind: Kind, id: str, runtime: str, user: str | None, published: int = 0) -> None:
        self.host, self.kind, self.id, self.runtime, self.user = host, kind, id, runtime, user
        self.published = published

    @property
    def pid(self) -> int:
        """The first process."""
        return self.host.pid(self.id, self.user)

    def podman(self, *words: str | Path, **more: Any) -> Result:
        """podman on the container's runtime, as its user."""
        return self.host.podman(*words, runtime=self.runtime, user=self.user, **more)

    def exec(self, *words: str, **more: Any) -> Result:
        """podman exec; AssertionError when the command fails."""
        return self.podman("exec", self.id, *words, check=True, **more)

    def url(self, address: str = "127.0.0.1", port: int = 0) -> str:
        """The base URL, as seen in the container's network."""
        return f"{self.kind.scheme}://{address}:{port or self.kind.port}{self.kind.path}"

    def wait(self, seconds: float = 180) -> None:
        """Wait until it answers."""
        self.host.wait_http(self.id, self.url() + self.kind.ready, seconds, self.user)

    def work(
        self,
        load: float = 0,
        *,
        address: str = "127.0.0.1",
        features: tuple[str, ...] | None = None,
        examples: Path | None = None,
    ) -> int:
        """Use it as a client does, through the published port if there is one; returns the number of requests."""
        wanted = self.kind.features if features is None else features
        if self.published:
            words = ["/usr/bin/python3", str(WORKLOAD), self.url("127.0.0.1", self.published)]
        else:
            words = ["nsenter", "-n", "-t", str(self.pid), "/usr/bin/python3", str(WORKLOAD), self.url(address)]
        more = ["--examples", examples] if examples else []
        done = self.host.run([*words, *wanted, "--load", str(load), *more], timeout=load + 400)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.logs()}"
        requests: int = json.loads(done.stdout)["requests"]
        return requests

    def logs(self) -> str:
        """The end of what it printed."""
        done = self.podman("logs", self.id)
        return (done.stdout + done.stderr)[-20000:]

    def inspected(self) -> dict[str, Any]:
        """fhir-hook inspect --json, as root, who may read the filters back."""
        done = self.host.run(["fhir-hook", "inspect", "--json", str(self.pid)], check=True)
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen

    def records(self) -> list[dict[str, Any]]:
        """What the decision log says of this container."""
        return [r for r in self.host.records(self.user) if r.get("container", {}).get("id") == self.id]

    def stop(self, seconds: int = 60) -> int:
        """podman stop; returns the exit code of the first process."""
        self.podman("stop", "-t", str(seconds), self.id, check=True, timeout=seconds + 60)
        return int(self.podman("inspect", "-f", "{{.State.ExitCode}}", self.id, check=True).stdout)


def start(
    host: Host, kind: Kind, *options: str | Path, runtime: str = "runc", user: str | None = None, **more: Any
) -> Server:
    """podman run -d, and wait for the first answer; more: tag and command instead of the kind's, port to publish."""
    host.load(kind.tag, user)
    port = more.pop("port", 0)
    publish = ("-p", f"127.0.0.1:{port}:{kind.port}") if port else ()
    id = host.start(more.pop("tag", kind.tag), *publish, *options, runtime=runtime, user=user, **more)
    server = Server(host, kind, id, runtime, user, port)
    try:
        server.wait()
    except AssertionError:
        remove(server)
        raise
    return server


def remove(server: Server) -> None:
    """podman rm."""
    server.podman("rm", "-f", "-t", "0", server.id)


def programs(host: Host, user: str | None = None) -> Path:
    """A directory with static programs to mount into images that have none: busybox, and the probe's try and status."""
    directory = host.directory(user)
    for source in (Path("/bin/busybox"), host.images.program("try"), host.images.program("status")):
        shutil.copy(source, directory / source.name)
    return directory


def assert_confined(server: Server, profile: str | None = None, *, alike: bool = True) -> None:
    """The kernel enforces the profile on the container's first process (alike: on all), and the log says so."""
    name = profile or server.kind.profile
    status = proc_status(server.pid)
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert status["Seccomp_filters"] == "1"
    seen = server.inspected()
    assert seen["profile"]["how"] in ("exact", "alike", "tighter"), seen["profile"]
    assert seen["counts"]["logged"] == 0
    assert seen["counts"]["allowed"] + seen["counts"]["filtered"] < 200
    assert seen["calls"]["unshare"] == seen["calls"]["mount"] == seen["calls"]["bpf"] == "denied"
    assert seen["different"] == [] or not alike
    decisions = [r for r in server.records() if r["event"] == "decision"]
    outcomes = [r for r in server.records() if r["event"] == "outcome"]
    assert [p["name"] for p in decisions[-1]["profile"]] == [name]
    assert (decisions[-1]["decision"], decisions[-1]["path"]) == ("confined", "native")
    assert outcomes[-1]["decided_by"] == decisions[-1]["seq"]


def no_capabilities(pid: int | str) -> bool:
    """Whether a process has no capability in any set."""
    return not any(int(proc_status(pid)[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))


def wait_until_gone(server: Server, seconds: float = 60) -> int:
    """Wait until the container has ended by itself; returns its exit code."""
    end = time.monotonic() + seconds
    while True:
        state = server.podman(
            "inspect", "-f", "{{.State.Running}} {{.State.ExitCode}}", server.id, check=True
        ).stdout.split()
        if state[0] == "false":
            return int(state[1])
        assert time.monotonic() < end, f"still running after {seconds} s\n{server.logs()}"
        time.sleep(0.2)
