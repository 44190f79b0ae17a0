"""Real containers of Debian's dockerd on fhir-runc: FHIR ones confined, others as if it were not there."""

from __future__ import annotations

import concurrent.futures
import functools
import http.server
import json
import signal
import threading
import time
from collections.abc import Callable

import pytest

from host.machine import Host, parse_status, proc_status
from runtime.docker_engine import TASKS, Docker
from system.support import codes, confined, only, tried, unbroken, wait_until, watching

PLAIN, FHIR = "localhost/probe:plain", "localhost/probe:hapi"


def test_a_fhir_container_is_confined_and_the_decision_and_the_gate_are_on_record(docker: Docker, host: Host) -> None:
    with watching(host) as records:
        id = docker.begin(FHIR, "sleeper", options=("--name", "server"))
    assert confined(proc_status(docker.pid(id)))
    decided = only(records, event="decision")
    assert (decided["decision"], decided["stage"], decided["path"]) == ("confined", "create", "native")
    assert decided["container"] == {"id": id, "name": "server"}
    assert decided["image"]["source"] == "docker" and FHIR in decided["image"]["names"]
    seen = only(records, event="outcome")
    assert (seen["stage"], seen["decided_by"], seen["container"]["id"]) == ("gate", decided["seq"], id)


def test_calls_that_the_profile_lacks_are_denied(docker: Docker) -> None:
    output = docker.run(FHIR, "try", "unshare_user", "ptrace", "keyctl", "mount", options=("--rm",)).stdout
    assert set(tried(output).values()) == {"EPERM"}, output


def test_the_config_of_another_container_is_not_touched(
    docker: Docker, host: Host, written: Callable[[str], bytes]
) -> None:
    with watching(host) as records:
        id = docker.begin(PLAIN, "sleeper", runtime="recorder")
    assert (TASKS / id / "config.json").read_bytes() == written(id)
    assert not records
    plain = docker.begin(PLAIN, "sleeper", runtime="runc")
    keys = ("CapBnd", "CapEff", "NoNewPrivs", "Seccomp", "Seccomp_filters", "SigIgn", "SigBlk")
    with_shim, without = (proc_status(docker.pid(each)) for each in (id, plain))
    assert {key: with_shim[key] for key in keys} == {key: without[key] for key in keys}


def test_privileged_unconfined_and_labels_of_the_user_loosen_nothing(docker: Docker) -> None:
    for options in (
        ("--privileged",),
        ("--security-opt", "seccomp=unconfined", "--cap-add", "ALL"),
        ("--label", "io.fhir-hook.profile=fhir-jvm", "--label", "org.opencontainers.image.source="),
        ("--label", "io.fhir-hook.kind=other", "--user", "65532"),
    ):
        output = docker.run(FHIR, "status", options=("--rm", *options)).stdout
        assert confined(parse_status(output)), (options, output)


def test_attack_a_mount_of_the_users_that_looks_like_a_run_root_of_podman(docker: Docker, host: Host) -> None:
    store = host.directory() / "overlay2-containers"
    (store / "x").mkdir(parents=True)
    words = ("create", "--runtime", "fhir-runc", "--network", "none", "-v", f"{store}/x:/x", FHIR, "sleeper")
    id = docker.docker(*words, check=True).stdout.strip()
    layer = docker.inspect(id, "{{.GraphDriver.Data.MergedDir}}").split("/")[-2]
    forged = [{"id": "a" * 64, "layer": layer}]
    (store / "containers.json").write_text(json.dumps(forged, separators=(",", ":")))
    with watching(host) as records:
        docker.docker("start", id, check=True)
    assert confined(proc_status(docker.pid(id)))
    assert only(records, event="decision")["image"]["source"] == "docker"


def test_a_label_of_the_user_does_not_make_a_container_fhir(docker: Docker, host: Host) -> None:
    with watching(host) as records:
        label = "org.opencontainers.image.source=https://github.com/hapifhir/hapi-fhir-jpaserver-starter"
        assert docker.run(PLAIN, "true", options=("--rm", "--label", label)).returncode == 0
    assert not records


