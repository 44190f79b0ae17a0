"""Fixtures: one node of the session. make test-kubernetes runs these tests; they take minutes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from host.machine import Host
from kubernetes.kubernetes_node import CLASS, CONFIG, IMPORTS, NAME, SETTINGS, Node

# The node's programs take ten minutes to build.
collect_ignore_glob = [] if os.environ.get("FHIR_HOOK_KUBERNETES") == "1" else ["test_*.py"]


@pytest.fixture(scope="session")
def node(host: Host) -> Iterator[Node]:
    """A node that "fhir-hook engine configure containerd" set up: fhir-runc is a runtime of it, and not the default."""
    made = Node(host)
    CONFIG.write_text(f"version = 3\n{IMPORTS}{SETTINGS}")
    host.run(["fhir-hook", "engine", "configure", "containerd"], check=True)
    made.start()
    for tag in ("probe:plain", "probe:hapi", "fhirstarter:4.2.0"):
        made.load(tag)
    made.kubectl("apply", "-f", CLASS, check=True)
    made.kubectl("label", "node", NAME, "fhir-hook/configured=true", check=True)
    yield made
    made.stop_all()
