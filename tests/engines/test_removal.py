"""The package is not removed while an engine names fhir-runc, and the doctor knows who does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host.machine import ROOT, Host
from system.support import wait_until

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


def preun(host: Host) -> Path:
    """%preun of the RPM as rpm expands it, with macros of systemd that tell when they disable something."""
    spec = (ROOT / "packaging/rpm/fhir-hook.spec").read_text()
    text = spec.partition("\n%preun\n")[2].partition("\n%transfiletriggerin")[0]
    defined = [f"--define={name}() echo DISABLED >&2" for name in ("systemd_preun", "systemd_user_preun")]
    path = host.directory() / "preun"
    path.write_text(host.run(["rpm", *defined, "--eval", text], check=True).stdout)
    return path


@pytest.fixture(params=["deb", "rpm", "make"])
def removal(request: pytest.FixtureRequest, host: Host) -> list[str | Path]:
    """What removes the product, up to where its files would go."""
    ways: dict[str, list[str | Path]] = {
        "deb": ["sh", ROOT / "packaging/debian/prerm", "remove"],
        "rpm": ["sh", preun(host), "0"],
        "make": ["make", "-s", "-C", ROOT, "uninstall"],
    }
    return ways[request.param]


def refused(host: Host, removal: list[str | Path], why: str) -> bool:
    done = host.run(removal)
    assert HOOKS.exists() and Path("/usr/libexec/fhir-hook/fhir-runc").exists() and "DISABLED" not in done.stderr
    return done.returncode != 0 and why in done.stderr and "--undo" in done.stderr


@pytest.mark.parametrize("name", list(FILES))
def test_removal_is_refused_before_anything_is_taken_away(
    host: Host, configured: Callable[..., None], name: str, removal: list[str | Path]
) -> None:
    configured(name)
    assert refused(host, removal, FILES[name])


def test_removal_is_refused_while_a_file_given_with_config_names_it(host: Host, removal: list[str | Path]) -> None:
    config = host.directory() / "another daemon.json"
    words = ["fhir-hook", "engine", "configure", "docker", "--config", config]
    host.run(words, check=True)
    try:
        assert refused(host, removal, str(config))
    finally:
        host.run([*words, "--undo"], check=True)


def test_removal_is_refused_while_a_container_runs_on_it(host: Host, removal: list[str | Path]) -> None:
    task = Path("/run/containerd/io.containerd.runtime.v2.task/k8s.io/c1")
    task.mkdir(parents=True)
    try:
        (task / "options.json").write_text('{"binary_name":"/usr/libexec/fhir-hook/fhir-runc"}')
        assert refused(host, removal, "options.json")
    finally:
        shutil.rmtree(task.parent)


def test_removal_is_refused_while_a_container_of_podman_runs_on_it(
    host: Host, configured: Callable[..., None], removal: list[str | Path]
) -> None:
    tag = host.load("probe:plain")
    shim = "/usr/libexec/fhir-hook/fhir-crun"
    host.podman("run", "-d", "--name", "on-shim", "--network", "none", tag, "sleeper", runtime=shim, check=True)
    try:
        monitor = host.podman("inspect", "-f", "{{.State.ConmonPid}}", "on-shim", check=True).stdout.strip()
        assert refused(host, removal, f"process {monitor}")
    finally:
        host.podman("rm", "-f", "-t", "0", "on-shim", runtime=shim, check=True)


def test_nothing_in_use_is_no_reason_to_refuse(host: Host) -> None:
    # conmon outlives its container by a moment
    wait_until(lambda: host.run(["/usr/libexec/fhir-hook/in-use"]).returncode == 0, "the end of what the tests ran")
    done = host.run(["/usr/libexec/fhir-hook/in-use"])
    assert (done.stdout, done.stderr) == ("", "")


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


def test_the_doctor_says_when_several_runtimes_could_be_meant(host: Host, configured: Callable[..., None]) -> None:
    configured("docker")

    def seen() -> str:
        findings = json.loads(host.run(["fhir-hook", "doctor", "--json"]).stdout)["findings"]
        return "".join(finding["seen"] for finding in findings if finding["check"] == "engine.runtimes")

    assert seen() == ""
    other = Path("/usr/local/sbin/runc")
    other.symlink_to("/usr/bin/runc")
    try:
        assert seen() == ""
        other.unlink()
        shutil.copy("/usr/bin/runc", other)
        assert seen() == "there is also /usr/bin/runc"
    finally:
        other.unlink()