@pytest.mark.parametrize("hidden", [False, True])
def test_attack_the_image_is_removed_between_create_and_start(docker: Docker, host: Host, hidden: bool) -> None:
    build = host.directory()
    (build / "Dockerfile").write_text(f"FROM {FHIR}\nENV GONE={hidden}\n")
    docker.docker("build", "-q", "-t", "localhost/probe:gone", build, check=True)
    options = ("--label", "org.opencontainers.image.source=") if hidden else ()
    words = ("create", "--runtime", "fhir-runc", "--network", "none", *options, "localhost/probe:gone", "sleeper")
    id = docker.docker(*words, check=True).stdout.strip()
    docker.docker("rmi", "-f", "localhost/probe:gone", check=True)
    with watching(host) as records:
        docker.docker("start", id, check=True)
    decided = only(records, event="decision")
    if hidden:
        assert decided["decision"] == "undetermined" and codes(decided) == ["FH301"]
    else:
        assert confined(proc_status(docker.pid(id)))
        assert "FH214" in [one["code"] for one in decided["findings"]]


def test_exec_gets_the_filter_no_capability_and_no_new_privs(docker: Docker) -> None:
    id = docker.begin(FHIR, "sleeper")
    for options in ((), ("--privileged",), ("--user", "65532")):
        output = docker.docker("exec", *options, id, "status", check=True).stdout
        assert confined(parse_status(output)), (options, output)
    output = docker.docker("exec", "--privileged", id, "try", "unshare_user", "mount").stdout
    assert set(tried(output).values()) == {"EPERM"}, output
    other = docker.begin(PLAIN, "sleeper")
    status = parse_status(docker.docker("exec", other, "status", check=True).stdout)
    assert status["CapEff"] == proc_status(docker.pid(other))["CapEff"] == "00000000a80425fb"
    assert status["NoNewPrivs"] == "0"


def test_health_checks_and_stop_and_exit_codes_work(docker: Docker) -> None:
    health = ("--health-cmd", "status >/dev/null", "--health-interval", "1s")
    id = docker.begin(FHIR, "sleeper", options=health)
    wait_until(lambda: docker.inspect(id, "{{.State.Health.Status}}") == "healthy", "the health check", 20)
    assert docker.run(FHIR, "sh", "-c", "exit 41", options=("--rm",)).returncode == 41
    docker.docker("kill", "-s", "TERM", id, check=True)
    docker.docker("rm", "-f", id, check=True)


def test_a_restart_is_decided_anew(docker: Docker, host: Host) -> None:
    with watching(host) as records:
        id = docker.begin(FHIR, "sh", "-c", "status; exit 3", options=("--restart", "on-failure:2"))
        wait_until(lambda: docker.inspect(id, "{{.RestartCount}} {{.State.Running}}") == "2 false", "restarts", 30)
    assert [r["decision"] for r in records if r["event"] == "decision"] == ["confined"] * 3
    docker.docker("start", id, check=True)
    output = docker.docker("logs", id, check=True).stdout
    assert output.count("NoNewPrivs:\t1") >= 3 and "NoNewPrivs:\t0" not in output


def test_live_restore_keeps_a_container_confined_and_exec_working(docker: Docker) -> None:
    id = docker.begin(FHIR, "sleeper")
    pid = docker.pid(id)
    docker.stop()
    assert confined(proc_status(pid))
    docker.start()
    assert docker.pid(id) == pid
    assert confined(parse_status(docker.docker("exec", id, "status", check=True).stdout))


def test_a_hundred_at_once_are_all_decided_rightly(docker: Docker, host: Host) -> None:
    def one(number: int) -> bool:
        tag = FHIR if number % 2 else PLAIN
        done = docker.run(tag, "status", options=("--rm",))
        assert done.returncode == 0, done.stderr
        return confined(parse_status(done.stdout)) is (tag == FHIR)

    with watching(host) as records, concurrent.futures.ThreadPoolExecutor(100) as pool:
        assert all(pool.map(one, range(100)))
    assert [r["event"] for r in records].count("decision") == [r["event"] for r in records].count("outcome") == 50
    assert unbroken()


def test_a_refusal_is_what_docker_shows(docker: Docker, host: Host) -> None:
    build = host.directory()
    (build / "Dockerfile").write_text(f"FROM {FHIR}\nLABEL io.fhir-hook.profile=not-there\n")
    docker.docker("build", "-q", "-t", "localhost/probe:refused", build, check=True)
    with watching(host) as records:
        done = docker.run("localhost/probe:refused", "true", options=("--rm", "--name", "refused-one"))
    assert done.returncode != 0
    assert "fhir-hook refused refused-one of localhost/probe:refused" in done.stderr and "FH101" in done.stderr
    assert only(records)["decision"] == "refused" and codes(records[0]) == ["FH101"]


