"""What people see: a refusal, its explanation, the log, an inspection."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from host.machine import Host
from system.support import FHIR, LIVE, PLAIN, confined, kernel_state, wait_until


@pytest.fixture(scope="module")
def refused(host: Host) -> str:
    return host.derive(FHIR, "refused:1", "--label", "io.fhir-hook.profile=nowhere")


def test_a_refusal_is_one_line_for_the_person_who_typed_podman_run(
    host: Host, run: Callable[..., Any], refused: str, runtime: str, user: str | None
) -> None:
    if user is not None:
        host.derive(FHIR, refused, "--label", "io.fhir-hook.profile=nowhere", user=user)
    done = run(refused, "status", options=("--name", f"my-server-{runtime}"), runtime=runtime, user=user)
    assert (done.returncode, done.stdout) == (126, "")
    if runtime == "runc":
        who = f"my-server-{runtime} of localhost/refused:1"
        assert f"fhir-hook refused {who}: the image names a profile that is not installed" in done.stderr
        assert "FH101: install the profile below /etc/fhir-hook/profiles" in done.stderr
    else:
        # crun hides what a hook prints and shows its path and exit code: the path says why.
        shown = re.search(
            r"`(/usr/libexec/fhir-hook/refused/FH101-profile-not-installed)` \(exit code: 1\)", done.stderr
        )
        assert shown, done.stderr
        explained = host.run(["fhir-hook", "explain", shown[1]], check=True).stdout
        assert "What to do: install the profile" in explained
    assert host.podman("ps", "-a", "--format", "{{.Names}}", user=user).stdout.find(f"my-server-{runtime}") == -1


def test_a_live_refusal_is_seen_on_runc_and_on_record_for_crun(
    host: Host, run: Callable[..., Any], refused: str, runtime: str
) -> None:
    """A stated limit: on the live path the entry's path is fixed, so crun shows that the hook refused, not why."""
    done = run(refused, "status", before=LIVE, runtime=runtime)
    assert done.returncode == 126
    if runtime == "runc":
        assert "FH101: install the profile" in done.stderr
    else:
        assert "/usr/libexec/fhir-hook/hook` (exit code: 1)" in done.stderr
    assert "FH101" in host.run(["fhir-hook", "log", "-n", "1"], check=True).stdout


@pytest.mark.parametrize("code", ["FH101", "fh105", "FH108-annotation-replaces-filter", "FH211", "FH401"])
def test_explain_tells_what_happened_and_what_to_do(host: Host, code: str) -> None:
    shown = host.run(["fhir-hook", "explain", code], check=True).stdout
    assert shown.startswith(code[:5].upper())
    if code.upper().startswith("FH1"):
        assert "What to do: " in shown
    assert json.loads(host.run(["fhir-hook", "explain", code, "--json"], check=True).stdout)["code"] == code[:5].upper()


def test_explain_of_no_code_is_a_wrong_call(host: Host) -> None:
    done = host.run(["fhir-hook", "explain", "FH999"])
    assert done.returncode == 2
    assert "fhir-hook codes" in done.stderr


def _log(host: Host, *words: str) -> list[dict[str, Any]]:
    text = host.run(["fhir-hook", "log", "--json", *words], check=True).stdout
    return [json.loads(line) for line in text.splitlines()]


def test_the_log_is_shown_newest_last_and_by_container_image_decision_code_and_time(
    host: Host, run: Callable[..., Any], refused: str
) -> None:
    run(FHIR, "status", options=("--name", "log-one"), check=True)
    run(refused, "status", options=("--name", "log-two"))
    everything = _log(host)
    assert everything == host.records()
    assert [record["seq"] for record in everything] == sorted(record["seq"] for record in everything)
    one = _log(host, "--container", "log-one")
    assert [record["event"] for record in one] == ["decision", "outcome"]
    assert _log(host, "--container", one[0]["container"]["id"][:12]) == one
    assert [r["container"]["name"] for r in _log(host, "--image", "refused:1", "--decision", "refused", "-n", "1")] == [
        "log-two"
    ]
    assert {record["decision"] for record in _log(host, "--decision", "refused")} == {"refused"}
    assert _log(host, "--code", "FH101")[-1]["container"]["name"] == "log-two"
    assert _log(host, "--since", "1h", "--until", "2999-01-01") == everything
    assert _log(host, "--until", "1h") == []
    assert _log(host, "-n", "2") == everything[-2:]


def test_the_log_for_people_is_a_table(host: Host, run: Callable[..., Any], refused: str) -> None:
    run(FHIR, "status", options=("--name", "table-one"), check=True)
    run(refused, "status", options=("--name", "table-two"))
    lines = host.run(["fhir-hook", "log", "-n", "3"], check=True).stdout.splitlines()
    text = "\n".join(lines)
    assert lines[0].split()[:2] == ["time", "what"]
    order = [text.index(word) for word in ("confined", "in force", "refused")]
    assert order == sorted(order)
    assert "hapi" in text
    assert "FH101" in text


