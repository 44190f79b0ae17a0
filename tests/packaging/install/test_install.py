"""apt install on Debian 12, 13 and unstable, and from then on every FHIR container is confined, with no other step."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from packaging_root import DEFAULT_BOUNDING, FHIR, PLAIN, USER, Root, confined, untouched

from host.machine import parse_status

# Forms in which others install theirs: hook file -> (when, stage, options of podman run)
OTHERS: dict[str, tuple[dict[str, object], str, list[str]]] = {
    "oci-nvidia-hook": ({"always": True, "commands": [".*"]}, "prestart", []),
    "nvidia-cdi-hook": ({"always": True}, "createContainer", []),
    "oci-seccomp-bpf-hook": (
        {"annotations": {r"^io\.containers\.trace-syscall$": ".*"}},
        "prestart",
        ["--annotation", "io.containers.trace-syscall=of:/tmp/x.json"],
    ),
}


@pytest.mark.parametrize("who", [None, USER], ids=["root", "rootless"])
def test_after_apt_install_fhir_containers_are_confined_and_others_untouched(
    installed: Root, runtime: str, who: str | None
) -> None:
    assert confined(installed.state(FHIR, runtime=runtime, user=who))
    assert untouched(installed.state(PLAIN, runtime=runtime, user=who))
    decision = [r for r in installed.records(who) if r["event"] == "decision"][-1]
    assert (decision["decision"], decision["path"], decision["stage"]) == ("confined", "native", "precreate")


@pytest.mark.parametrize("who", [None, USER], ids=["root", "rootless"])
def test_exec_is_under_the_filter_too(installed: Root, runtime: str, who: str | None) -> None:
    run = ["run", "-d", "--rm", "--network", "none", "--name", f"exec-{runtime}", FHIR, "sleeper"]
    installed.podman(*run, runtime=runtime, user=who, check=True)
    try:
        status = installed.podman("exec", f"exec-{runtime}", "status", runtime=runtime, user=who, check=True).stdout
        assert "CapBnd:\t0000000000000000" in status
        tried = installed.podman("exec", f"exec-{runtime}", "try", "keyctl", "unshare_user", runtime=runtime, user=who)
        assert tried.stdout.count("EPERM") == 2
    finally:
        installed.podman("rm", "-f", "-t", "0", f"exec-{runtime}", runtime=runtime, user=who)


@pytest.mark.parametrize("who", [None, USER], ids=["root", "rootless"])
def test_an_image_is_built_from_a_fhir_image(installed: Root, who: str | None) -> None:
    installed.write("/srv/shared/build/Dockerfile", f"FROM localhost/{FHIR}\nRUN true\nLABEL a=b\n")
    done = installed.podman(
        "build", "-q", "--network", "none", "-t", "built:1", "/srv/shared/build", user=who, runtime="crun"
    )
    assert done.returncode == 0, done.stderr
    assert confined(installed.state("built:1", user=who))


def test_a_pod_of_a_fhir_server_and_another_container(installed: Root, runtime: str) -> None:
    """As compose files and podman play kube make them: containers that share the namespaces of an infra container."""
    installed.podman("pod", "create", "--network", "none", "--name", "pair", runtime=runtime, check=True)
    try:
        run = ["run", "--rm", "--pod", "pair"]
        seen = [installed.podman(*run, tag, "status", runtime=runtime) for tag in (FHIR, PLAIN)]
        assert confined(parse_status(seen[0].stdout)), seen[0].stderr
        assert untouched(parse_status(seen[1].stdout)), seen[1].stderr
    finally:
        installed.podman("pod", "rm", "-f", "-t", "0", "pair", runtime=runtime, check=True)


def test_a_unit_made_by_generate_systemd_starts_a_confined_container(installed: Root) -> None:
    installed.podman("create", "--network", "none", "--name", "unit", FHIR, "sleeper", check=True)
    try:
        unit = installed.podman("generate", "systemd", "--new", "--name", "unit", check=True).stdout
        start = re.search(r"^ExecStart=((?:.*\\\n)*.*)$", unit, re.M)
        assert start is not None
        line = start[1].replace("\\\n", " ").replace("%t", "/run").replace("%n", "unit.service").replace("%%", "%")
        words = [word for word in shlex.split(line) if not word.startswith("--sdnotify")]
        installed.podman("rm", "-f", "unit", check=True)
        installed.run(words)
        pid = installed.podman("inspect", "-f", "{{.State.Pid}}", "unit", check=True).stdout.strip()
        assert "NoNewPrivs:\t1" in installed.read(f"/proc/{pid}/status")
    finally:
        installed.podman("rm", "-f", "-t", "0", "unit")


def test_a_quadlet_unit_starts_a_confined_container(installed: Root) -> None:
    generator = "/usr/lib/systemd/system-generators/podman-system-generator"
    if installed.suite == "bookworm":
        assert not installed.exists(generator)  # Podman 4.3 has no quadlet
        return
    text = f"[Container]\nImage=localhost/{FHIR}\nExec=sleeper\nNetwork=none\nContainerName=quadlet\n"
    installed.write("/etc/containers/systemd/quadlet.container", text)
    unit = installed.run([generator, "--dryrun"]).stdout
    start = re.search(r"^ExecStart=(.*)$", unit, re.M)
    assert start is not None, unit
    words = shlex.split(start[1].replace("%N", "quadlet").replace("%t", "/run"))
    # without systemd nobody is told, and there is no unit whose cgroup could be split
    words = [word for word in words if not word.startswith(("--sdnotify", "--cgroups"))]
    try:
        installed.run(words)
        pid = installed.podman("inspect", "-f", "{{.State.Pid}}", "quadlet", check=True).stdout.strip()
        assert "NoNewPrivs:\t1" in installed.read(f"/proc/{pid}/status")
    finally:
        installed.podman("rm", "-f", "-t", "0", "quadlet")


def test_the_rest_service_starts_confined_containers(installed: Root) -> None:
    """podman system service, as docker-compose and other clients of Docker's API use it."""
    script = (
        "podman system service --time 20 unix:///run/api.sock & "
        "for i in $(seq 50); do [ -S /run/api.sock ] && break; sleep 0.1; done; "
        f"podman --url unix:///run/api.sock run --rm --network none {FHIR} status; "
        f"podman --url unix:///run/api.sock run --rm --network none {PLAIN} status"
    )
    said = installed.run(["sh", "-c", script]).stdout
    assert re.findall(r"NoNewPrivs:\s(\d)", said) == ["1", "0"]


