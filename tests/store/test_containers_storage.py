"""Reading images from containers/storage: stores laid out as c/storage writes them, and hostile ones.

tests/system runs the same code on stores that Podman and Buildah made.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from fhir_hook.core import decide
from fhir_hook.core.spec import Spec
from fhir_hook.hook import identify
from fhir_hook.store import containers_storage as storage
from support.sandbox import Sandbox

LAYER, CONTAINER, IMAGE = "1" * 64, "c" * 64, "e" * 64
LABELS = {"org.opencontainers.image.source": "https://github.com/hapifhir/hapi-fhir-jpaserver-starter"}


class Store:
    """A containers/storage graph root below a temporary directory, with one container and its image."""

    def __init__(self, top: Path, driver: str = "overlay") -> None:
        self.top, self.driver = top, driver
        self.containers = top / f"{driver}-containers"
        self.images = top / f"{driver}-images"
        self.containers.mkdir(parents=True)
        self.add_image(self.images)
        self.write([self.entry()])

    def entry(self, **more: Any) -> dict[str, Any]:
        metadata = '{"image-name":"evil\\",\\"layer\\":\\"x","name":"n"}'
        return {"id": CONTAINER, "names": ["fhir"], "image": IMAGE, "layer": LAYER, "metadata": metadata, **more}

    def write(
        self, entries: list[dict[str, Any]], name: str = "containers.json", directory: Path | None = None
    ) -> None:
        path = (directory or self.containers) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(entries, separators=(",", ":")))

    def add_image(self, images: Path, labels: Any = LABELS, digest: str = "sha256:" + "d" * 64) -> None:
        directory = images / IMAGE
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "manifest").write_text(json.dumps({"schemaVersion": 2, "config": {"digest": digest}}))
        name = "=" + base64.b64encode(digest.encode()).decode()
        (directory / name).write_text(json.dumps({"architecture": "amd64", "config": {"Labels": labels}}))
        listed = [{"id": IMAGE, "digest": "sha256:" + "b" * 64, "names": ["localhost/fhir:1"]}]
        (images / "images.json").write_text(json.dumps(listed, separators=(",", ":")))

    @property
    def config(self) -> Path:
        return next(path for path in (self.images / IMAGE).iterdir() if path.name.startswith("="))

    @property
    def root_path(self) -> str:
        if self.driver == "vfs":
            return f"{self.top}/vfs/dir/{LAYER}"
        return f"{self.top}/{self.driver}/{LAYER}/merged"

    def identify(self, mounts: list[str] | None = None, bindings: bool = True) -> Any:
        document = {"root": {"path": self.root_path}, "mounts": [{"source": source} for source in mounts or []]}
        return identify.container_of(Spec(document), {"bindings": [1] if bindings else []})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "graph")


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_the_labels_are_those_of_the_image_that_the_container_was_made_from(tmp_path: Path, driver: str) -> None:
    found = Store(tmp_path, driver).identify()
    assert (found.id, found.name, found.image.id, found.image.labels) == (CONTAINER, "fhir", IMAGE, LABELS)
    assert (found.image.names, found.image.digest) == (("localhost/fhir:1",), "sha256:" + "b" * 64)
    assert not found.undetermined and not found.builder


def test_names_are_read_only_when_a_binding_needs_them(store: Store) -> None:
    assert store.identify(bindings=False).image.names == ()


def test_a_container_in_the_volatile_list_is_found(store: Store) -> None:
    store.write([])
    store.write([store.entry()], "volatile-containers.json")
    assert store.identify().image.labels == LABELS


def test_a_container_of_a_transient_store_is_found_below_the_run_root(store: Store, tmp_path: Path) -> None:
    (store.containers / "containers.json").unlink()
    run = tmp_path / "run"
    store.write([store.entry()], directory=run / "overlay-containers")
    mount = f"{run}/overlay-containers/{CONTAINER}/userdata/hosts"
    assert store.identify([mount]).image.labels == LABELS


@pytest.mark.parametrize("forged_first", [True, False])
def test_attack_a_mount_leads_to_a_forged_run_root_of_a_transient_store(
    store: Store, tmp_path: Path, forged_first: bool
) -> None:
    (store.containers / "containers.json").unlink()
    mounts = []
    for name, image in (("forged", ""), ("run", IMAGE)):
        store.write([store.entry(image=image)], directory=tmp_path / name / "overlay-containers")
        mounts.append(f"{tmp_path}/{name}/overlay-containers/{CONTAINER}/userdata/hosts")
    seen = store.identify(mounts if forged_first else mounts[::-1])
    assert seen.image is None and "different images" in seen.undetermined


def test_attack_a_run_root_that_another_user_can_write_is_not_looked_at(store: Store, tmp_path: Path) -> None:
    (store.containers / "containers.json").unlink()
    for number, spoil in enumerate((lambda path: path.chmod(0o777), lambda path: os.chown(path, 1234, 1234))):
        run = tmp_path / f"run{number}"
        store.write([store.entry(image="")], directory=run / "overlay-containers")
        spoil(run / "overlay-containers")
        assert store.identify([f"{run}/overlay-containers/x"]).undetermined


def test_attack_a_run_root_for_a_graph_that_has_no_containers(store: Store, tmp_path: Path) -> None:
    """As Docker's: its root file systems lie as those of containers/storage, its containers do not."""
    store.containers.rename(tmp_path / "away")
    run = tmp_path / "run"
    store.write([store.entry(image="")], directory=run / "overlay-containers")
    assert store.identify([f"{run}/overlay-containers/x"]).undetermined


