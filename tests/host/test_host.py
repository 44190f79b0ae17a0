"""What the other tests take for granted about the private host."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from host.machine import ROOT, Archives, Host, parse_status, proc_status


def test_podman_runs_a_container(bare_host: Host, runtime: str, user: str | None) -> None:
    tag = bare_host.load("probe:plain", user)
    done = bare_host.podman(
        "run", "--rm", "--network", "none", tag, "status", runtime=runtime, hooks=False, user=user, check=True
    )
    status = parse_status(done.stdout)
    assert status["Seccomp"] == "2"
    assert status["CapEff"] == "00000000800405fb"


def test_podman_execs_into_a_container(
    bare_host: Host, start: Callable[..., str], runtime: str, user: str | None
) -> None:
    container = start(bare_host.load("probe:plain", user), command=["sleeper"], runtime=runtime, hooks=False, user=user)
    done = bare_host.podman("exec", container, "status", runtime=runtime, user=user, check=True)
    assert parse_status(done.stdout)["Seccomp"] == "2"
    assert proc_status(bare_host.pid(container, user))["Seccomp"] == "2"


def test_a_published_port_answers(bare_host: Host, start: Callable[..., str], runtime: str, user: str | None) -> None:
    port = 18081 if user is None else 18082
    tag = bare_host.load("probe:plain", user)
    start(
        tag,
        "-p",
        f"127.0.0.1:{port}:8080",
        command=["httpd", "-f", "-p", "8080", "-h", "/etc"],
        runtime=runtime,
        hooks=False,
        user=user,
    )
    for _ in range(50):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/group", timeout=5) as answer:
                assert b"probe" in answer.read()
            return
        except OSError as error:
            last = error
            time.sleep(0.1)
    raise AssertionError(last)


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_rootless_podman_works_with_either_storage_driver(
    bare_host: Host, runtime: str, driver: str, images: Archives
) -> None:
    storage = bare_host.directory("rootless")
    env = {"STORAGE_DRIVER": driver}
    where = ["--root", storage / "root", "--runroot", storage / "run"]
    bare_host.run(
        ["podman", *where, "load", "-q"], user="rootless", env=env, stdin=images.archive("probe:plain"), check=True
    )
    info = bare_host.run(["podman", *where, "info", "-f", "json"], user="rootless", env=env, check=True)
    assert json.loads(info.stdout)["store"]["graphDriverName"] == driver
    words = ["podman", "--runtime", runtime, *where, "run", "--rm", "--network", "none", "probe:plain", "status"]
    assert "Seccomp:" in bare_host.run(words, user="rootless", env=env, check=True).stdout


def test_a_bundle_runs_without_an_engine(bare_host: Host, runtime: str) -> None:
    bundle = bare_host.bundle("probe:hapi", "/bin/status")
    assert "org.opencontainers.image.source" in json.loads((bundle / "config.json").read_text())["annotations"]
    done = bare_host.runtime(runtime, "run", "--bundle", bundle, f"bundle-{runtime}", check=True)
    assert parse_status(done.stdout)["Seccomp"] == "0"


def test_derive_changes_labels_annotations_and_user(bare_host: Host, user: str | None) -> None:
    tag = bare_host.derive(
        "probe:plain",
        "derived:1",
        "--label",
        "a=b c",
        "--annotation",
        "d=e",
        "--user",
        "7:8",
        "--entrypoint",
        '["/bin/status"]',
        user=user,
    )
    image = json.loads(bare_host.podman("image", "inspect", tag, user=user, check=True).stdout)[0]
    assert image["Labels"]["a"] == "b c"
    assert image["Annotations"]["d"] == "e"
    done = bare_host.podman("run", "--rm", "--network", "none", tag, hooks=False, user=user, check=True)
    assert parse_status(done.stdout)["Uid"] == "7 7 7 7"


def test_the_probe_has_setuid_and_file_capability_entry_points(bare_host: Host, runtime: str, user: str | None) -> None:
    tag = bare_host.load("probe:plain", user)
    run = ["run", "--rm", "--network", "none", "--user", "65532", "--cap-add", "SYS_ADMIN,NET_RAW", tag]
    setuid = parse_status(
        bare_host.podman(*run, "setuid-status", runtime=runtime, hooks=False, user=user, check=True).stdout
    )
    assert setuid["Uid"] == "65532 0 0 0"
    fcaps = parse_status(
        bare_host.podman(*run, "fcaps-status", runtime=runtime, hooks=False, user=user, check=True).stdout
    )
    assert int(fcaps["CapEff"], 16) == 1 << 13 | 1 << 21


def test_the_first_call_of_the_probe_is_visible(bare_host: Host, runtime: str) -> None:
    tag = bare_host.load("probe:plain")
    run = ["run", "--rm", "--network", "none", "--privileged", tag]
    assert bare_host.podman(*run, "firstcall-unshare", runtime=runtime, hooks=False, check=True).stdout == "unshare 0\n"
    keyctl = bare_host.podman(*run, "firstcall", runtime=runtime, hooks=False, check=True).stdout
    assert re.fullmatch(r"keyctl \d+\n", keyctl)


def test_nothing_is_left_when_the_host_ends(bare_host: Host) -> None:
    """A second private host inside this one is left with a running container and an installed file."""
    script = (
        f"podman load -q -i {bare_host.images.archive('probe:plain')} && "
        "touch /usr/lib/left /etc/left /var/lib/fhir-hook/left && "
        "podman run -d --network bridge probe:plain sleeper 3 && echo started"
    )
    scratch = bare_host.directory()
    before = observed()
    done = bare_host.run([ROOT / "tests/host/enter", "bash", "-c", script], env={"SCRATCH": str(scratch)})
    assert done.stdout.endswith("started\n"), done.stderr
    assert observed() <= before
    assert not list(scratch.iterdir())
    assert not any(Path(path).exists() for path in ("/usr/lib/left", "/etc/left", "/var/lib/fhir-hook/left"))


def observed() -> set[str]:
    """What a private host could leave behind: processes, mounts, control groups, network interfaces."""
    processes = {f"process {pid}" for pid in os.listdir("/proc") if pid.isdigit()}
    mounts = set(Path("/proc/mounts").read_text().splitlines())
    groups = {str(path) for path in Path("/sys/fs/cgroup").rglob("fhir-hook-host*")}
    return processes | mounts | groups | set(os.listdir("/sys/class/net"))
