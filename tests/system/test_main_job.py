"""podman run of a FHIR image, with no option of ours: confined, usable, on record. Of any other image: untouched."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fhir_hook.kernel import readback
from host.machine import Host, parse_status
from system.support import (
    DENIED,
    FHIR,
    HAPI_SOURCE,
    HOOK,
    PLAIN,
    Records,
    caps,
    codes,
    confined,
    differences,
    filters,
    kernel_state,
    only,
    policy_index,
    tried,
    watching,
)

HEALTH = ("--health-cmd", "try getpid")


class Server:
    """A running container of the probe's FHIR image, and the records that its start left."""

    def __init__(self, host: Host, runtime: str, user: str | None, id: str, records: Records) -> None:
        self.host, self.runtime, self.user, self.id, self.records = host, runtime, user, id, records

    def podman(self, *words: str, **more: Any) -> Any:
        return self.host.podman(*words, runtime=self.runtime, user=self.user, **more)

    @property
    def pid(self) -> int:
        return self.host.pid(self.id, self.user)


@pytest.fixture(scope="module", params=["runc:root", "runc:rootless", "crun:root", "crun:rootless"])
def server(host: Host, request: pytest.FixtureRequest) -> Iterator[Server]:
    runtime, _, who = str(request.param).partition(":")
    user = None if who == "root" else who
    with watching(host, user) as records:
        id = host.start(FHIR, *HEALTH, command=["sleeper"], runtime=runtime, user=user)
    yield Server(host, runtime, user, id, records)
    host.podman("rm", "-f", "-t", "0", id, user=user)


def test_the_kernel_enforces_the_profile(server: Server) -> None:
    status = kernel_state(server.pid)
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert caps(status) == {"CapInh": [], "CapPrm": [], "CapEff": [], "CapBnd": [], "CapAmb": []}
    assert len(readback.filters(server.pid)) == 1


def test_decision_and_outcome_are_on_record(server: Server) -> None:
    decision, outcome = server.records
    assert (decision["event"], decision["decision"], decision["stage"], decision["path"]) == (
        "decision", "confined", "precreate", "native",
    )  # fmt: skip
    assert decision["container"]["id"] == server.id
    assert decision["image"]["names"] == ["localhost/probe:hapi"]
    assert decision["identified_by"]["labels"] == {"org.opencontainers.image.source": HAPI_SOURCE}
    assert [profile["name"] for profile in decision["profile"]] == ["hapi"]
    assert decision["policy"] == policy_index()["policy"]
    assert decision["capabilities"]["left"] == []
    assert decision["seccomp"]["allowed"] < decision["seccomp"]["allowed_before"]
    assert (outcome["event"], outcome["stage"], outcome["decided_by"]) == ("outcome", "gate", decision["seq"])
    assert outcome["seen"] == "config"
    assert decision["user"]["uid"] == (0 if server.user is None else server.host.home(server.user).stat().st_uid)


def test_a_shell_by_podman_exec_works_and_has_the_filter(server: Server) -> None:
    words = ["exec", server.id, "sh", "-c", "id -u; ls / | grep bin; status"]
    done = server.podman(*words, check=True)
    assert done.stdout.splitlines()[:2] == ["0", "bin"]
    status = parse_status(done.stdout)
    assert status["Seccomp"] == "2"
    assert not any(caps(status).values())


def test_podman_exec_as_another_user_works(server: Server) -> None:
    done = server.podman("exec", "--user", "65532:65532", "--workdir", "/tmp", server.id, "status", check=True)
    assert parse_status(done.stdout)["Uid"] == "65532 65532 65532 65532"


def test_attacks_from_inside_are_denied_to_the_server_and_to_exec(server: Server) -> None:
    done = server.podman("exec", server.id, "try", *DENIED, check=True)
    assert tried(done.stdout) == dict.fromkeys(DENIED, "EPERM")


def test_the_health_check_works(server: Server) -> None:
    server.podman("healthcheck", "run", server.id, check=True)
    log = json.loads(server.podman("inspect", server.id, check=True).stdout)[0]["State"]["Health"]
    assert log["Status"] == "healthy"
    assert "OK" in log["Log"][-1]["Output"]


def test_restart_confines_again_and_stop_is_clean(server: Server) -> None:
    with watching(server.host, server.user) as records:
        server.podman("restart", "-t", "5", server.id, check=True)
    assert confined(kernel_state(server.pid))
    assert [record["event"] for record in records] == ["decision", "outcome"]
    server.podman("stop", "-t", "5", server.id, check=True)
    assert server.podman("inspect", "-f", "{{.State.ExitCode}}", server.id, check=True).stdout == "0\n"
    with watching(server.host, server.user) as records:
        server.podman("start", server.id, check=True)
    assert confined(kernel_state(server.pid))
    assert [record["event"] for record in records] == ["decision", "outcome"]


