"""Pods on a real node: those of the RuntimeClass "fhir" confined when they are FHIR, and nothing else touched."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host.machine import Host, parse_status, proc_status
from kubernetes.kubernetes_node import CONFIG, DROPIN, NAME, SHIM, Node, pod, runs
from system.support import codes, confined, kernel_state, only, tried, unbroken, wait_until, watching

PLAIN, FHIR, SERVER = "localhost/probe:plain", "localhost/probe:hapi", "localhost/fhirstarter:4.2.0"
TASKS = Path("/run/containerd/io.containerd.runtime.v2.task/k8s.io")
OURS: dict[str, Any] = {"runtimeClassName": "fhir"}


@pytest.fixture(autouse=True)
def no_pods(node: Node) -> Iterator[None]:
    """No pods are left when a test ends."""
    yield
    node.remove()


def test_the_node_was_set_up_by_the_command_and_by_nothing_else(node: Node, host: Host) -> None:
    assert "fhir-runc" not in CONFIG.read_text() and SHIM in DROPIN.read_text()
    dump = host.run([node.programs / "containerd", "config", "dump"], check=True).stdout
    assert f"BinaryName = '{SHIM}'" in dump and "default_runtime_name = 'runc'" in dump
    handlers = node.get("node", NAME, "{.status.runtimeHandlers[*].name}").split()
    assert set(handlers) >= {"fhir-runc", "runc"}


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("default", [(), ("--default",)])
def test_containerd_reads_what_the_command_wrote(
    node: Node, host: Host, version: int, default: tuple[str, ...]
) -> None:
    config = host.directory() / "config.toml"
    config.write_text(f"version = {version}\n")
    words = ["fhir-hook", "engine", "configure", "containerd", "--config", config]
    host.run([*words, *default], check=True)
    dump = host.run([node.programs / "containerd", "--config", config, "config", "dump"], check=True).stdout
    assert f"BinaryName = '{SHIM}'" in dump
    assert f"default_runtime_name = '{'fhir-runc' if default else 'runc'}'" in dump
    host.run([*words, "--undo"], check=True)
    assert config.read_text() == f"version = {version}\n"


def test_a_real_server_serves_confined_and_on_record(node: Node, host: Host) -> None:
    probe = {"httpGet": {"path": "/metadata", "port": 8080}, "periodSeconds": 1, "failureThreshold": 60}
    with watching(host) as records:
        node.begin("server", runs(SERVER, readinessProbe=probe), **OURS)
        node.ready("server")
    id = node.id("server")
    assert confined(proc_status(node.pid(id)))
    decided = only(records, event="decision")
    assert (decided["decision"], decided["stage"], decided["path"]) == ("confined", "create", "native")
    assert decided["container"] == {"id": id, "name": "default/server/c0"}
    assert decided["image"]["source"] == "containerd" and SERVER in decided["image"]["names"]
    seen = only(records, event="outcome")
    assert (seen["stage"], seen["decided_by"], seen["container"]["id"]) == ("gate", decided["seq"], id)
    address = node.get("pod", "server", "{.status.podIP}")
    assert "CapabilityStatement" in host.run(["curl", "-sSf", "-m", "5", f"http://{address}:8080/metadata"]).stdout
    shown = json.loads(host.run(["fhir-hook", "inspect", "--json", id], check=True).stdout)
    assert "fhirstarter" in json.dumps(shown)


def test_without_the_class_kubernetes_filters_nothing_and_the_doctor_finds_the_pod(node: Node, host: Host) -> None:
    with watching(host) as records:
        node.begin("loose", runs(FHIR, "sleeper"))
    assert proc_status(node.pid(node.id("loose")))["Seccomp"] == "0" and not records
    told = host.run(["fhir-hook", "doctor"]).stdout
    assert "default/loose/c0" in told and "runs FHIR and has no no_new_privs" in told


def test_something_else_is_as_it_is_without_the_shim(node: Node, host: Host) -> None:
    with watching(host) as records:
        node.begin("ours", runs(PLAIN, "sleeper"), **OURS)
        node.begin("theirs", runs(PLAIN, "sleeper"))
    states = [kernel_state(node.pid(node.id(name))) for name in ("ours", "theirs")]
    assert states[0] == states[1] and states[0]["Seccomp"] == "0" and not records


def test_the_sandbox_of_a_fhir_pod_is_left_alone(node: Node, host: Host) -> None:
    with watching(host) as records:
        node.begin("boxed", runs(FHIR, "sleeper"), **OURS)
        node.begin("unboxed", runs(FHIR, "sleeper"))
    states, said = [], []
    for name in ("boxed", "unboxed"):
        sandboxes = node.ctr("containers", "ls", "-q", f'labels."io.kubernetes.pod.name"=={name}').stdout.split()
        (sandbox,) = set(sandboxes) - {node.id(name)}
        states.append(kernel_state(node.pid(sandbox)))
        said.append(json.loads((TASKS / sandbox / "config.json").read_text()))
    assert states[0] == states[1]
    assert said[0].keys() == said[1].keys() and said[0]["process"] == said[1]["process"]
    assert [record["container"]["id"] for record in records] == [node.id("boxed")] * 2


def test_exec_through_the_api_server_is_confined_too(node: Node) -> None:
    node.begin("served", runs(FHIR, "sleeper"), **OURS)
    output = node.kubectl("exec", "served", "--", "status", check=True).stdout
    assert confined(parse_status(output)), output
    output = node.kubectl("exec", "served", "--", "try", "unshare_user", "ptrace", "keyctl", "mount").stdout
    assert set(tried(output).values()) == {"EPERM"}, output
    node.begin("other", runs(PLAIN, "sleeper"), **OURS)
    status = parse_status(node.kubectl("exec", "other", "--", "status", check=True).stdout)
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("0", "0")
    assert status["CapEff"] == proc_status(node.pid(node.id("other")))["CapEff"] != "0" * 16


def test_probes_that_run_a_command_are_confined_and_work(node: Node) -> None:
    probe = {"exec": {"command": ["sh", "-c", "status >/tmp/new && mv /tmp/new /tmp/probe"]}, "periodSeconds": 1}
    node.begin("probed", runs(FHIR, "sleeper", livenessProbe=probe, readinessProbe=probe), **OURS)
    node.ready("probed")
    assert confined(parse_status(node.kubectl("exec", "probed", "--", "cat", "/tmp/probe", check=True).stdout))
    assert node.get("pod", "probed", "{.status.containerStatuses[0].restartCount}") == "0"


def test_a_container_that_fails_its_liveness_probe_is_decided_anew(node: Node, host: Host) -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    with watching(host) as records:
        node.begin("failing", runs(FHIR, "sleeper", livenessProbe=probe), restartPolicy="Always", **OURS)
        first = node.id("failing")
        again = "{.status.containerStatuses[0].restartCount}"
        wait_until(lambda: node.get("pod", "failing", again) not in ("", "0"), "the restart", 60)
        wait_until(lambda: len(node.host.records()) and node.id("failing") != first, "the new container", 30)
    found = [record for record in records if record["event"] == "decision"]
    assert len(found) >= 2 and {record["decision"] for record in found} == {"confined"}
    assert len({record["container"]["id"] for record in found}) == len(found)


def test_init_containers_and_the_containers_of_a_pod_are_decided_one_by_one(node: Node) -> None:
    first = [runs(FHIR, "status", name="fhir-init"), runs(PLAIN, "status", name="plain-init")]
    both = (runs(FHIR, "status", name="fhir"), runs(PLAIN, "status", name="plain"))
    node.begin("mixed", *both, initContainers=first, **OURS)
    for name in ("fhir-init", "fhir"):
        assert confined(parse_status(node.log("mixed", name))), name
    for name in ("plain-init", "plain"):
        assert parse_status(node.log("mixed", name))["Seccomp"] == "0", name


def test_a_sidecar_of_kubernetes_is_decided_like_any_other(node: Node) -> None:
    sidecar = [runs(FHIR, "sleeper", name="side", restartPolicy="Always")]
    node.begin("beside", runs(PLAIN, "sleeper"), initContainers=sidecar, **OURS)
    assert confined(proc_status(node.pid(node.id("beside", "side", "initContainerStatuses"))))


def test_ephemeral_containers_are_decided_by_their_own_image(node: Node, host: Host) -> None:
    node.begin("debugged", runs(FHIR, "sleeper"), **OURS)
    for name, image in (("fhir", FHIR), ("plain", PLAIN)):
        words = ("debug", "debugged", f"--image={image}", "-c", name, "--image-pull-policy=Never", "--target=c0")
        node.kubectl(*words, "--", "status", check=True)
        path = f"{{.status.ephemeralContainerStatuses[?(@.name=='{name}')].state.terminated.reason}}"
        wait_until(functools.partial(node.says, "debugged", path, "Completed"), f"the end of {name}", 60)
        status = parse_status(node.kubectl("logs", "debugged", "-c", name, check=True).stdout)
        assert confined(status) is (image == FHIR), status


LOOSENING = {
    "privileged": {"privileged": True},
    "unconfined": {"seccompProfile": {"type": "Unconfined"}, "capabilities": {"add": ["ALL"]}},
    "default": {"seccompProfile": {"type": "RuntimeDefault"}, "allowPrivilegeEscalation": True},
    "user": {"runAsUser": 65532},
}


@pytest.mark.parametrize("what", LOOSENING)
def test_no_security_context_loosens_anything(node: Node, what: str) -> None:
    node.begin(what, runs(FHIR, "sleeper", securityContext=LOOSENING[what]), **OURS)
    assert confined(proc_status(node.pid(node.id(what))))
    assert confined(parse_status(node.kubectl("exec", what, "--", "status", check=True).stdout))


def test_attack_annotations_and_labels_of_a_pod_that_say_it_is_something_else(node: Node) -> None:
    said = {
        "io.kubernetes.cri.container-type": "sandbox",
        "io.kubernetes.cri.image-name": PLAIN,
        "io.fhir-hook.profile": "fhir-jvm",
        "run.oci.seccomp_bpf_data": "AAAA",
    }
    metadata = {"annotations": said, "labels": {"io.fhir-hook.kind": "no"}}
    node.begin("said", runs(FHIR, "status"), metadata=metadata, **OURS)
    assert confined(parse_status(node.log("said")))


def test_a_refusal_is_what_the_pod_shows(node: Node, host: Host) -> None:
    image = node.derive("probe:hapi", "probe:refused", "--label", "io.fhir-hook.profile=not-there")
    with watching(host) as records:
        node.apply(pod("refused", runs(image, "sleeper"), **OURS))
        state = "{.status.containerStatuses[0].state}"
        wait_until(lambda: "FH101" in node.get("pod", "refused", state), "the refusal", 60)
    assert "fhir-hook refused default/refused/c0 of localhost/probe:refused" in node.get("pod", "refused", state)
    assert {record["decision"] for record in records} == {"refused"} and codes(records[0]) == ["FH101"]
    told = node.kubectl("describe", "pod", "refused", check=True).stdout
    assert "FH101" in told


def test_containerd_killed_and_started_again_changes_nothing(node: Node, host: Host) -> None:
    node.begin("outlives", runs(FHIR, "sleeper"), **OURS)
    pid = node.pid(node.id("outlives"))
    node.stop("containerd", 9)
    assert confined(proc_status(pid))
    node.start_containerd()
    assert node.pid(node.id("outlives")) == pid
    node.wait("containerd", lambda: node.kubectl("exec", "outlives", "--", "true").returncode == 0, 60)
    assert confined(parse_status(node.kubectl("exec", "outlives", "--", "status", check=True).stdout))
    assert unbroken()
