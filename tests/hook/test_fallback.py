"""When the usual way is blocked: what is FHIR is refused, what is known not to be starts, the rest is on record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hook.conftest import SELECTOR, write_policy
from support import store
from support.sandbox import Result, Sandbox

Config = Callable[..., bytes]


def refused(done: Result) -> bool:
    """Whether what precreate printed is a config that refuses."""
    assert done.returncode == 0, done.stderr
    hooks = json.loads(done.stdout).get("hooks", {}).get("createRuntime", [])
    return bool(hooks) and hooks[-1]["args"][1] == "refuse"


def no_policy(sandbox: Sandbox) -> None:
    for path in sandbox.state.iterdir():
        path.unlink()


def records(sandbox: Sandbox) -> list[tuple[str, str]]:
    return [(r["decision"], r["reasons"][0]["code"]) for r in sandbox.records] if any(sandbox.log.iterdir()) else []


def test_without_a_policy_fhir_is_refused_and_others_get_their_very_bytes(sandbox: Sandbox, config: Config) -> None:
    no_policy(sandbox)
    assert refused(sandbox.hook("precreate", config(store.HAPI)))
    assert records(sandbox) == [("refused", "FH103")]
    data = config({"a": "b"})
    assert sandbox.hook("precreate", data).stdout == data
    assert len(sandbox.records) == 1


@pytest.mark.parametrize("file", ["config.toml", "config.d/50-bind.toml"])
@pytest.mark.parametrize("image", ["localhost/fhir:1", "local*"])
def test_without_a_policy_an_image_that_a_binding_names_is_refused(
    sandbox: Sandbox, config: Config, file: str, image: str
) -> None:
    no_policy(sandbox)
    (sandbox.etc / file).parent.mkdir(exist_ok=True)
    (sandbox.etc / file).write_text(f'[[bind]]\nimage = "{image}"\nprofile = "hapi"\n')
    assert refused(sandbox.hook("precreate", config({})))


def test_without_a_policy_an_image_that_names_its_profile_is_refused(sandbox: Sandbox, config: Config) -> None:
    no_policy(sandbox)
    assert refused(sandbox.hook("precreate", config({"io.fhir-hook.profile": "anything"})))


UNREADABLE: dict[str, Callable[[Sandbox], Any]] = {
    "no profiles": lambda s: shutil.rmtree(s.share / "profiles"),
    "one profile of two is torn": lambda s: (s.share / "profiles/other.json").write_text('{"match":['),
    "a profile has a selector that nobody understands": lambda s: (s.share / "profiles/other.json").write_text(
        json.dumps({"match": [SELECTOR, {"labels": {"a": {"regex": "x"}}}]})
    ),
    "a profile is a link": lambda s: (s.share / "profiles/other.json").symlink_to("/etc/passwd"),
    "a local profile can be written by others": lambda s: _local(s).chmod(0o666),
    "the settings are no TOML": lambda s: (s.etc / "config.toml").write_text("bind = ["),
    "a drop-in is no TOML": lambda s: _dropin(s, "x"),
    "the profiles are a file": lambda s: _file_for_directory(s.share / "profiles"),
}


def _local(sandbox: Sandbox) -> Path:
    path = sandbox.etc / "profiles/mine.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"match": [SELECTOR]}))
    return path


def _dropin(sandbox: Sandbox, text: str) -> None:
    (sandbox.etc / "config.d").mkdir()
    (sandbox.etc / "config.d/a.toml").write_text(text)


def _file_for_directory(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


@pytest.mark.parametrize("how", UNREADABLE)
def test_an_image_that_nothing_readable_identifies_is_undetermined_and_never_silently_ignored_when(
    sandbox: Sandbox, config: Config, how: str
) -> None:
    no_policy(sandbox)
    UNREADABLE[how](sandbox)
    data = config({"a": "b"})
    assert sandbox.hook("precreate", data).stdout == data
    assert records(sandbox) == [("undetermined", "FH303")]


@pytest.mark.parametrize("where", ["config.toml", "config.d"])
def test_what_is_undetermined_is_refused_where_the_settings_say_so_though_there_is_no_policy(
    sandbox: Sandbox, config: Config, where: str
) -> None:
    no_policy(sandbox)
    UNREADABLE["no profiles"](sandbox)
    if where == "config.d":
        (sandbox.etc / "config.toml").write_text('undetermined = "start"')
        _dropin(sandbox, 'undetermined = "refuse"')
    else:
        (sandbox.etc / "config.toml").write_text('undetermined = "refuse"')
    assert refused(sandbox.hook("precreate", config({"a": "b"})))
    assert records(sandbox) == [("refused", "FH112")]


def test_a_container_without_an_image_starts_unseen(sandbox: Sandbox) -> None:
    no_policy(sandbox)
    data = json.dumps({"root": {"path": "/somewhere"}}).encode()
    assert sandbox.hook("precreate", data).stdout == data
    assert records(sandbox) == []


SETTINGS_LOST: list[dict[str, Any]] = [
    {"settings": {}},
    {"selectors": [{}]},
    {"bindings": [{}]},
    {"profiles": {"hapi": 1}},
]


@pytest.mark.parametrize("change", SETTINGS_LOST, ids=json.dumps)
def test_a_policy_that_is_whole_and_makes_no_sense_refuses_fhir_only(
    sandbox: Sandbox, config: Config, change: dict[str, Any]
) -> None:
    path = sandbox.state / "selectors.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert refused(sandbox.hook("precreate", config(store.HAPI)))
    data = config({"a": "b"})
    assert sandbox.hook("precreate", data).stdout == data


def state(bundle: Path, annotations: dict[str, str] | None = None, id: str = store.CONTAINER) -> bytes:
    return json.dumps({"id": id, "pid": 2**22 + 7, "bundle": str(bundle), "annotations": annotations or {}}).encode()


def usual_store(sandbox: Sandbox, tmp_path: Path, labels: dict[str, str]) -> None:
    """Put a store where Podman has its own."""
    store.make(tmp_path / "storage", labels)
    sandbox.setup = (
        f"point {tmp_path}/layers /var/lib/containers; mount -t tmpfs none /var/lib/containers; "
        f"mkdir /var/lib/containers/storage; mount --bind {tmp_path}/storage /var/lib/containers/storage"
    )


ANNOTATED = {"io.container.manager": "libpod", "org.opencontainers.image.stopSignal": "15"}


@pytest.mark.parametrize("annotations", [{}, ANNOTATED], ids=["no annotations", "annotations"])
@pytest.mark.parametrize(
    "data", [None, b"", b"{", b"[" * 100_000, b"\xff"], ids=["no file", "empty", "torn", "deep", "bytes"]
)
def test_podmans_container_whose_config_can_not_be_read_is_known_by_its_id(
    sandbox: Sandbox, tmp_path: Path, data: bytes | None, annotations: dict[str, str]
) -> None:
    usual_store(sandbox, tmp_path, store.HAPI)
    if data is not None:
        (tmp_path / "config.json").write_bytes(data)
    done = sandbox.hook("prestart", state(tmp_path, annotations))
    assert done.returncode == 1 and b"FH114" in done.stderr
    assert records(sandbox) == [("refused", "FH114")]


def test_an_unreadable_config_of_another_image_of_podmans_starts(sandbox: Sandbox, tmp_path: Path) -> None:
    usual_store(sandbox, tmp_path, {"a": "b"})
    assert sandbox.hook("prestart", state(tmp_path, ANNOTATED)).returncode == 0
    assert records(sandbox) == []


def test_a_container_of_which_only_annotations_are_known_is_fhir_by_them_and_else_undetermined(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    assert sandbox.hook("prestart", state(tmp_path, store.HAPI, "bundle")).returncode == 1
    assert sandbox.hook("prestart", state(tmp_path, ANNOTATED, "bundle")).returncode == 0
    assert records(sandbox) == [("refused", "FH114"), ("undetermined", "FH302")]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"id":1}', b"\x00" * 100], ids=repr)
def test_a_state_that_can_not_be_read_is_on_record(sandbox: Sandbox, data: bytes) -> None:
    assert sandbox.hook("prestart", data).returncode == 0
    assert [decision for decision, _ in records(sandbox)] == ["undetermined"]


def test_attack_crun_repeats_a_repeated_annotation_in_the_state(sandbox: Sandbox, tmp_path: Path) -> None:
    """Its writer does not know that a key was there before; the state must not be unreadable for that."""
    source = json.dumps(store.HAPI["org.opencontainers.image.source"])
    twice = f'{{"a":"1","a":"2","org.opencontainers.image.source":{source}}}'
    (tmp_path / "config.json").write_text(f'{{"root":{{"path":"rootfs"}},"annotations":{twice}}}')
    data = f'{{"id":"x","pid":4194311,"bundle":"{tmp_path}","annotations":{twice}}}'
    done = sandbox.hook("prestart", data.encode())
    assert done.returncode == 1 and b"FH114" in done.stderr


def test_attack_podman_runs_the_files_of_a_buildah_working_container(sandbox: Sandbox, config: Config) -> None:
    """`podman run --rootfs $(buildah mount C)`: Buildah calls no precreate, so it is no build."""
    data = config(store.HAPI)
    graph = Path(json.loads(data)["root"]["path"]).parents[2]
    userdata = graph / f"overlay-containers/{store.CONTAINER}/userdata"
    userdata.mkdir(parents=True)
    (userdata / "buildah.json").write_text("{}")
    done = sandbox.hook("precreate", data)
    assert json.loads(done.stdout)["process"]["noNewPrivileges"] is True
    assert [r["decision"] for r in sandbox.records] == ["confined"]


@pytest.mark.parametrize(
    "edit",
    [
        {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}, "Seccomp": None}},
        {"process": {"NoNewPrivileges": False}},
        {"linux": {"seccomp": {"defaultAction": "x"}}},
        {"linux": {"seccomp": {"defaultAction": ["SCMP_ACT_ALLOW"]}}},
        {"linux": []},
        {"process": {"capabilities": {"bounding": [1]}}},
        {"process": 7},
    ],
    ids=json.dumps,
)
def test_a_config_of_fhir_that_is_malformed_or_ambiguous_is_refused(
    sandbox: Sandbox, config: Config, edit: dict[str, Any]
) -> None:
    assert refused(sandbox.hook("precreate", config(store.HAPI, **edit)))
    data = config({"a": "b"}, **edit)
    assert sandbox.hook("precreate", data).stdout == data


def test_a_log_that_takes_nothing_refuses_fhir_and_lets_the_unknown_start(sandbox: Sandbox, config: Config) -> None:
    sandbox.setup = "mount -o remount,bind,ro /var/log/fhir-hook"
    done = sandbox.hook("precreate", config(store.HAPI))
    assert refused(done) and "FH105" in json.loads(done.stdout)["hooks"]["createRuntime"][-1]["path"]
    data = config({"a": "b"}).replace(b"/merged", b"/merged/")
    shutil.rmtree(Path(json.loads(data)["root"]["path"]).parents[2] / "overlay-images")
    assert sandbox.hook("precreate", data).stdout == data


def test_a_policy_with_bindings_confines_by_the_images_name(sandbox: Sandbox, config: Config) -> None:
    write_policy(sandbox, [{"image": "localhost/*", "profile": "hapi"}])
    done = sandbox.hook("precreate", config({}))
    assert json.loads(done.stdout)["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"


def test_attack_without_a_policy_dockers_image_is_gone_and_the_containers_labels_say_fhir(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    no_policy(sandbox)
    id, layer, root = "a" * 64, "1" * 64, tmp_path / "docker"
    mounts = root / f"image/overlay2/layerdb/mounts/{id}"
    mounts.mkdir(parents=True)
    (mounts / "mount-id").write_text(layer)
    (root / f"containers/{id}").mkdir(parents=True)
    for labels, refuses in ((store.HAPI, True), ({"a": "b"}, False)):
        entry = {"Name": "/n", "Image": "sha256:" + "e" * 64, "Config": {"Labels": labels}}
        (root / f"containers/{id}/config.v2.json").write_text(json.dumps(entry))
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"root": {"path": f"{root}/overlay2/{layer}/merged"}}))
        code = (
            "from fhir_hook.hook import fallback\nfrom fhir_hook.store.policy import PolicyError\n"
            "data = open(sys.argv[1], 'rb').read()\n"
            "print(fallback.create(data, '/run/moby/' + sys.argv[2], sys.argv[2], PolicyError('FH103', 'it is gone')))"
        )
        assert (b"FH103" in sandbox.python(code, config, id)) is refuses
    assert records(sandbox) == [("refused", "FH103"), ("undetermined", "FH303")]
