"""Bundles as CRI-O 1.2x and 1.3x write them, on a real storage and real runtimes; CRI-O itself is not at hand.

What CRI-O says of a container: internal/factory/container and server/container_create.go of github.com/cri-o/cri-o.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host.machine import Host, Result, parse_status
from system.support import SHARED_HOOKS, confined, only, watching

FHIR, PLAIN = "probe:hapi", "probe:plain"
STORAGE = Path("/run/containers/storage/overlay-containers")
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_KILL"]
POD = {"io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "default", "io.kubernetes.container.name": "c0"}


def annotations(host: Host, id: str, tag: str, mount: str) -> dict[str, str]:
    """The annotations of a container, a pod's own among them, which here say that it is something else."""
    image = host.podman("image", "inspect", "-f", "{{.Id}}", tag, check=True).stdout.strip()
    said = {"org.opencontainers.image.source": "other", "io.fhir-hook.profile": "fhir-jvm"}
    own = {
        "Annotations": json.dumps(said), "ContainerID": id, "ContainerType": "container", "IP.0": "10.88.0.9",
        "Created": "2026-01-01T00:00:00Z", "Image": f"localhost/{tag}", "ImageName": f"localhost/{tag}",
        "ImageRef": image,
        "Labels": json.dumps({**POD, **said}), "LogPath": "/var/log/pods/default_web_u/c0/0.log",
        "Metadata": '{"name":"c0"}', "MountPoint": mount, "Name": "k8s_c0_web_default_u_0", "ResolvPath": "",
        "SandboxID": "5" * 64, "SandboxName": "k8s_web_default_u_0", "SeccompProfilePath": "Unconfined",
        "Stdin": "false", "StdinOnce": "false", "TTY": "false", "Volumes": "[]", "PlatformRuntimePath": "",
    }  # fmt: skip
    internal = {f"io.kubernetes.cri-o.{key}": value for key, value in own.items()}
    hashed = {"io.kubernetes.container.hash": "1", "io.kubernetes.container.restartCount": "0"}
    return {**said, **POD, **internal, **hashed, "io.container.manager": "cri-o"}


@pytest.fixture
def bundle(host: Host) -> Iterator[Callable[..., tuple[Path, str]]]:
    """A container in the storage and its bundle below the storage's run root: the bundle and the container's id."""
    made: list[str] = []

    def make(tag: str, *command: str, hooks: bool = False) -> tuple[Path, str]:
        id = host.podman("create", "--network", "none", host.load(tag), check=True, hooks=False).stdout.strip()
        made.append(id)
        mount = host.podman("mount", id, check=True).stdout.strip()
        path = STORAGE / id / "userdata"
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json").unlink(missing_ok=True)
        host.run(["runc", "spec", "-b", path], check=True)
        config: dict[str, Any] = json.loads((path / "config.json").read_text())
        config["root"] = {"path": mount}
        config["annotations"] = annotations(host, id, tag, mount)
        sets = ("bounding", "effective", "permitted")
        config["process"] |= {"terminal": False, "args": list(command), "noNewPrivileges": False, "rlimits": []}
        config["process"]["capabilities"] = dict.fromkeys(sets, CAPABILITIES)
        if hooks:  # as its hooks package puts them in
            entry = json.loads((SHARED_HOOKS / "50-fhir-hook.json").read_text())
            config["hooks"] = {stage: [entry["hook"]] for stage in entry["stages"]}
        (path / "config.json").write_text(json.dumps(config))
        return path, id

    yield make
    for id in made:
        for kind in ("runc", "crun"):
            host.run([kind, "delete", "-f", id])
        host.podman("umount", id)
        host.podman("rm", "-f", id)


def start(host: Host, program: str, bundle: Path, id: str) -> Result:
    """Run a bundle with CRI-O's options, but for the cgroup manager."""
    kind = program.rpartition("-")[2]
    return host.run([program, "--root", f"/run/{kind}", "run", "--bundle", bundle, id])


@pytest.mark.parametrize("native", [True, False], ids=["handler", "hooks.d"])
def test_a_container_of_cri_o_is_confined_by_the_label_of_its_image(
    host: Host, runtime: str, native: bool, bundle: Callable[..., tuple[Path, str]]
) -> None:
    path, id = bundle(FHIR, "/bin/status", hooks=not native)
    with watching(host) as records:
        done = start(host, f"/usr/libexec/fhir-hook/fhir-{runtime}" if native else runtime, path, id)
    assert confined(parse_status(done.stdout)), done
    decided = only(records, event="decision")
    assert (decided["decision"], decided["path"]) == ("confined", "native" if native else "live")
    assert decided["image"]["names"] == [f"localhost/{FHIR}"]
    assert [profile["name"] for profile in decided["profile"]] == ["hapi"]
    assert decided["container"]["id"] == id


@pytest.mark.parametrize("native", [True, False], ids=["handler", "hooks.d"])
def test_another_container_of_cri_o_and_its_config_are_left_alone(
    host: Host, runtime: str, native: bool, bundle: Callable[..., tuple[Path, str]]
) -> None:
    path, id = bundle(PLAIN, "/bin/status", hooks=not native)
    before = (path / "config.json").read_bytes()
    with watching(host) as records:
        done = start(host, f"/usr/libexec/fhir-hook/fhir-{runtime}" if native else runtime, path, id)
    status = parse_status(done.stdout)
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("0", "0") and not records, done
    assert (path / "config.json").read_bytes() == before


def test_attack_annotations_that_name_another_image_and_another_mount(
    host: Host, bundle: Callable[..., tuple[Path, str]]
) -> None:
    """A pod's annotations can't be these, CRI-O keeps its own; whoever could write them is not believed either."""
    path, id = bundle(FHIR, "/bin/status")
    config = json.loads((path / "config.json").read_text())
    other = annotations(host, id, host.load(PLAIN), "/var/lib/containers/storage/overlay/none/merged")
    config["annotations"] = {**other, "io.kubernetes.cri-o.ContainerType": "sandbox"}
    (path / "config.json").write_text(json.dumps(config))
    assert confined(parse_status(start(host, "/usr/libexec/fhir-hook/fhir-runc", path, id).stdout))
