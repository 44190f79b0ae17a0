"""The newest dockerd with containerd's image store, Docker 29's default: the layout that the store reader expects."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from host.machine import ROOT, Host, parse_status, proc_status
from runtime.docker_engine import DAEMON, Docker
from system.support import codes, confined, only, watching

PLAIN, FHIR = "localhost/probe:plain", "localhost/probe:hapi"


@pytest.fixture(scope="module")
def newest(host: Host) -> Iterator[Docker]:
    """A dockerd of its own, with a containerd that it starts."""
    made = Docker(host, "overlayfs")
    programs = Path(host.run([ROOT / "tests/kubernetes/go/build"], check=True).stdout.strip())
    # The first of the path, for the daemon and for what it starts.
    first = [Path("/usr/local/sbin", name) for name in ("dockerd", "containerd", "containerd-shim-runc-v2")]
    for path in first:
        path.symlink_to(programs / path.name)
    # Debian 12's runc knows no time namespace.
    made.configure(features={"containerd-snapshotter": True, "time-namespaces": False}, **{"live-restore": True})
    made.start()
    for tag in ("probe:plain", "probe:hapi"):
        made.load(tag)
    yield made
    made.remove_all()
    made.stop()
    DAEMON.unlink()
    for path in first:
        path.unlink()


@pytest.fixture
def docker(newest: Docker) -> Iterator[Docker]:
    """The dockerd, without containers when the test ends."""
    yield newest
    newest.remove_all()


def test_a_fhir_container_of_the_containerd_store_is_confined_and_on_record(docker: Docker, host: Host) -> None:
    assert "io.containerd.snapshotter.v1" in docker.docker("info", check=True).stdout
    with watching(host) as records:
        id = docker.begin(FHIR, "sleeper", options=("--name", "server", "--privileged"))
        other = docker.begin(PLAIN, "sleeper")
    assert confined(proc_status(docker.pid(id))) and proc_status(docker.pid(other))["NoNewPrivs"] == "0"
    decided = only(records, event="decision")
    assert decided["container"] == {"id": id, "name": "server"} and decided["image"]["source"] == "docker"
    assert FHIR in decided["image"]["names"] and decided["image"]["digest"]
    assert only(records, event="outcome")["decided_by"] == decided["seq"]
    output = docker.docker("exec", "--privileged", id, "status", check=True).stdout
    assert confined(parse_status(output)), output


def test_labels_of_the_user_neither_loosen_nor_make_it_fhir(docker: Docker, host: Host) -> None:
    source = "org.opencontainers.image.source"
    options = ("--rm", "--label", f"{source}=", "--label", "io.fhir-hook.kind=no")
    output = docker.run(FHIR, "status", options=options).stdout
    assert confined(parse_status(output)), output
    hapi = f"{source}=https://github.com/hapifhir/hapi-fhir-jpaserver-starter"
    with watching(host) as records:
        assert docker.run(PLAIN, "true", options=("--rm", "--label", hapi)).returncode == 0
    assert not records


def test_attack_the_image_is_removed_between_create_and_start(docker: Docker, host: Host) -> None:
    docker.docker("tag", FHIR, "localhost/probe:gone", check=True)
    words = ("create", "--runtime", "fhir-runc", "--network", "none", "localhost/probe:gone", "sleeper")
    id = docker.docker(*words, check=True).stdout.strip()
    for name in (FHIR, "localhost/probe:gone"):
        docker.docker("rmi", "-f", name, check=True)
    try:
        with watching(host) as records:
            docker.docker("start", id, check=True)
    finally:
        docker.load("probe:hapi")
    assert confined(proc_status(docker.pid(id))), records
    assert only(records, event="decision")["decision"] == "confined"


def test_a_refusal_is_what_docker_shows(docker: Docker, host: Host) -> None:
    tag = host.derive("probe:hapi", "probe:refused", "--label", "io.fhir-hook.profile=not-there")
    archive = host.directory() / "image.tar"
    host.podman("save", "-q", "--format", "docker-archive", "-o", archive, f"localhost/{tag}", check=True)
    docker.docker("load", "-q", "-i", archive, check=True)
    with watching(host) as records:
        done = docker.run("localhost/probe:refused", "true", options=("--rm", "--name", "refused-one"))
    assert done.returncode != 0 and "fhir-hook refused refused-one" in done.stderr and "FH101" in done.stderr
    assert codes(only(records)) == ["FH101"]


def test_it_outlives_its_daemon(docker: Docker) -> None:
    id = docker.begin(FHIR, "sleeper")
    pid = docker.pid(id)
    docker.stop(signal.SIGKILL)
    docker.start()
    assert docker.pid(id) == pid and confined(proc_status(pid))
    assert confined(parse_status(docker.docker("exec", id, "status", check=True).stdout))
    assert subprocess.run(["fhir-hook", "inspect", id], capture_output=True, check=False).returncode == 0
