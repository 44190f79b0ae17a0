"""The same node with fhir-runc as the default runtime: every pod passes through it, and only FHIR ones are touched."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from host.machine import Host, proc_status
from kubernetes.kubernetes_node import CONFIG, DROPIN, NAME, Node, pod, runs
from system.support import confined, kernel_state, only, unbroken, wait_until, watching

PLAIN, FHIR, SERVER = "localhost/probe:plain", "localhost/probe:hapi", "localhost/fhirstarter:4.2.0"


@pytest.fixture(scope="module")
def default(node: Node, host: Host) -> Iterator[Node]:
    """The node while fhir-runc is the default runtime."""
    before, words = CONFIG.read_text(), ["fhir-hook", "engine", "configure", "containerd"]
    node.remove()
    host.run([*words, "--default"], check=True)
    node.stop("containerd")
    node.start_containerd()
    yield node
    node.remove()
    host.run([*words, "--undo"], check=True)
    assert not DROPIN.exists() and CONFIG.read_text() == before
    host.run(words, check=True)
    node.stop("containerd")
    node.start_containerd()


def test_static_pods_are_decided_without_a_class_and_without_an_api_server(default: Node, host: Host) -> None:
    """As a control plane's own pods are started: from files, whoever answers or does not."""
    default.stop("kube-apiserver", signal.SIGKILL)  # it would wait a minute for its watchers
    try:
        with watching(host) as records:
            probe = {"httpGet": {"path": "/metadata", "port": 8080, "host": "127.0.0.1"}, "periodSeconds": 1}
            default.write_static(pod("server", runs(SERVER, readinessProbe=probe), hostNetwork=True))
            default.write_static(pod("other", runs(PLAIN, "sleeper")))
            ready = {("server", True), ("other", True)}
            wait_until(lambda: default.static_pods() == ready, "static pods that are ready", 90)
        decided = only(records, event="decision")
        assert (decided["decision"], decided["container"]["name"]) == ("confined", f"default/server-{NAME}/c0")
        assert confined(proc_status(default.pid(decided["container"]["id"])))
    finally:
        default.start_apiserver()
        for name in ("server", "other"):
            default.remove_static(name)
        wait_until(lambda: not default.static_pods(), "the end of the static pods", 60)


def test_the_default_touches_nothing_that_is_not_fhir(default: Node, host: Host) -> None:
    with watching(host) as records:
        default.begin("plain", runs(PLAIN, "sleeper"))
        default.begin("fhir", runs(FHIR, "sleeper"))
    assert kernel_state(default.pid(default.id("plain")))["Seccomp"] == "0"
    assert confined(proc_status(default.pid(default.id("fhir"))))
    assert only(records, event="decision")["container"]["name"] == "default/fhir/c0"
    told = json.loads(host.run(["fhir-hook", "doctor", "--json"]).stdout)["findings"]
    (found,) = [finding for finding in told if finding["check"] == "containers.confined"]
    assert found["level"] == "good", found


def test_pods_that_begin_all_at_once_are_all_decided(default: Node, host: Host) -> None:
    names = {f"p{number}": (FHIR, PLAIN)[number % 2] for number in range(20)}
    with watching(host) as records:
        for name, image in names.items():
            default.apply(pod(name, runs(image, "sleeper")))
        done = default.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=150s", timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
    for name, image in names.items():
        assert confined(proc_status(default.pid(default.id(name)))) is (image == FHIR), name
    assert [record["event"] for record in records].count("decision") == 10
    assert [record["event"] for record in records].count("outcome") == 10 and unbroken()
