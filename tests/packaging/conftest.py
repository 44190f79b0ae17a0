"""Packages built from this tree, and fresh roots of distributions to install them in.

The tests below install/ take minutes and fetch packages: make test-packages runs them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from packaging_root import Packages, Root

from host.machine import Host

collect_ignore = [] if os.environ.get("FHIR_HOOK_PACKAGES") == "all" else ["install"]

@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    return Packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module", params=["bookworm", "trixie", "sid"])
def suite(request: pytest.FixtureRequest) -> str:
    """Debian 12, 13 and unstable."""
    return str(request.param)


@pytest.fixture(scope="module")
def fresh(bare_host: Host, suite: str) -> Iterator[Root]:
    """A fresh root of a distribution, with engines, runtimes, the probe images, and nothing of fhir-hook."""
    root = Root(suite, bare_host)
    yield root
    root.close()


@pytest.fixture(scope="module")
def installed(fresh: Root, packages: Packages) -> Root:
    """The same after apt install of the package, and no other step."""
    fresh.apt("install", fresh.share(packages.deb()))
    fresh.load_images()
    return fresh
