"""Fixtures: a dockerd of the test session, and another one for tests that end it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host.machine import Host
from runtime.docker_engine import DAEMON, Docker


@pytest.fixture(scope="session")
def daemon(host: Host) -> Iterator[Docker]:
    """A dockerd that keeps its containers when it ends, with the probe's images."""
    made = Docker(host)
    recorder = _recorder(host)
    runtimes = {"fhir-runc": {"path": "/usr/libexec/fhir-hook/fhir-runc"}, "recorder": {"path": str(recorder)}}
    made.configure(runtimes=runtimes, **{"live-restore": True})
    made.start()
    for tag in ("probe:plain", "probe:hapi"):
        made.load(tag)
    yield made
    made.remove_all()
    made.stop()
    DAEMON.unlink()


def _recorder(host: Host) -> Path:
    """A runtime that keeps each config.json as the engine wrote it, then becomes fhir-runc."""
    directory = host.directory()
    path = directory / "recorder"
    path.write_text(
        "#!/bin/sh\nbefore=\nfor word; do [ \"$before\" != --bundle ] || cp \"$word/config.json\" "
        f'"{directory}/${{word##*/}}.json"; before=$word; done\nexec /usr/libexec/fhir-hook/fhir-runc "$@"\n'
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def docker(daemon: Docker) -> Iterator[Docker]:
    """The dockerd, without containers when the test ends."""
    yield daemon
    daemon.remove_all()


@pytest.fixture
def written(daemon: Docker) -> Callable[[str], bytes]:
    """config.json of a container of the runtime "recorder", as the engine wrote it."""

    def read(id: str) -> bytes:
        runtimes = json.loads(DAEMON.read_text())["runtimes"]
        return Path(runtimes["recorder"]["path"]).with_name(f"{id}.json").read_bytes()

    return read