def test_an_image_of_an_additional_store_is_found_through_storage_conf(store: Store, tmp_path: Path) -> None:
    from fhir_hook.store import image_stores

    conf = b'[storage]\nimagestore = "/a"\n[storage.options]\nadditionalimagestores = ["/b", "rel", 3]\n'
    assert image_stores.configured(conf) == ["/a", "/b"]
    assert image_stores.configured(b"not [ toml") == []
    assert image_stores.configured(b"storage = 3") == []


def test_buildahs_working_container_is_seen_as_one(store: Store) -> None:
    userdata = store.containers / CONTAINER / "userdata"
    userdata.mkdir(parents=True)
    (userdata / "buildah.json").write_text("{}")
    assert store.identify().builder


def test_a_container_from_scratch_has_no_image(store: Store) -> None:
    store.write([store.entry(image="")])
    found = store.identify()
    assert found.image is None and not found.undetermined


def test_the_mounted_layer_of_an_image_run_as_a_root_file_system_is_that_image(store: Store) -> None:
    store.write([])
    listed = [{"id": "0" * 64, "layer": "2" * 64}, {"id": IMAGE, "layer": LAYER, "names": ["localhost/fhir:1"]}]
    (store.images / "images.json").write_text(json.dumps(listed, separators=(",", ":")))
    assert store.identify().image.labels == LABELS


def test_cri_os_containers_are_identified_by_their_image_and_not_by_their_kubernetes_labels(store: Store) -> None:
    document = {
        "root": {"path": store.root_path},
        "annotations": {
            "io.container.manager": "cri-o",
            "io.kubernetes.cri-o.ContainerType": "container",
            "io.kubernetes.cri-o.ImageRef": IMAGE,
            "io.kubernetes.cri-o.MountPoint": store.root_path,
            "io.kubernetes.cri-o.Labels": '{"io.fhir-hook.profile":"loose","org.opencontainers.image.source":"other"}',
            "io.fhir-hook.profile": "loose",
        },
    }
    found = identify.container_of(Spec(document), {"bindings": []})
    assert found.image is not None and found.image.labels == LABELS


def test_umocis_annotations_are_the_labels_of_a_bundle_outside_of_a_store() -> None:
    found = identify.container_of(Spec({"root": {"path": "rootfs"}, "annotations": LABELS}), {"bindings": []})
    assert found.image is not None and found.image.labels == LABELS


def test_labels_that_are_no_text_do_not_count(store: Store) -> None:
    store.add_image(store.images, {"a": 1, "b": None, "c": ["x"], "d": "text"})
    assert store.identify().image.labels == {"d": "text"}


