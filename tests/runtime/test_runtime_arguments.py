"""The command lines of runc and crun: which verb, which bundle, which files; whatever form the options have."""

from __future__ import annotations

import pytest

from fhir_hook.runtime import arguments
from fhir_hook.runtime.arguments import Call


def parsed(line: str, kind: str = "runc") -> Call:
    return arguments.parse(kind, line.split())


@pytest.mark.parametrize(
    ("line", "bundle"),
    [
        ("create --bundle /b id", "/b"),
        ("create --bundle=/b id", "/b"),
        ("create -bundle /b id", "/b"),
        ("create -bundle=/b id", "/b"),
        ("create -b /b id", "/b"),
        ("create -b=/b id", "/b"),
        ("create --b /b id", "/b"),
        ("create id", ""),
        ("create id --bundle /b", "/b"),
        ("create --no-pivot --pid-file create --bundle /b id", "/b"),
        ("create --pid-file --bundle --bundle /b id", "/b"),
        ("create --bundle /a --bundle /b id", "/b"),
        ("create --bundle create run", "create"),
        ("run --bundle run run", "run"),
        ("restore --image-path x --bundle /b id", "/b"),
        ("create --bundle /b -- --bundle", "/b"),
        ("--root create --log=run --debug create --bundle /b id", "/b"),
        ("--systemd-cgroup --rootless=true create --bundle /b id", "/b"),
        ("--newer value create --bundle /b id", "/b"),
        ("--newer create --bundle /b id", "/b"),
        ("--newer=value -log-format json create --bundle /b id", "/b"),
        ("create --newer --bundle /b id", "/b"),
    ],
)
def test_runc_finds_the_bundle_in_every_form(line: str, bundle: str) -> None:
    call = parsed(line)
    assert call.verb in arguments.EDITED
    assert call.bundle == bundle


@pytest.mark.parametrize(
    ("line", "bundle", "config"),
    [
        ("create -b/b id", "/b", ""),
        ("create --bun=/b id", "/b", ""),
        ("create --bun /b id", "/b", ""),
        ("create --conf /c -b /b id", "/b", "/c"),
        ("create -f/c -b/b id", "/b", "/c"),
        ("run -db /b id", "/b", ""),
        ("run -db/b id", "/b", ""),
        ("run id -d -b /b", "/b", ""),
        ("--cgroup-manager systemd --log-level error create -b /b id", "/b", ""),
        ("--cgroup-m=systemd create --bundle=/b id", "/b", ""),
    ],
)
def test_crun_finds_the_bundle_in_every_form(line: str, bundle: str, config: str) -> None:
    call = parsed(line, "crun")
    assert (call.verb in arguments.EDITED, call.bundle, call.config) == (True, bundle, config)


def test_the_engines_own_command_lines() -> None:
    docker = parsed(
        "--root /run/docker/runtime-runc/moby --log /b/log.json --log-format json create --bundle /b "
        "--pid-file /b/init.pid --console-socket /tmp/pty/pty.sock c1"
    )
    assert (docker.verb, docker.bundle, docker.id) == ("create", "/b", "c1")
    assert (docker.log, docker.log_format, docker.root) == ("/b/log.json", "json", "/run/docker/runtime-runc/moby")
    exec_ = parsed("--root /r --log /l --log-format json exec --process /tmp/p --detach --pid-file /x c1")
    assert (exec_.verb, exec_.process, exec_.id, exec_.root) == ("exec", "/tmp/p", "c1", "/r")
    conmon = parsed("--log-format=json --log=/l create --bundle /b --pid-file /p c2", "crun")
    assert (conmon.verb, conmon.bundle, conmon.id, conmon.log_format) == ("create", "/b", "c2", "json")


def test_the_command_behind_the_id_of_an_exec_is_none_of_ours() -> None:
    call = parsed("exec c1 --process /evil")
    assert (call.id, call.process) == ("c1", "")
    call = parsed("exec -p /file c1 sh -c create", "crun")
    assert (call.id, call.process) == ("c1", "/file")


@pytest.mark.parametrize(
    "line",
    ["", "--version", "-v", "--root", "state create", "unknown --bundle create", "-- kill x", "--newer x y create"],
)
def test_everything_else_is_passed_on(line: str) -> None:
    assert parsed(line).verb not in (*arguments.EDITED, "exec")


def test_an_id_or_path_of_any_form_is_taken_as_it_is() -> None:
    call = arguments.parse("runc", ["create", "--bundle", "/b/\n\x1b[31m --bundle /x", "-", "id two"])
    assert (call.bundle, call.id) == ("/b/\n\x1b[31m --bundle /x", "-")