def test_an_ordinary_user_sees_the_user_s_own_log(host: Host, run: Callable[..., Any]) -> None:
    run(FHIR, "status", options=("--name", "mine"), user="rootless", check=True)
    text = host.run(["fhir-hook", "log", "--json", "--container", "mine"], user="rootless", check=True).stdout
    assert [json.loads(line)["event"] for line in text.splitlines()] == ["decision", "outcome"]


def test_records_hold_no_arguments_environment_or_volume_paths(host: Host, run: Callable[..., Any]) -> None:
    secret = "s3cret-5f1d"
    directory = host.directory()
    volume = directory / secret
    volume.mkdir()
    options = (
        "--env",
        f"PASSWORD={secret}",
        "-v",
        f"{volume}:/data",
        "--label",
        f"x={secret}",
        "--annotation",
        f"y={secret}",
    )
    before = len(host.records())
    run(FHIR, "sh", "-c", f"echo {secret}", options=options, check=True)
    run(FHIR, "sh", "-c", f"echo {secret}", options=options, before=LIVE, check=True)
    records = host.records()[before:]
    assert len(records) >= 3
    assert secret not in json.dumps(records)


def _inspect(host: Host, target: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(host.run(["fhir-hook", "inspect", "--json", target], check=True).stdout)
    return shown


@pytest.mark.parametrize("path", ["native", "live"])
def test_inspect_names_the_profile_that_the_kernel_enforces(
    host: Host, start: Callable[..., str], runtime: str, path: str
) -> None:
    options = ("--name", f"look-{runtime}-{path}", "--security-opt", "seccomp=unconfined")
    id = start(FHIR, *options, command=["sleeper", "5"], before=LIVE if path == "live" else (), runtime=runtime)
    seen = _inspect(host, f"look-{runtime}-{path}")
    assert seen["container"] == {"id": id, "name": f"look-{runtime}-{path}"}
    assert seen["profile"] == {"name": "hapi", "how": "exact" if path == "live" else "alike"}
    assert (seen["seccomp"], seen["filters"], seen["no_new_privs"], seen["tasks"]) == (2, 1, True, 6)
    assert seen["capability_names"] == {key: [] for key in seen["capability_names"]}
    assert seen["calls"]["read"] == "allowed"
    assert seen["calls"]["keyctl"] == seen["calls"]["bpf"] == "denied"
    assert seen["calls"]["socket"] == "filtered"
    assert seen["different"] == []
    if path == "live":
        assert _inspect(host, id[:12])["programs"] == _inspect(host, str(host.pid(id)))["programs"] == seen["programs"]
    people = host.run(["fhir-hook", "inspect", id], check=True).stdout
    assert "hapi" in people
    assert "no_new_privs  yes" in people


def test_inspect_names_tasks_that_are_confined_differently(host: Host, start: Callable[..., str], runtime: str) -> None:
    """Under the live path a process that exec started has the engine's filter alone: a look must show it."""
    id = start(FHIR, command=["sleeper", "3"], before=LIVE, runtime=runtime)
    assert _inspect(host, id)["different"] == []
    host.podman("exec", "-d", id, "sleep", "1000", check=True)
    wait_until(lambda: bool(_inspect(host, id)["different"]), "the exec'd process")
    different = _inspect(host, id)["different"]
    assert {task["name"] for task in different} == {"sleep"}
    assert all(task["no_new_privs"] is False for task in different)
    assert "different" in host.run(["fhir-hook", "inspect", id], check=True).stdout


def test_inspect_of_another_container_names_no_profile(host: Host, start: Callable[..., str], runtime: str) -> None:
    id = start(PLAIN, command=["sleeper"], runtime=runtime)
    seen = _inspect(host, id)
    assert seen["profile"] == {"name": "", "how": ""}
    assert seen["no_new_privs"] is False
    assert not confined(kernel_state(host.pid(id)))


def test_inspect_of_an_ordinary_user_s_container_by_root_and_by_the_user(
    host: Host, start: Callable[..., str], runtime: str
) -> None:
    id = start(FHIR, "--name", f"users-{runtime}", command=["sleeper"], runtime=runtime, user="rootless")
    assert _inspect(host, str(host.pid(id, "rootless")))["profile"]["name"] == "hapi"
    mine = json.loads(host.run(["fhir-hook", "inspect", "--json", id], user="rootless", check=True).stdout)
    assert mine["seccomp"] == 2
    assert "root" in mine["unread"], "the kernel shows filters to root of the host only; it says so"


def test_inspect_of_nothing_says_so(host: Host) -> None:
    done = host.run(["fhir-hook", "inspect", "nobody"])
    assert (done.returncode, done.stdout) == (3, "")
    assert "podman ps" in done.stderr
