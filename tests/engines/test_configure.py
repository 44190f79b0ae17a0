"""Engines' configuration files: only what is ours changes, twice is once, and undo is exact."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest

from fhir_hook.engines import containerd, docker, dropins
from fhir_hook.engines.change import Change, EngineError
from host.machine import Host

DAEMONS = [
    None,
    "",
    "{}",
    "{}\n",
    '{\n  "data-root": "/d",\n  "runtimes": {\n    "nvidia": {"path": "nvidia-runtime", "runtimeArgs": []}\n  }\n}\n',
    '{"log-driver":"json-file","default-runtime":"runc","runtimes":{"nvidia":{"path":"n"}}}',
    '{\n\t"hosts": ["é"],\n\t"runtimes": {}\n}',
]
V2 = """# our node
version = 2
imports = ["/etc/containerd/conf.d/*.toml"]

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "pause:3" # keep
    [plugins."io.containerd.grpc.v1.cri".containerd]
      # the default
      default_runtime_name = "runc"   # really
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes]
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"
          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            SystemdCgroup = true
[metrics]
  address = "127.0.0.1:1"
"""
V2_NO_DEFAULT = V2.replace('      default_runtime_name = "runc"   # really\n', "")
DEBIAN = """version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
"""
V3 = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\n  default_runtime_name = 'runc'\n"
V4 = V3.replace("version = 3", "version = 4\nimports = ['conf.d/*.toml']")
CONFIGS = [None, "", V2, V2_NO_DEFAULT, DEBIAN, V3, V4]


def section(text: str) -> dict[str, dict[str, object]]:
    plugins = tomllib.loads(text)["plugins"]
    found: dict[str, dict[str, object]] = next(p for p in plugins.values() if "containerd" in p)["containerd"]
    return found


@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize("before", DAEMONS)
def test_docker_gets_one_runtime_more_and_nothing_else_moves(before: str | None, default: bool) -> None:
    after = docker.added(before, default)
    old, new = json.loads(before or "{}"), json.loads(after)
    assert new["runtimes"].pop("fhir-runc") == {"path": "/usr/libexec/fhir-hook/fhir-runc"}
    assert new.get("default-runtime") == ("fhir-runc" if default else old.get("default-runtime"))
    assert [key for key in new if key in old] == list(old)
    assert new["runtimes"] == old.get("runtimes", {})
    assert docker.added(after, default) == after
    assert docker.use(after) == ("default" if default else "extra") and docker.use(before) == ""
    undone = docker.removed(after, before)
    assert undone is not None and json.loads(undone) == old


@pytest.mark.parametrize("text", ["[]", "{", '{"runtimes": []}', '{"a": 1, "a": 2}', "[" * 100_000])
def test_a_daemon_json_that_is_none_is_left_alone(text: str) -> None:
    with pytest.raises(EngineError):
        docker.added(text, False)


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ("1e400", "1e400"),
        ("1.0e3", "1.0e3"),
        ("12345678901234567890123.10", "another way"),
        ("-0", "another way"),
        ("1" * 5000, "another way"),
        ("NaN", "is no number"),
        ("-Infinity", "is no number"),
        ('"\\ud800"', "surrogate"),
        ('"\\udc80"', "surrogate"),
    ],
)
def test_a_daemon_json_that_would_not_be_written_as_it_was_is_left_alone(member: str, why: str) -> None:
    text = f'{{"a": [{member}]}}'
    with pytest.raises(EngineError, match=why):
        docker.added(text, False)


def test_an_odd_number_does_not_hide_how_docker_uses_the_shim() -> None:
    assert docker.use('{"a": 1.0e3, "default-runtime": "fhir-runc"}') == "default"


def test_numbers_and_texts_of_a_daemon_json_stay_as_they_are_written() -> None:
    text = '{"a": [1.5, 0.1, -12, 123456789012345678, "\\ud83d\\ude00", "\udcff"]}'
    after = docker.added(text, False)
    assert json.loads(after)["a"] == json.loads(text)["a"]
    assert '[1.5, 0.1, -12, 123456789012345678, "\U0001f600", "\udcff"]' in after


@pytest.mark.parametrize("name", ["docker", "containerd", "podman", "crio"])
def test_attack_a_fifo_in_the_place_of_a_configuration_is_not_waited_for(host: Host, name: str) -> None:
    config = host.directory() / "config"
    os.mkfifo(config)
    for more in ((), ("--undo",)):
        done = host.run(["fhir-hook", "engine", "configure", name, "--config", config, *more], timeout=20)
        assert done.returncode == 3 and f"{config} is not a regular file" in done.stderr


def test_attack_a_fifo_as_daemon_json_does_not_hold_up_the_doctor(host: Host) -> None:
    config = Path("/etc/docker/daemon.json")
    config.parent.mkdir(exist_ok=True)
    os.mkfifo(config)
    try:
        assert json.loads(host.run(["fhir-hook", "doctor", "--json"], timeout=60).stdout)["findings"]
    finally:
        config.unlink()


@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize("before", CONFIGS)
def test_containerd_gets_one_runtime_more_and_every_comment_stays(before: str | None, default: bool) -> None:
    after = containerd.added(before, default)
    cri = section(after)
    runtime = cri["runtimes"]["fhir-runc"]
    assert runtime["options"]["BinaryName"] == "/usr/libexec/fhir-hook/fhir-runc"  # type: ignore[index]
    if before in (V2, V2_NO_DEFAULT):
        assert runtime["options"]["SystemdCgroup"] is True  # type: ignore[index]
    if default:
        assert cri["default_runtime_name"] == "fhir-runc"
    for line in (before or "").splitlines():
        assert line.strip() in after
    assert containerd.added(after, default) == after
    assert containerd.use(after) == ("default" if default else "extra") and containerd.use(before) == ""
    assert (containerd.removed(after, before) or "").rstrip("\n") == (before or "").rstrip("\n")


@pytest.mark.parametrize("text", ["version = 1\n", "version = 9", "x = ", '[plugins."io.containerd.grpc.v1.cri"]\n'])
def test_a_containerd_config_that_is_not_understood_is_left_alone(text: str) -> None:
    with pytest.raises(EngineError):
        containerd.added(text, False)


INLINE = 'version = 2\n[plugins]\n"io.containerd.grpc.v1.cri" = {containerd = {runtimes = {}}}\n'
DOTTED = 'version = 2\nplugins."io.containerd.grpc.v1.cri".containerd.default_runtime_name = "runc"\n'
BY_HAND = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.fhir-runc]\n'


@pytest.mark.parametrize(("text", "default"), [(INLINE, False), (DOTTED, True), (BY_HAND, False)])
def test_what_can_not_be_edited_safely_is_left_alone_and_the_reason_is_ours(text: str, default: bool) -> None:
    with pytest.raises(EngineError, match="can't be edited safely: add "):
        containerd.added(text, default)


def test_an_option_of_runc_with_an_odd_name_is_taken_over() -> None:
    table = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\n"we ird" = true\n'
    options = section(containerd.added(f"version = 2\n{table}", False))["runtimes"]["fhir-runc"]["options"]  # type: ignore[index]
    assert options["we ird"] is True


@pytest.mark.parametrize("version", ['"2"', "2.0", "true"])
def test_a_version_that_is_no_number_is_named_as_it_is_written(version: str) -> None:
    with pytest.raises(EngineError, match="is no whole number"):
        containerd.added(f"version = {version}\n", False)


@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_tables_that_are_added_after_ours_keep_their_version(default: bool, inside: bool) -> None:
    made = containerd.added(None, default)
    if inside:  # as it once was written
        made = made.removeprefix("version = 2\n").replace("containerd')\n", "containerd')\nversion = 2\n")
    table = '[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "pause:3"\n'
    again = containerd.added(made + table, default)
    assert tomllib.loads(again)["version"] == 2
    for text in (made + table, again):
        left = containerd.removed(text, None)
        assert left == f"version = 2\n{table}"
    assert containerd.removed(made, None) is None


def test_a_drop_in_is_used_only_where_imports_are_merged() -> None:
    path = Path("/etc/containerd/config.toml")
    merged = 'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n'
    assert containerd.place(path, merged) == containerd.place(path, V4) == containerd.DROPIN
    assert containerd.place(path, V2) == containerd.place(path, V3) == containerd.place(path, None) == path
    assert containerd.place(Path("/srv/config.toml"), V4) == Path("/srv/config.toml")
    assert containerd.place(path, merged.replace("conf.d/", "")) == path  # a "*" of containerd's stands for no "/"
    assert tomllib.loads(containerd.added(None, False, V4))["version"] == 4
    text = containerd.added(None, False, merged)
    assert tomllib.loads(text)["version"] == 3
    assert "io.containerd.cri.v1.runtime" in text and containerd.removed(text, None) is None


RUNC = f"[plugins.'{containerd.PLUGINS[3]}'.containerd.runtimes.runc]\n"


def test_what_runc_s_entry_says_holds_for_ours_wherever_it_is_said(host: Host) -> None:
    """The privileged pods of a node do not get its devices because of us."""
    directory = host.directory()
    config, imported = directory / "config.toml", directory / "more"
    imported.mkdir()
    config.write_text(f"version = 3\nimports = ['more/*.toml']\n{RUNC}runtime_type = 'io.containerd.runc.v2'\n")
    (imported / "10.toml").write_text(f"version = 3\n{RUNC}privileged_without_host_devices = true\n")
    table = RUNC.replace("runc]", "runc.options]")
    text = f"version = 3\n{RUNC}pod_annotations = ['a/*', 'b']\n{table}SystemdCgroup = true\n"
    (imported / "20.toml").write_text(text)
    words = ["fhir-hook", "engine", "configure", "containerd", "--config", config]
    host.run(words, check=True)
    ours = section(config.read_text())["runtimes"]["fhir-runc"]
    host.run([*words, "--undo"], check=True)
    options = {"BinaryName": "/usr/libexec/fhir-hook/fhir-runc", "SystemdCgroup": True}
    more = {"privileged_without_host_devices": True, "pod_annotations": ["a/*", "b"]}
    assert ours == {"runtime_type": "io.containerd.runc.v2", **more, "options": options}


@pytest.mark.parametrize("said", ["nvidia", "runc"])
def test_a_default_that_an_imported_file_sets_later_is_not_overlooked(host: Host, said: str) -> None:
    directory = host.directory()
    config, imported = directory / "config.toml", directory / "99.toml"
    config.write_text("version = 3\nimports = ['99.toml']\n")
    table = f'[plugins."{containerd.PLUGINS[3]}".containerd]'
    imported.write_text(f'version = 3\n{table}\ndefault_runtime_name = "{said}"\n')
    done = host.run(["fhir-hook", "engine", "configure", "containerd", "--config", config, "--default"])
    assert done.returncode == 3 and f"{imported} says default_runtime_name = '{said}'" in done.stderr
    imported.write_text("version = ")
    done = host.run(["fhir-hook", "engine", "configure", "containerd", "--config", config])
    assert done.returncode == 3 and f"{imported} is not TOML" in done.stderr


def test_drop_ins_of_podman_and_crio_say_how_they_are_used() -> None:
    for make in (dropins.podman, dropins.crio):
        for default, how in (("", "extra"), ("fhir-runc", "default"), ("fhir-crun", "default")):
            assert dropins.use(make(default)) == how and dropins.ours(make(default))
    assert dropins.use(None) == ""


def test_undoing_another_file_leaves_the_drop_in_of_the_usual_one(host: Host) -> None:
    other = host.directory() / "config.toml"
    other.write_text("version = 3\n")
    words = ["fhir-hook", "engine", "configure", "containerd"]
    containerd.CONFIG.parent.mkdir(exist_ok=True)
    containerd.CONFIG.write_text("version = 3\nimports = ['conf.d/*.toml']\n")
    try:
        for more in ((), ("--config", other)):
            host.run([*words, *more], check=True)
        host.run([*words, "--config", other, "--undo"], check=True)
        assert other.read_text() == "version = 3\n" and containerd.DROPIN.exists()
        host.run([*words, "--undo"], check=True)
        assert not containerd.DROPIN.exists()
    finally:
        containerd.CONFIG.unlink()


NVIDIA = 'default_runtime_name = "nvidia"\n'
BINARY = 'default_runtime_name = "runc"\n[{}.runtimes.runc.options]\nBinaryName = "/usr/bin/nvidia-container-runtime"\n'


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("said", [NVIDIA, BINARY])
def test_another_default_runtime_of_containerd_is_not_replaced_without_a_word(version: int, said: str) -> None:
    table = f'plugins."{containerd.PLUGINS[version]}".containerd'
    text = f"version = {version}\n[{table}]\n{said.format(table)}"
    with pytest.raises(EngineError, match=r"nvidia.*\[runtime\]"):
        containerd.added(text, True)
    with pytest.raises(EngineError, match=r"nvidia.*\[runtime\]"):
        containerd.added(None, True, text)
    assert containerd.use(containerd.added(text, False)) == "extra"


def test_another_default_runtime_of_docker_is_not_replaced_without_a_word() -> None:
    text = '{"default-runtime": "nvidia"}'
    with pytest.raises(EngineError, match=r"nvidia.*\[runtime\]"):
        docker.added(text, True)
    assert json.loads(docker.added(text, False))["default-runtime"] == "nvidia"


RUNTIMES = [("podman", "[engine]\nruntime"), ("crio", "[crio.runtime]\ndefault_runtime")]


@pytest.mark.parametrize(("name", "words"), RUNTIMES)
def test_the_default_shim_is_that_of_the_runtime_in_force(host: Host, name: str, words: str) -> None:
    usual = dropins.PODMAN if name == "podman" else dropins.CRIO
    site = usual.with_name("10-site.conf")
    site.parent.mkdir(parents=True, exist_ok=True)
    command = ["fhir-hook", "engine", "configure", name]
    try:
        for said, chosen in (("runc", "fhir-runc"), ("crun", "fhir-crun"), ("/opt/runc", "fhir-runc")):
            site.write_text(f'{words} = "{said}"\n')
            host.run([*command, "--default"], check=True)
            assert f'{words.splitlines()[1]} = "{chosen}"\n' in usual.read_text()
            assert f"/usr/libexec/fhir-hook/{chosen}" in usual.read_text()
        site.write_text(f'{words} = "kata"\n')
        done = host.run([*command, "--default"])
        assert done.returncode == 3 and all(word in done.stderr for word in ("kata", "[runtime]", str(site)))
    finally:
        site.unlink()
        host.run([*command, "--undo"], check=True)
    assert not usual.exists()


@pytest.mark.parametrize("name", ["docker", "containerd", "podman", "crio"])
@pytest.mark.parametrize("default", [(), ("--default",)])
def test_the_command_changes_undoes_and_shows(host: Host, name: str, default: tuple[str, ...]) -> None:
    directory = host.directory()
    config = directory / "config"
    original = {"docker": DAEMONS[4], "containerd": V2}.get(name)
    if original is not None:
        config.write_text(original)
        config.chmod(0o640)
    words = ["fhir-hook", "engine", "configure", name, "--config", config]
    dry = host.run([*words, *default, "--dry-run"], check=True)
    assert dry.stdout.startswith("--- ") and "+" in dry.stdout
    assert (config.read_text() if config.exists() else None) == original
    done = host.run([*words, *default], check=True)
    assert dry.stdout in done.stdout and ("restart" in done.stdout or name == "podman")
    assert "/usr/libexec/fhir-hook/fhir-runc" in config.read_text()
    if original is not None:
        assert config.stat().st_mode & 0o777 == 0o640
    again = host.run([*words, *default], check=True)
    assert "nothing to change" in again.stdout
    undone = host.run([*words, "--undo", "--json"], check=True)
    assert json.loads(undone.stdout)["changed"][0]["path"] == str(config)
    assert (config.read_text() if config.exists() else None) == original
    assert "nothing to change" in host.run([*words, "--undo"], check=True).stdout
    assert not list(directory.glob("*.tmp"))


def test_what_somebody_edited_since_survives_undo(host: Host) -> None:
    config = host.directory() / "daemon.json"
    config.write_text('{\n  "default-runtime": "runc"\n}\n')
    words = ["fhir-hook", "engine", "configure", "docker", "--config", config]
    host.run([*words, "--default"], check=True)
    document = json.loads(config.read_text())
    config.write_text(json.dumps({**document, "debug": True}, indent=2))
    host.run([*words, "--undo"], check=True)
    assert json.loads(config.read_text()) == {"default-runtime": "runc", "debug": True}


@pytest.mark.parametrize("again", [(), ("--default",)])
def test_undo_takes_the_shim_out_although_the_file_was_edited_between_two_changes(
    host: Host, again: tuple[str, ...]
) -> None:
    config = host.directory() / "daemon.json"
    config.write_text('{"log-driver": "json-file"}\n')
    words = ["fhir-hook", "engine", "configure", "docker", "--config", config]
    host.run([*words, *(() if again else ("--default",))], check=True)
    edited = {**json.loads(config.read_text()), "debug": True, "default-runtime": "runc"}
    config.write_text(json.dumps(edited))
    host.run([*words, "--default"], check=True)
    host.run([*words, "--undo"], check=True)
    left = json.loads(config.read_text())
    assert left == {"log-driver": "json-file", "debug": True, "default-runtime": "runc"}


OWN = {
    "podman": ("[containers]\npids_limit = 9\n", "# mine\n", 'engine = "x"\n', '[engine]\nruntime = ["x"]\n', "x = "),
    "crio": ('[crio.runtime]\nlog_level = "x"\n', "crio = 1\n", "[crio.runtime]\ndefault_runtime = {}\n"),
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in OWN.items() for text in texts])
def test_attack_an_administrators_whole_file_is_neither_replaced_nor_deleted(host: Host, name: str, text: str) -> None:
    config = host.directory() / "containers.conf"
    config.write_text(text)
    words = ["fhir-hook", "engine", "configure", name, "--config", config]
    for more in ((), ("--default",), ("--dry-run",)):
        done = host.run([*words, *more])
        assert done.returncode == 3 and "drop-in directory" in done.stderr and len(done.stderr.splitlines()) == 1
    assert "nothing to change" in host.run([*words, "--undo"], check=True).stdout
    assert config.read_text() == text


@pytest.mark.parametrize("name", ["podman", "crio"])
def test_undo_of_a_drop_in_that_was_edited_says_which_lines_to_take_out(host: Host, name: str) -> None:
    config = host.directory() / "60.conf"
    words = ["fhir-hook", "engine", "configure", name, "--config", config]
    host.run(words, check=True)
    edited = config.read_text() + '[more]\nx = "mine"\n'
    config.write_text(edited)
    done = host.run([*words, "--undo"])
    numbers = done.stderr.partition("(lines ")[2].partition(")")[0].split(", ")
    assert done.returncode == 3 and config.read_text() == edited
    lines = [line for number, line in enumerate(edited.splitlines(), 1) if str(number) not in numbers]
    assert "fhir-runc" not in "\n".join(lines)
    config.write_text("\n".join(lines))
    assert "nothing to change" in host.run([*words, "--undo"], check=True).stdout


def test_an_edit_by_somebody_else_in_between_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text("{}")
    change = Change(path, "{}", "{1}")
    path.write_text('{"debug": true}')
    with pytest.raises(EngineError, match="meanwhile"):
        change.make()
    assert path.read_text() == '{"debug": true}'


def test_podman_runs_on_the_shim_by_its_name(host: Host) -> None:
    host.run(["fhir-hook", "engine", "configure", "podman"], check=True)
    try:
        tag = host.load("probe:hapi")
        for runtime in ("fhir-runc", "fhir-crun"):
            done = host.podman("run", "--rm", "--network", "none", tag, "status", runtime=runtime, hooks=False)
            assert done.returncode == 0 and "NoNewPrivs:\t1" in done.stdout, done.stderr
    finally:
        host.run(["fhir-hook", "engine", "configure", "podman", "--undo"], check=True)
    assert not dropins.PODMAN.exists()