@pytest.mark.parametrize("name", OTHERS)
def test_other_hooks_run_beside_it(installed: Root, runtime: str, name: str) -> None:
    when, stage, options = OTHERS[name]
    hook = {"path": "/srv/shared/other", "args": [name, stage], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}
    document = {"version": "1.0.0", "hook": hook, "when": when, "stages": [stage]}
    installed.write("/srv/shared/other", "#!/bin/sh\ncat >/dev/null\necho $1 >>/srv/shared/other-ran\n", 0o755)
    installed.write(f"/usr/share/containers/oci/hooks.d/{name}.json", json.dumps(document))
    try:
        for tag, expected in ((FHIR, confined), (PLAIN, untouched)):
            installed.run(["rm", "-f", "/srv/shared/other-ran"])
            assert expected(installed.state(tag, *options, runtime=runtime))
            assert installed.read("/srv/shared/other-ran") == f"{stage}\n"
    finally:
        installed.run(["rm", "-f", "/srv/shared/other-ran", f"/usr/share/containers/oci/hooks.d/{name}.json"])


def test_kube_play_starts_a_confined_server_beside_another_container(installed: Root, runtime: str) -> None:
    lines = ["apiVersion: v1", "kind: Pod", "metadata: {name: played}", "spec:", "  hostNetwork: true", "  containers:"]
    for name, tag in (("server", FHIR), ("other", PLAIN)):
        lines.append(f"  - {{name: {name}, image: localhost/{tag}, imagePullPolicy: Never, command: [/bin/sleeper]}}")
    installed.write("/srv/shared/pod.yaml", "\n".join(lines) + "\n")
    try:
        # "play kube" is what Podman 4.3 calls it; later ones take both
        installed.podman("play", "kube", "/srv/shared/pod.yaml", runtime=runtime, check=True)
        names = ("played-server", "played-other")
        show = [installed.podman("exec", name, "/bin/status", runtime=runtime) for name in names]
        assert f"CapBnd:\t{'0' * 16}" in show[0].stdout, show[0].stderr
        assert f"CapBnd:\t{DEFAULT_BOUNDING}" in show[1].stdout, show[1].stderr
    finally:
        installed.podman("pod", "rm", "-f", "-t", "0", "played", runtime=runtime)


def test_a_directory_given_with_hooks_dir_replaces_the_list_and_podman_says_so_itself(installed: Root) -> None:
    """--hooks-dir is Podman's own: the hook runs if the directory that is named holds it."""
    assert confined(installed.state(FHIR, runtime="runc"))
    words = ["--hooks-dir", "/usr/share/containers/oci/hooks.d", "run", "--rm", "--network", "none", FHIR, "status"]
    assert "NoNewPrivs:\t1" in installed.podman(*words, check=True).stdout


def test_usr_may_be_read_only(installed: Root, runtime: str) -> None:
    remount = "mount --bind /usr /usr && mount -o remount,ro,bind /usr && ! touch /usr/x 2>/dev/null && "
    run = f"podman --runtime {runtime} run --rm --network none {FHIR} status && fhir-hook policy compile"
    said = installed.run(["unshare", "-m", "sh", "-c", remount + run]).stdout
    assert "NoNewPrivs:\t1" in said and "is in force" in said


def test_nothing_of_the_package_was_changed_by_using_it(installed: Root) -> None:
    said = installed.dpkg("--verify", "fhir-hook").stdout.splitlines()
    assert [line for line in said if "/usr/share/man" not in line] == []  # the roots are made without manual pages