def test_a_fhir_container_runs_as_an_ordinary_user_read_only_and_without_capabilities(
    host: Host, run: Callable[..., Any], runtime: str, user: str | None
) -> None:
    options = ("--user", "65532:65532", "--read-only", "--cap-drop=all", "--security-opt", "no-new-privileges")
    with watching(host, user) as records:
        done = run(FHIR, "status", options=options, runtime=runtime, user=user, check=True)
    status = parse_status(done.stdout)
    assert confined(status)
    assert status["Uid"] == "65532 65532 65532 65532"
    assert "FH201" not in codes(only(records, event="decision"))


def test_the_vfs_driver_is_identified_too(host: Host, runtime: str, user: str | None) -> None:
    store = host.directory(user)
    env = {"STORAGE_DRIVER": "vfs"}
    where = ["podman", "--runtime", runtime, "--root", store / "root", "--runroot", store / "run"]
    host.run([*where, "load", "-q"], user=user, env=env, stdin=host.images.archive(FHIR), check=True)
    words = [*where, "run", "--rm", "--network", "none", FHIR, "status"]
    assert confined(parse_status(host.run(words, user=user, env=env, check=True).stdout))
    host.run([*where, "rmi", "-f", FHIR], user=user, env=env, check=True)


def _config_of(host: Host, id: str, user: str | None, runtime: str, hooks: tuple[str | Path, ...]) -> bytes:
    """config.json as the runtime was given it at a start with these hooks directories."""
    host.podman(*hooks, "start", id, user=user, runtime=runtime, check=True)
    path = host.podman("inspect", "-f", "{{.OCIConfigPath}}", id, user=user, check=True).stdout.strip()
    data = Path(path).read_bytes()
    host.podman("stop", "-t", "0", id, user=user, check=True)
    return data


def _in_order(config: bytes) -> str:
    """The text of a config with its order of members kept; Podman itself shuffles some mounts at each start."""
    document = json.loads(config)
    document["mounts"].sort(key=lambda mount: str(mount["destination"]))
    return json.dumps(document)


def test_another_image_gets_the_same_config_and_leaves_no_record(host: Host, runtime: str, user: str | None) -> None:
    """Compared with a precreate hook that is cat: Podman writes what any such hook answers through its own structs."""
    hooks = host.directory(user)
    entry = {"path": "/bin/cat", "args": ["cat"]}
    cat = {"version": "1.0.0", "hook": entry, "when": {"always": True}, "stages": ["precreate"]}
    (hooks / "cat.json").write_text(json.dumps(cat))
    words = ["create", "--network", "none", "--label", "a=é😀\\", "--env", 'B="\\u0041</', PLAIN, "sleeper"]
    id = host.podman(*words, runtime=runtime, user=user, check=True).stdout.strip()
    with watching(host, user) as records:
        through_cat = _config_of(host, id, user, runtime, ("--hooks-dir", hooks))
        through_hook = _config_of(host, id, user, runtime, ())
    host.podman("rm", "-f", id, user=user)
    assert _in_order(through_hook) == _in_order(through_cat)
    assert not json.loads(through_hook).get("hooks")
    assert records == []


def test_the_hook_answers_for_another_image_with_the_very_bytes_it_was_given(host: Host, runtime: str) -> None:
    id = host.podman("create", "--network", "none", PLAIN, "sleeper", runtime=runtime, check=True).stdout.strip()
    config = _config_of(host, id, None, runtime, ())
    odd = b" \n" + config.replace(b'"hostname"', b'"host\\u006eame"').replace(b":{", b" : {", 20) + b"\n\n"
    assert json.loads(odd) == json.loads(config)
    for data in (config, odd):
        file = host.directory() / "config.json"
        file.write_bytes(data)
        with file.open("rb") as stdin:
            done = subprocess.run([HOOK, "precreate"], stdin=stdin, capture_output=True, check=True)
        assert done.stdout == data
        assert done.stderr == b""
    host.podman("rm", "-f", id)


def test_another_image_has_the_kernel_state_that_it_has_without_the_hook(
    host: Host, start: Callable[..., str], runtime: str, user: str | None
) -> None:
    seen = []
    for hooks in (False, True):
        pid = host.pid(start(PLAIN, command=["sleeper"], runtime=runtime, user=user, hooks=hooks), user)
        seen.append((kernel_state(pid), filters(pid)))
    assert seen[0][0] == seen[1][0]
    assert len(seen[0][1]) == len(seen[1][1]) == 1
    # Not byte for byte: runc lays the head of its program out in another order at each start.
    assert differences(seen[0][1], seen[1][1]) == []


@pytest.mark.parametrize("path", ["native", "live"])
def test_a_container_without_an_image_starts_and_leaves_no_record(host: Host, runtime: str, path: str) -> None:
    root = host.bundle(PLAIN) / "rootfs"
    before = () if path == "native" else ("--hooks-dir", "/usr/share/containers/oci/hooks.d")
    with watching(host) as records:
        host.podman(
            *before, "run", "--rm", "--network", "none", "--rootfs", root, "/bin/status", runtime=runtime, check=True
        )
    assert [record for record in records if record.get("decision") != "undetermined"] == []