@pytest.mark.parametrize("labels", [None, {}])
def test_an_image_without_labels_has_none(store: Store, labels: Any) -> None:
    store.add_image(store.images, labels)
    assert store.identify().image.labels == {}


def test_an_image_of_schema_1_keeps_its_labels_in_its_history(store: Store) -> None:
    compatibility = json.dumps({"config": {"Labels": LABELS}})
    manifest = {"schemaVersion": 1, "history": [{"v1Compatibility": compatibility}]}
    (store.images / IMAGE / "manifest").write_text(json.dumps(manifest))
    assert store.identify().image.labels == LABELS


def test_the_newest_of_ten_thousand_containers_is_found_without_reading_the_others(store: Store) -> None:
    others = [store.entry(id=f"{n:064x}", layer=f"{n + 10**9:064x}") for n in range(10_000)]
    store.write([*others, store.entry()])
    read = _bytes_read(store)
    assert store.identify().image.labels == LABELS
    assert _bytes_read(store) - read < 1 << 20
    store.write([store.entry(), *others])
    assert store.identify().image.labels == LABELS


def _bytes_read(store: Store) -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def test_a_list_with_other_spacing_than_gos_is_read_all_the_same(store: Store) -> None:
    (store.containers / "containers.json").write_text(json.dumps([{"x": 1}, store.entry()], indent=2))
    assert store.identify().image.labels == LABELS


BROKEN: dict[str, Any] = {
    "no list of containers": lambda s: (s.containers / "containers.json").unlink(),
    "list torn before the entry": lambda s: (s.containers / "containers.json").write_text('[{"id":"'),
    "list torn within the entry": lambda s: (s.containers / "containers.json").write_text(
        json.dumps([s.entry()], separators=(",", ":"))[:-20]
    ),
    "list is a link": lambda s: _replace(s.containers / "containers.json", lambda p: p.symlink_to("/etc/passwd")),
    "list is a FIFO": lambda s: _replace(s.containers / "containers.json", os.mkfifo),
    "list is a directory": lambda s: _replace(s.containers / "containers.json", Path.mkdir),
    "container not listed": lambda s: s.write([]),
    "image id is a path": lambda s: s.write([s.entry(image="../../etc")]),
    "no manifest": lambda s: (s.images / IMAGE / "manifest").unlink(),
    "manifest torn": lambda s: (s.images / IMAGE / "manifest").write_text('{"config":'),
    "manifest is no object": lambda s: (s.images / IMAGE / "manifest").write_text("[1]"),
    "manifest of an unknown format": lambda s: (s.images / IMAGE / "manifest").write_text('{"schemaVersion":3}'),
    "manifest is a FIFO": lambda s: _replace(s.images / IMAGE / "manifest", os.mkfifo),
    "config is a link": lambda s: _replace(s.config, lambda p: p.symlink_to("/dev/zero")),
    "config missing": lambda s: s.config.unlink(),
    "config of 100 MiB": lambda s: s.config.write_bytes(b" " * (100 << 20) + b"{}"),
    "config nested 100,000 deep": lambda s: s.config.write_text('{"config":' * 100_000 + "1" + "}" * 100_000),
    "config with NaN": lambda s: s.config.write_text('{"config":{"Labels":{"a":NaN}}}'),
    "config with a key twice": lambda s: s.config.write_text('{"config":{"Labels":{"a":"1","a":"2"}}}'),
    "config in UTF-16": lambda s: s.config.write_bytes('{"config":{}}'.encode("utf-16")),
    "labels are a list": lambda s: s.add_image(s.images, ["a"]),
}


def _replace(path: Path, make: Any) -> None:
    path.unlink()
    make(path)


@pytest.mark.parametrize("how", BROKEN)
def test_a_store_that_cannot_be_read_makes_the_image_undetermined_and_never_ignored(store: Store, how: str) -> None:
    BROKEN[how](store)
    found = store.identify()
    assert found.undetermined and found.image is None
    settings = {"settings": decide.DEFAULTS, "bindings": [], "profiles": {}, "selectors": []}
    assert decide.decide(found, settings).decision == decide.UNDETERMINED


