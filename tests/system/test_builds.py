"""Build containers of a FHIR base image: exempt on record, or refused by the setting; and where no hook is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from host.machine import IMAGES, Host, parse_status
from system.support import FHIR, PLAIN, codes, only, watching


@pytest.fixture
def working(host: Host) -> Iterator[str]:
    """A working container of Buildah made from the FHIR image."""
    name = host.buildah("from", FHIR, check=True).stdout.strip()
    yield name
    host.buildah("rm", name)


def test_buildah_run_of_a_fhir_base_is_exempt_and_on_record(host: Host, working: str, runtime: str) -> None:
    """A stated way round: a build container runs with what Buildah gives it, even if it starts the server."""
    with watching(host) as records:
        done = host.buildah("run", "--runtime", runtime, working, "status", check=True)
    assert parse_status(done.stdout)["NoNewPrivs"] == "0"
    record = only(records, event="decision")
    assert (record["decision"], record["stage"], codes(record)) == ("exempt", "prestart", ["FH401"])
    assert record["container"]["name"] == working
    assert record["image"]["names"] == ["localhost/probe:hapi"]


def test_podman_build_on_a_fhir_base_works_and_each_step_is_on_record(host: Host, runtime: str) -> None:
    with watching(host) as records:
        host.podman("build", "-q", "--no-cache", "-t", "built:1", IMAGES / "on-fhir-base", runtime=runtime, check=True)
    assert [record["decision"] for record in records] == ["exempt", "exempt"]


def test_the_built_image_is_confined_when_it_runs(host: Host, runtime: str) -> None:
    """Labels are inherited: what is built on a FHIR base is FHIR."""
    host.podman("build", "-q", "-t", "built:1", IMAGES / "on-fhir-base", check=True)
    done = host.podman("run", "--rm", "--network", "none", "built:1", "status", runtime=runtime, check=True)
    assert parse_status(done.stdout)["NoNewPrivs"] == "1"


def test_builds_on_a_fhir_base_are_refused_where_the_settings_say_so(
    host: Host, settings: Callable[[str], None], working: str
) -> None:
    settings('builds = "refuse"\n')
    for runtime in ("runc", "crun"):
        with watching(host) as records:
            done = host.buildah("run", "--runtime", runtime, working, "status")
        assert done.returncode != 0
        assert "Seccomp" not in done.stdout
        assert codes(only(records, event="decision"))[0] == "FH110"
    with watching(host) as records:
        built = host.podman("build", "-q", "--no-cache", "-t", "built:2", IMAGES / "on-fhir-base")
    assert built.returncode != 0
    assert "FH110" in built.stderr
    other = host.buildah("from", PLAIN, check=True).stdout.strip()
    assert host.buildah("run", other, "status").returncode == 0
    host.buildah("rm", other)


def test_builds_on_another_base_leave_no_record(host: Host, runtime: str) -> None:
    name = host.buildah("from", PLAIN, check=True).stdout.strip()
    with watching(host) as records:
        host.buildah("run", "--runtime", runtime, name, "status", check=True)
    assert records == []
    host.buildah("rm", name)


def test_buildah_with_chroot_isolation_calls_no_runtime_and_so_no_hook(host: Host, working: str) -> None:
    """A stated limit: chroot isolation has no OCI runtime. Such a build container is neither confined nor recorded."""
    with watching(host) as records:
        done = host.buildah("run", "--isolation", "chroot", working, "status", check=True)
    assert parse_status(done.stdout)["NoNewPrivs"] == "0"
    assert records == []


def test_an_ordinary_user_s_buildah_calls_no_hooks(host: Host) -> None:
    """A stated limit: Buildah reads no hooks directory when it is rootless, unless it is given --hooks-dir."""
    name = host.buildah("from", FHIR, user="rootless", check=True).stdout.strip()
    with watching(host, "rootless") as records:
        host.buildah("run", name, "status", user="rootless", check=True)
    assert records == []
    host.buildah("rm", name, user="rootless")
