"""Fixtures: the private host with and without the product, the test images, the runtimes, both kinds of user."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest

from host.machine import ROOT, Archives, Host, missing_packages

# An example's time says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """A worker of pytest-xdist has a /tmp of its own: its tmp_path are where they are without it."""
    if hasattr(config, "workerinput"):
        config.option.basetemp = None


@pytest.fixture(scope="session")
def images() -> Archives:
    """The test images as OCI archives."""
    return Archives()


@pytest.fixture(scope="session")
def bare_host(images: Archives) -> Host:
    """The private host before the product is installed (use it only where that does not matter)."""
    packages = missing_packages()
    if packages:
        pytest.fail(f"tools are missing: apt-get install {' '.join(packages)}")
    if os.environ.get("FHIR_HOOK_HOST") != "1":
        pytest.fail("needs the private host: run make test, or tests/host/enter .venv/bin/python -m pytest ...")
    return Host(images)


@pytest.fixture(scope="session")
def host(bare_host: Host) -> Host:
    """The private host with the product installed by make install."""
    done = subprocess.run(["make", "-s", "-C", ROOT, "install"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"make install failed:\n{done.stdout}{done.stderr}")
    return bare_host


@pytest.fixture(params=["runc", "crun"])
def runtime(request: pytest.FixtureRequest) -> str:
    """Each OCI runtime."""
    return str(request.param)


@pytest.fixture(params=[None, "rootless"], ids=["root", "rootless"])
def user(request: pytest.FixtureRequest) -> str | None:
    """Root and the ordinary user, as Host's methods take them."""
    name: str | None = request.param
    return name


@pytest.fixture
def start(bare_host: Host) -> Iterator[Callable[..., str]]:
    """Host.start, whose containers are removed when the test ends."""
    started: list[tuple[str, str | None]] = []

    def begin(tag: str, *options: Any, **more: Any) -> str:
        container = bare_host.start(tag, *options, **more)
        started.append((container, more.get("user")))
        return container

    yield begin
    for container, who in started:
        bare_host.podman("rm", "-f", "-t", "0", container, user=who)