def test_attack_engine_killed_during_create_leaves_nothing_unconfined(docker: Docker, host: Host) -> None:
    for delay in (0.05, 0.15, 0.25, 0.4):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(docker.run, FHIR, "sleeper", options=("-d",))
            time.sleep(delay)
            docker.stop(signal.SIGKILL)
            running.result()
        docker.start()
    for id in docker.docker("ps", "-q", "--no-trunc", check=True).stdout.split():
        assert confined(proc_status(docker.pid(id)))
    assert unbroken()
    assert confined(proc_status(docker.pid(docker.begin(FHIR, "sleeper"))))


def test_a_real_server_serves(docker: Docker, host: Host) -> None:
    id = docker.begin(docker.load("fhirstarter:4.2.0"))
    pid = docker.pid(id)
    status = proc_status(pid)
    assert (status["Seccomp"], status["NoNewPrivs"], status["CapBnd"]) == ("2", "1", "0" * 16)
    words = ["nsenter", "-n", "-t", str(pid), "curl", "-sSf", "-m", "5", "http://127.0.0.1:8080/metadata"]
    wait_until(lambda: host.run(words).returncode == 0, "the server's answer", 60)
    assert "CapabilityStatement" in host.run(words).stdout


def built(docker: Docker, host: Host, version: int) -> dict[str, str]:
    """What a step of a build on a FHIR image has: of the classic builder, version 1, or of BuildKit, 2.

    Debian 12 has no client of BuildKit: the daemon is told directly, and fetches what to build by itself.
    """
    directory, tag = host.directory(), f"localhost/built:{version}"
    (directory / "Dockerfile").write_text(f"FROM {FHIR}\nRUN status >/step.{version}\n")
    host.run(["tar", "-C", directory, "-cf", directory / "context.tar", "Dockerfile"], check=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        remote = f"http://127.0.0.1:{server.server_address[1]}/context.tar"
        url = f"http://docker/build?version={version}&networkmode=none&t={tag}&remote={remote}"
        done = host.run(["curl", "-sS", "--unix-socket", "/var/run/docker.sock", "-X", "POST", url], check=True)
        server.shutdown()
    assert "errorDetail" not in done.stdout, done.stdout
    return parse_status(docker.run(tag, "cat", f"/step.{version}", options=("--rm",)).stdout)


def test_as_the_default_runtime_it_takes_everything_but_what_buildkit_runs(docker: Docker, host: Host) -> None:
    docker.remove_all()
    docker.stop()
    docker.configure(**{"default-runtime": "fhir-runc", "live-restore": True})
    docker.start()
    try:
        done = docker.docker("run", "--rm", "--network", "none", FHIR, "status")
        assert confined(parse_status(done.stdout)), done.stderr
        assert docker.docker("run", "--rm", "--network", "none", PLAIN, "true").returncode == 0
        assert confined(built(docker, host, 1))
        step = built(docker, host, 2)
        assert step["NoNewPrivs"] == "0" and step["CapEff"] == "00000000a80425fb"
    finally:
        docker.stop()
        docker.configure(**{"live-restore": True})
        docker.start()


def test_services_of_a_compose_file_are_decided_one_by_one(docker: Docker, host: Host) -> None:
    directory = host.directory()
    health = {"test": ["CMD-SHELL", "status >/tmp/health"], "interval": "1s"}
    common = {"runtime": "fhir-runc", "network_mode": "none", "command": ["sleeper"], "restart": "always"}
    labels = {"labels": {"io.fhir-hook.profile": "fhir-jvm"}, "privileged": True, "healthcheck": health}
    services = {"fhir": {"image": FHIR, **common, **labels}, "plain": {"image": PLAIN, **common}}
    (directory / "docker-compose.yml").write_text(json.dumps({"version": "2.4", "services": services}))
    words = ["docker-compose", "-f", directory / "docker-compose.yml", "-p", "composed"]
    with watching(host) as records:
        host.run([*words, "up", "-d"], check=True)
    try:
        fhir, plain = (host.run([*words, "ps", "-q", name], check=True).stdout.strip() for name in services)
        assert confined(proc_status(docker.pid(fhir))) and proc_status(docker.pid(plain))["NoNewPrivs"] == "0"
        assert only(records, event="decision")["container"]["id"] == fhir
        wait_until(lambda: docker.inspect(fhir, "{{.State.Health.Status}}") == "healthy", "the health check", 20)
        assert confined(parse_status(host.run([*words, "exec", "-T", "fhir", "cat", "/tmp/health"], check=True).stdout))
    finally:
        host.run([*words, "down", "-t", "0"], check=True)