@pytest.mark.parametrize("path", ["/a\x00b", "/\ud800", "/" + "a" * 5000, "/proc/self/root", "/\udcff"])
def test_attack_a_root_path_or_mount_that_no_file_can_have(store: Store, path: str) -> None:
    """The hook must neither fail for it, nor take it for a container that is known not to be FHIR."""
    for root in (f"{path}/overlay/{LAYER}/merged", f"{store.top}/overlay/{LAYER}/merged", path):
        document = {"root": {"path": root}, "mounts": [{"source": f"{path}/overlay-containers/x/userdata/hosts"}]}
        found = identify.container_of(Spec(document), {"bindings": [1]})
        assert found.undetermined or found.image is not None


@pytest.mark.parametrize("digest", ["", "sha256:" + "?" * 300, "\ud800", "x" * 10_000, "../../../etc/passwd", "a\x00b"])
def test_attack_a_manifest_that_names_a_config_of_any_name(store: Store, digest: str) -> None:
    (store.images / IMAGE / "manifest").write_text(json.dumps({"schemaVersion": 2, "config": {"digest": digest}}))
    assert store.identify().undetermined


HOSTILE_TEXT = (
    '{"id":"' + CONTAINER + '","layer":"' + LAYER + '"}',
    '"layer":"' + LAYER + '"',
    '\\","layer":"' + LAYER + '","x":"',
    "}]}{[",
    "\u2028\x00\x1b",
)


@pytest.mark.parametrize("text", HOSTILE_TEXT)
@pytest.mark.parametrize("member", ["metadata", "names", "big-data-names", "flags"])
@pytest.mark.parametrize("where", ["in an entry before", "in the entry", "in an entry behind"])
def test_attack_text_of_another_container_that_looks_like_an_entry(
    store: Store, text: str, member: str, where: str
) -> None:
    value: Any = {"metadata": text, "names": [text], "big-data-names": [text], "flags": {text: text}}[member]
    other = {**store.entry(id="f" * 64, layer="2" * 64, image="9" * 64), member: value}
    own = store.entry(**({member: value} if where == "in the entry" else {}))
    store.write([other, own] if where == "in an entry before" else [own, other])
    found = store.identify()
    assert found.id == CONTAINER and found.image.labels == LABELS


def test_an_entry_whose_members_come_in_another_order_is_found(store: Store) -> None:
    entry = dict(reversed(store.entry().items()))
    store.write([store.entry(id="f" * 64, layer="2" * 64, image="9" * 64), entry])
    assert store.identify().image.labels == LABELS


def test_an_additional_image_store_of_storage_conf_is_read_where_engines_read_it(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "sandbox")
    store = Store(tmp_path / "graph")
    (store.top / "overlay-images").rename(tmp_path / "moved")
    additional = tmp_path / "additional"
    additional.mkdir()
    (tmp_path / "moved").rename(additional / "overlay-images")
    (tmp_path / "storage.conf").write_text(f'[storage]\n[storage.options]\nadditionalimagestores = ["{additional}"]\n')
    sandbox.setup = (
        f"point {tmp_path}/layers /etc/containers; mount -t tmpfs conf /etc/containers; "
        f"cp {tmp_path}/storage.conf /etc/containers/storage.conf"
    )
    code = (
        "from fhir_hook.store import containers_storage as storage\n"
        "found = storage.identify(storage.place(sys.argv[1]), [])\n"
        "print(found.undetermined or sorted(found.image.labels))"
    )
    assert sandbox.python(code, store.root_path).decode().strip() == str(sorted(LABELS))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "rootfs",
        f"/a/overlay/{LAYER}",
        f"/a/overlay/{LAYER[:-1]}/merged",
        f"/a/overlay/{LAYER.replace('1', 'A')}/merged",
        "/a/overlay/../merged",
        f"{LAYER}/merged",
    ],
)
def test_paths_of_other_forms_are_no_place_in_a_store(path: str) -> None:
    assert storage.place(path) is None
