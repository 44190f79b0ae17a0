"""Real FHIR servers on the live path: plain runc and crun without an engine, and podman without the precreate hook."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host.machine import Host, proc_status
from servers.fhir_server import JCMD, KINDS, WORKLOAD

NAMES = ["plain", "fhirstarter"]


@pytest.fixture
def bundle(host: Host, runtime: str, request: pytest.FixtureRequest) -> Iterator[tuple[Path, str]]:
    """A bundle made with umoci and enrolled, and the id that it runs under."""
    name = str(request.param)
    path = host.bundle(KINDS[name].tag)
    config = path / "config.json"
    spec: dict[str, Any] = json.loads(config.read_text())
    spec["process"].pop("rlimits", None)
    spec["linux"].setdefault("namespaces", [])
    if not any(n["type"] == "network" for n in spec["linux"]["namespaces"]):
        spec["linux"]["namespaces"].append({"type": "network"})
    config.write_text(json.dumps(spec))
    host.run(["fhir-hook", "bundle", "enroll", path], check=True)
    id = f"live-{name}-{runtime}"
    yield path, id
    host.runtime(runtime, "delete", "-f", id)


@pytest.mark.parametrize("bundle", NAMES, indirect=True)
def test_a_bundle_with_the_hook_runs_confined_and_serves(
    host: Host, runtime: str, bundle: tuple[Path, str], request: pytest.FixtureRequest
) -> None:
    path, id = bundle
    kind = next(kind for kind in KINDS.values() if f"live-{kind.name}-" in id)
    before = len(host.records())
    host.run(["sh", "-c", f"{runtime} run -d -b {path} {id} >{path}/output 2>&1 </dev/null"], check=True)
    pid = json.loads(host.runtime(runtime, "state", id, check=True).stdout)["pid"]
    enter = ["nsenter", "-n", "-t", str(pid)]
    url = f"http://127.0.0.1:8080{kind.path}"
    _wait(host, [*enter, "curl", "-sf", "-m", "20", f"{url}/metadata"], path)
    status = proc_status(pid)
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert not any(int(status[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    seen = json.loads(host.run(["fhir-hook", "inspect", "--json", str(pid)], check=True).stdout)
    assert seen["profile"]["how"] == "exact"
    assert seen["different"] == []
    done = host.run([*enter, "/usr/bin/python3", WORKLOAD, url, *kind.features, "--load", "3"], timeout=120)
    assert done.returncode == 0, done.stdout + (path / "output").read_text()[-4000:]
    if kind.stack == "jvm":
        host.runtime(runtime, "exec", "--user", "65532:65532", id, JCMD, "1", "Thread.print", check=True)
    records = [r for r in host.records()[before:] if r["container"]["id"] == id]
    assert [(r["event"], r["path"]) for r in records] == [("decision", "live"), ("outcome", "live")]
    assert records[1]["seen"] == "kernel"
    host.runtime(runtime, "kill", id, "TERM", check=True)
    _ended(host, runtime, id)


def _wait(host: Host, words: list[str], path: Path) -> None:
    end = time.monotonic() + 90
    while host.run(words).returncode != 0:
        assert time.monotonic() < end, (path / "output").read_text()[-4000:]
        time.sleep(0.2)


def _ended(host: Host, runtime: str, id: str) -> None:
    end = time.monotonic() + 30
    while json.loads(host.runtime(runtime, "state", id, check=True).stdout)["status"] != "stopped":
        assert time.monotonic() < end, "it does not end at SIGTERM"
        time.sleep(0.2)
