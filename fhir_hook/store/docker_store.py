"""Which image a container of Docker comes from, read from the files of its daemon.

The way is root.path -> data root -> the container's own config.v2.json -> Image -> the image's config -> Labels
(github.com/moby/moby: container/container.go, layer/filestore.go, image/fs.go). The labels in config.v2.json are the
image's with the user's over them: they count only when the image is gone, and only to make the container FHIR. No
daemon is asked: it is waiting for the runtime.

Two layouts: Docker's own store, with ROOT/DRIVER/LAYER/merged for a root file system, and containerd's image store
(Docker 29's default), with ROOT/rootfs/SNAPSHOTTER/CONTAINER, whose images lie in containerd's content store.
"""

from __future__ import annotations

import posix

from fhir_hook.core import jsonio
from fhir_hook.core.digest import sha256_hex
from fhir_hook.core.image import Container, Image
from fhir_hook.store import containers_storage as storage
from fhir_hook.store import content_store, files
from fhir_hook.store.containers_storage import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fhir_hook.core.spec import Spec

MAX_CONTAINER = 64 << 20
MAX_REPOSITORIES = 64 << 20
SOURCE = "docker"
_HUB = "docker.io/"


def identify(spec: Spec, bundle: str, with_names: bool = False) -> Container | None:
    """Return the container of Docker that `spec` describes, with its image; None when it is none of Docker's.

    The image's names in Docker's own store cost a file that may be long: without `with_names` see `describe`.
    Never raises for what the store holds: what can't be read makes the container undetermined.
    """
    root_path = spec.root_path
    where = storage.place(root_path)
    if where is not None and storage.exists(f"{where.graph}/image/{where.driver}/layerdb"):
        root, driver, id = where.graph, where.driver, ""
    else:
        head, slash, id = root_path.rstrip("/").rpartition("/")
        root, marker, driver = head.rpartition("/rootfs/")
        if not (slash and marker and storage.is_id(id) and storage.exists(f"{root}/containers/{id}")):
            return None
        where = None
    container = Container(id=id, source=SOURCE)
    try:
        container.id = id or _container_id(root, driver, where.layer if where else "", _candidates(spec, bundle))
        _read(root, driver if where else "", container)
        if with_names and where is not None and container.image is not None:
            describe(where, container.image)
    except (StoreError, files.FileError, jsonio.JsonError, OSError, ValueError) as error:
        container.undetermined = f"Docker's files in {root} don't tell its image: {error}"
    return container


def identify_by_id(root: str, id: str) -> Container:
    """As `identify`, for the container with this `id` of the Docker whose data root is `root`."""
    container = Container(id=id, source=SOURCE)
    try:
        drivers = posix.listdir(f"{root}/image") if storage.exists(f"{root}/image") else []
        # Docker's own store has one driver in use; the others' directories stay behind when it is changed.
        known = [driver for driver in drivers if storage.exists(f"{root}/image/{driver}/layerdb/mounts/{id}")]
        _read(root, known[0] if known else "", container)
        if known and container.image is not None:
            describe(storage.Place(root, known[0], ""), container.image)
    except (StoreError, files.FileError, jsonio.JsonError, OSError, ValueError) as error:
        container.undetermined = f"Docker's files in {root} don't tell its image: {error}"
    return container


def describe(where: storage.Place, image: Image) -> None:
    """Add the names and the digest that Docker's own store knows the image by, where they can be read."""
    try:
        image.names, image.digest = _names(f"{where.graph}/image/{where.driver}/repositories.json", image.id)
    except (files.FileError, jsonio.JsonError, OSError):
        return


def _candidates(spec: Spec, bundle: str) -> list[str]:
    """Where a container's id is usually found: the names of its bundle and of its control group."""
    group = spec.member("cgroupsPath", str, spec.linux)
    names = [bundle.rstrip("/").rpartition("/")[2], group.rpartition("/")[2].rpartition(":")[2]]
    return [name for name in names if storage.is_id(name)]


