"""Which image a container of Docker has, in both layouts of its files, made by hand after moby's source."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from fhir_hook.core.image import Container
from fhir_hook.core.spec import Spec
from fhir_hook.store import containers_storage as storage
from fhir_hook.store import docker_store

ID, OTHER, LAYER = "a" * 64, "b" * 64, "1" * 64
HAPI = {"org.opencontainers.image.source": "https://github.com/hapifhir/hapi-fhir-jpaserver-starter"}
CONTENT = "containerd/daemon/io.containerd.content.v1.content/blobs/sha256"


def put(path: Path, value: Any) -> str:
    """Write a value as JSON; returns its digest."""
    data = json.dumps(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    path = path / digest if path.is_dir() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return f"sha256:{digest}"


def container(root: Path, image: str, id: str = ID, **more: Any) -> None:
    config = {"Image": "typed:1", "Labels": {**HAPI, "user": "label"}}
    put(root / f"containers/{id}/config.v2.json", {"Name": "/name", "Image": image, "Config": config, **more})


def own(root: Path, labels: Any, driver: str = "overlay2", id: str = ID, layer: str = LAYER) -> str:
    """A container in Docker's own store; returns its image's id."""
    content = root / f"image/{driver}/imagedb/content/sha256"
    content.mkdir(parents=True, exist_ok=True)
    image = put(content, {"config": {"Labels": labels}})
    mounts = root / f"image/{driver}/layerdb/mounts/{id}"
    mounts.mkdir(parents=True)
    (mounts / "mount-id").write_text(layer)
    names = {"fhir": {"fhir:1": image, "fhir:2": "sha256:x", "fhir@sha256:" + "c" * 64: image}}
    put(root / f"image/{driver}/repositories.json", {"Repositories": names})
    container(root, image, id)
    return image.removeprefix("sha256:")


def found(root_path: Path | str, group: str = f"/docker/{ID}", bundle: str = "/run/x/moby/b") -> Container | None:
    """With the names of its image."""
    spec = Spec({"root": {"path": str(root_path)}, "linux": {"cgroupsPath": group}})
    return docker_store.identify(spec, bundle, True)


@pytest.mark.parametrize(
    ("driver", "path"),
    [
        ("overlay2", f"overlay2/{LAYER}/merged"),
        ("vfs", f"vfs/dir/{LAYER}"),
        ("btrfs", f"btrfs/subvolumes/{LAYER}"),
    ],
)
def test_the_images_own_labels_are_found_and_never_the_containers(tmp_path: Path, driver: str, path: str) -> None:
    image = own(tmp_path, {"a": "b"}, driver)
    seen = found(tmp_path / path)
    assert seen is not None and seen.image is not None and not seen.undetermined
    assert (seen.id, seen.name, seen.source) == (ID, "name", "docker")
    assert (seen.image.id, seen.image.labels) == (image, {"a": "b"})
    assert seen.image.names == ("fhir:1", "docker.io/library/fhir:1") and seen.image.digest == "sha256:" + "c" * 64


@pytest.mark.parametrize("group", [f"/docker/{ID}", f"system.slice:docker:{ID}", f"/o/{ID}", "", f"/docker/{OTHER}"])
def test_the_layer_says_which_container_it_is_whatever_the_group_is_called(tmp_path: Path, group: str) -> None:
    own(tmp_path, {}, id=OTHER, layer="2" * 64)
    own(tmp_path, HAPI)
    seen = found(tmp_path / f"overlay2/{LAYER}/merged", group)
    assert seen is not None and seen.id == ID and seen.image is not None and seen.image.labels == HAPI


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize("index", [True, False])
def test_containerds_image_store_leads_from_manifest_to_labels(tmp_path: Path, index: bool, manifest: bool) -> None:
    blobs = tmp_path / CONTENT
    blobs.mkdir(parents=True)
    config = put(blobs, {"config": {"Labels": HAPI}})
    target = put(blobs, {"schemaVersion": 2, "config": {"digest": config}, "layers": []})
    platform = target
    if index:
        other = put(blobs, {"config": {"digest": "sha256:" + "0" * 64}})
        entries = [
            {"digest": other, "platform": {"os": "unknown", "architecture": "unknown"}},
            {"digest": target, "platform": {"os": "linux", "architecture": "amd64"}},
            {"digest": target, "platform": {"os": "linux", "architecture": "arm64"}},
        ]
        target = put(blobs, {"manifests": entries})
    container(tmp_path, target, **({"ImageManifest": {"digest": platform}} if manifest else {}))
    seen = found(tmp_path / f"rootfs/overlayfs/{ID}")
    assert seen is not None and seen.image is not None, seen and seen.undetermined
    assert seen.image.labels == HAPI and seen.image.names == ("typed:1", "docker.io/library/typed:1")


def test_names_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    own(tmp_path, HAPI)
    spec = Spec({"root": {"path": f"{tmp_path}/overlay2/{LAYER}/merged"}})
    seen = docker_store.identify(spec, "/run/x/moby/b")
    assert seen is not None and seen.image is not None and not seen.image.names
    docker_store.describe(storage.Place(str(tmp_path), "overlay2", LAYER), seen.image)
    assert "fhir:1" in seen.image.names


def test_the_containers_own_labels_are_kept_only_when_its_image_is_gone(tmp_path: Path) -> None:
    image = own(tmp_path, {})
    seen = found(tmp_path / f"overlay2/{LAYER}/merged")
    assert seen is not None and not seen.claims
    (tmp_path / f"image/overlay2/imagedb/content/sha256/{image}").unlink()
    seen = found(tmp_path / f"overlay2/{LAYER}/merged")
    assert seen is not None and seen.undetermined and seen.claims == {**HAPI, "user": "label"}


def test_a_root_file_system_of_no_docker_is_none_of_its(tmp_path: Path) -> None:
    for path in ("rootfs", f"{tmp_path}/overlay/{LAYER}/merged", f"{tmp_path}/rootfs/overlayfs/{ID}", "/", ""):
        assert found(path) is None


@pytest.mark.parametrize(
    "damage",
    ["no mount-id", "no config", "broken config", "foreign image", "no image", "damaged image", "labels", "link"],
)
def test_attack_what_cannot_be_read_is_undetermined(tmp_path: Path, damage: str) -> None:
    image = own(tmp_path, HAPI)
    config = tmp_path / f"containers/{ID}/config.v2.json"
    content = tmp_path / f"image/overlay2/imagedb/content/sha256/{image}"
    if damage == "no mount-id":
        (tmp_path / f"image/overlay2/layerdb/mounts/{ID}/mount-id").write_text("2" * 64)
    elif damage == "no config":
        config.unlink()
    elif damage == "broken config":
        config.write_text('{"Image": 1}')
    elif damage == "foreign image":
        container(tmp_path, "sha256:../../../../etc/passwd")
    elif damage == "no image":
        content.unlink()
    elif damage == "damaged image":
        content.write_text(json.dumps({"config": {"Labels": {}}}))
    elif damage == "labels":
        container(tmp_path, put(content.parent, {"config": {"Labels": ["a"]}}))
    else:
        content.rename(tmp_path / "elsewhere")
        content.symlink_to(tmp_path / "elsewhere")
    seen = found(tmp_path / f"overlay2/{LAYER}/merged")
    assert seen is not None and seen.image is None and seen.undetermined


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("fhir:1", "docker.io/library/fhir:1"),
        ("me/fhir:1", "docker.io/me/fhir:1"),
        ("localhost/fhir", "localhost/fhir"),
        ("r.example/fhir", "r.example/fhir"),
        ("r:5000/fhir", "r:5000/fhir"),
    ],
)
def test_names_are_known_in_full_too(name: str, full: str) -> None:
    assert docker_store.full(name) == full
