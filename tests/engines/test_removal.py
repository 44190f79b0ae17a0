"""The package is not removed while an engine names fhir-runc, and the doctor knows who does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host.machine import ROOT, Host

FILES = {
    "docker": "/etc/docker/daemon.json",
    "containerd": "/etc/containerd/config.toml",
    "podman": "/etc/containers/containers.conf.d/60-fhir-runc.conf",
    "crio": "/etc/crio/crio.conf.d/60-fhir-runc.conf",
}
HOOKS = Path("/usr/share/containers/oci/hooks.d/50-fhir-hook.json")


@pytest.fixture
def configured(host: Host) -> Iterator[Callable[..., None]]:
    """Configure an engine in its usual file; undone when the test ends."""
    made: list[str] = []

    def configure(name: str, *options: str) -> None:
        made.append(name)
        host.run(["fhir-hook", "engine", "configure", name, *options], check=True)

    yield configure
    for name in made:
        host.run(["fhir-hook", "engine", "configure", name, "--undo"], check=True)
        assert not Path(FILES[name]).exists()


@pytest.mark.parametrize("name", list(FILES))
def test_removal_is_refused_before_anything_is_taken_away(
    host: Host, configured: Callable[..., None], name: str
) -> None:
    configured(name)
    done = host.run(["sh", ROOT / "packaging/debian/prerm", "remove"])
    assert done.returncode == 1 and FILES[name] in done.stderr and "--undo" in done.stderr
    assert HOOKS.exists()


def test_removal_is_refused_while_a_container_runs_on_it(host: Host) -> None:
    task = Path("/run/containerd/io.containerd.runtime.v2.task/k8s.io/c1")
    task.mkdir(parents=True)
    try:
        (task / "options.json").write_text('{"binary_name":"/usr/libexec/fhir-hook/fhir-runc"}')
        done = host.run(["sh", ROOT / "packaging/debian/prerm", "remove"])
    finally:
        shutil.rmtree(task.parent)
    assert done.returncode == 1 and "options.json" in done.stderr


def test_the_doctor_says_how_docker_uses_it_and_that_it_works(host: Host, configured: Callable[..., None]) -> None:
    dockerd = Path("/usr/local/bin/dockerd")
    dockerd.write_text("#!/bin/sh\n")
    try:
        for options, level in (((), "note"), (("--default",), "good")):
            configured("docker", *options)
            said = json.loads(host.run(["fhir-hook", "doctor", "--json"]).stdout)
            found = {finding["check"]: finding for finding in said["findings"]}
            assert (found["engine.dockerd"]["level"], found["engine.shim"]["level"]) == (level, "good")
            assert "/etc/docker/daemon.json" in found["engine.dockerd"]["seen"]
    finally:
        dockerd.unlink()