def _container_id(root: str, driver: str, layer: str, candidates: list[str]) -> str:
    """The container that the layer with the mount id `layer` was made for: ROOT/image/DRIVER/layerdb/mounts/ID."""
    mounts = f"{root}/image/{driver}/layerdb/mounts"
    for id in candidates:
        if _mount_id(mounts, id) == layer:
            return id
    for id in posix.listdir(mounts):
        if _mount_id(mounts, id) == layer:
            return id
    raise StoreError(f"no container has the layer {layer[:12]}")


def _mount_id(mounts: str, id: str) -> str:
    try:
        return files.read(f"{mounts}/{id}/mount-id", 4096).decode("ascii", "replace").strip()
    except (OSError, files.FileError):
        return ""


def _read(root: str, driver: str, container: Container) -> None:
    entry = jsonio.parse(files.read(f"{root}/containers/{container.id}/config.v2.json", MAX_CONTAINER), MAX_CONTAINER)
    if not isinstance(entry, dict):
        raise StoreError("config.v2.json is not an object")
    name, image = entry.get("Name"), entry.get("Image")
    container.name = name.lstrip("/") if isinstance(name, str) else ""
    if image == "":
        return
    if not isinstance(image, str) or not storage.is_id(image.removeprefix("sha256:")):
        raise StoreError("config.v2.json names no image")
    container.claims = _labels(entry)
    if driver:
        container.image = _image(root, driver, image.removeprefix("sha256:"))
    else:
        manifest = entry.get("ImageManifest")
        digest = manifest.get("digest") if isinstance(manifest, dict) else None
        container.image = content_store.image(_content_stores(root), digest if isinstance(digest, str) else image)
        container.image.names = _asked_for(entry)
    container.claims = {}  # the image tells


def _image(root: str, driver: str, id: str) -> Image:
    data = files.read(f"{root}/image/{driver}/imagedb/content/sha256/{id}", storage.MAX_IMAGE_CONFIG)
    if sha256_hex(data) != id:
        raise StoreError(f"the config of image {id[:12]} is damaged")
    return Image(id, storage.labels_of(jsonio.parse(data, storage.MAX_IMAGE_CONFIG)))


def _names(path: str, id: str) -> tuple[tuple[str, ...], str]:
    """The names of an image, each as Docker shows it and in full, and the digest of its manifest or ""."""
    document = jsonio.parse(files.read(path, MAX_REPOSITORIES), MAX_REPOSITORIES)
    repositories = document.get("Repositories") if isinstance(document, dict) else None
    names: list[str] = []
    digest = ""
    for references in repositories.values() if isinstance(repositories, dict) else ():
        for name, target in references.items() if isinstance(references, dict) else ():
            if target != f"sha256:{id}":
                continue
            if "@" in name:
                digest = digest or name.partition("@")[2]
            else:
                names += [name, full(name)]
    return tuple(dict.fromkeys(names)), digest


def full(name: str) -> str:
    """An image's name with the registry that Docker leaves out (github.com/distribution/reference, familiar names)."""
    first, slash, _ = name.partition("/")
    if not slash:
        return f"{_HUB}library/{name}"
    return name if "." in first or ":" in first or first == "localhost" else _HUB + name


def _labels(entry: dict[str, Any]) -> dict[str, str]:
    """The container's labels: its image's of the time when it was made, with the user's over them."""
    config = entry.get("Config")
    labels = config.get("Labels") if isinstance(config, dict) else None
    return {k: v for k, v in labels.items() if isinstance(v, str)} if isinstance(labels, dict) else {}


def _asked_for(entry: dict[str, Any]) -> tuple[str, ...]:
    """The name that the container was made with, as config.v2.json keeps it: for records and bindings by name."""
    config = entry.get("Config")
    name = config.get("Image") if isinstance(config, dict) else None
    return tuple(dict.fromkeys((name, full(name)))) if isinstance(name, str) and name else ()


def _content_stores(root: str) -> list[str]:
    """Content stores that the daemon with this data root may use: the host's containerd, or one of its own."""
    return [content_store.DEFAULT, f"{root}/containerd/daemon/{content_store.DIRECTORY}"]
