"""Which image a root file system comes from, read from containers/storage (Podman, Buildah, CRI-O).

The way is root.path -> layer -> container -> image -> manifest -> config -> Labels, over the files that
github.com/containers/storage keeps (containers.go, images.go). No engine is called: a hook that asks the
engine that is waiting for it can block for ever.
"""

from __future__ import annotations

import posix
from binascii import b2a_base64

from fhir_hook.core import jsonio
from fhir_hook.core.image import Container, Image
from fhir_hook.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAX_LIST = 256 << 20
MAX_MANIFEST = 4 << 20
MAX_IMAGE_CONFIG = 16 << 20
_HEX = frozenset("0123456789abcdef")
_ENTRY = b'{"id":"'


class Place:
    """Where a root file system lies: `graph` root, storage `driver`, and `layer`, 64 hexadecimal digits."""

    __slots__ = ("graph", "driver", "layer")

    def __init__(self, graph: str, driver: str, layer: str) -> None:
        self.graph = graph
        self.driver = driver
        self.layer = layer


class StoreError(Exception):
    """The store can't tell which image it is; str() is one line saying what could not be read."""


def is_id(text: str) -> bool:
    """Whether `text` is an id of containers/storage: 64 lower-case hexadecimal digits."""
    return len(text) == 64 and _HEX.issuperset(text)


def place(root_path: str) -> Place | None:
    """Take a root.path apart: GRAPH/overlay/LAYER/merged (or diff) or GRAPH/vfs/dir/LAYER; None for any other form."""
    parts = root_path.rstrip("/").split("/")
    if len(parts) >= 4 and parts[-1] in ("merged", "diff") and is_id(parts[-2]):
        return Place("/".join(parts[:-3]), parts[-3], parts[-2])
    if len(parts) >= 4 and parts[-2] in ("dir", "subvolumes", "graph") and is_id(parts[-1]):
        return Place("/".join(parts[:-3]), parts[-3], parts[-1])
    return None


def bound_place(root_path: str) -> Place | None:
    """As `place`, for a root.path that something of a store is mounted at (Buildah does so); None when nothing is."""
    if not root_path.startswith("/"):
        return None
    from fhir_hook.store import mounts

    for origin in mounts.origins(root_path):
        where = place(origin)
        if where is not None and exists(f"{where.graph}/{where.driver}-containers"):
            return where
    return None


def identify(where: Place, run_roots: list[str]) -> Container:
    """Return the container whose layer is at `where`, with its image and the image's own labels.

    `run_roots` are looked in for a transient store's list of containers. Never raises for what the store
    holds: a store that can't be read makes the result undetermined.
    """
    return _identify(where, run_roots, "layer", where.layer)


def identify_by_id(graph: str, driver: str, id: str) -> Container:
    """As `identify`, for the container with this `id`, when its root.path is not known."""
    return _identify(Place(graph, driver, ""), [], "id", id)


def _identify(where: Place, run_roots: list[str], key: str, value: str) -> Container:
    try:
        entry = _find_container(where, run_roots, key, value)
    except (StoreError, files.FileError, jsonio.JsonError, OSError, ValueError) as error:
        return Container(undetermined=f"the list of containers in {where.graph} can't be read: {error}")
    if entry is None:
        unknown = Container(undetermined=f"{key} {value[:12]} belongs to no container in {where.graph}")
        return _of_layer(where) or unknown
    container = Container(id=_string(entry, "id"), name=_first(entry.get("names")), source="containers/storage")
    container.builder = exists(f"{where.graph}/{where.driver}-containers/{container.id}/userdata/buildah.json")
    image_id = _string(entry, "image")
    if not image_id:
        return container
    try:
        container.image = _read_image(where, image_id)
    except (StoreError, files.FileError, jsonio.JsonError, OSError, ValueError) as error:
        container.undetermined = f"image {image_id[:12]} of container {container.id[:12]} can't be read: {error}"
    return container


def _of_layer(where: Place) -> Container | None:
    """The container whose root file system is an image's own top layer (podman image mount), without a container's."""
    try:
        entry = _find_entry(f"{where.graph}/{where.driver}-images/images.json", "layer", where.layer)
        image = _read_image(where, _string(entry, "id")) if entry is not None else None
    except (StoreError, files.FileError, jsonio.JsonError, OSError, ValueError):
        return None
    return Container(image=image, source="containers/storage") if image is not None else None


def describe(where: Place, image: Image) -> None:
    """Add the image's names and manifest digest, which the record and bindings by name want."""
    for store in _image_stores(where):
        try:
            entry = _find_entry(f"{store}/{where.driver}-images/images.json", "id", image.id)
        except (files.FileError, jsonio.JsonError, OSError, ValueError):
            continue
        if entry is not None:
            names = entry.get("names")
            image.names = tuple(n for n in names if isinstance(n, str)) if isinstance(names, list) else ()
            image.digest = _string(entry, "digest")
            return


def _find_container(where: Place, run_roots: list[str], key: str, value: str) -> dict[str, Any] | None:
    """The entry of the container whose `key` is `value`, in the graph root or in a transient store's run root.

    Raises StoreError when two run roots tell different images: one of them is somebody's own.
    """
    directory = f"{where.graph}/{where.driver}-containers"
    lists, entry = _listed(directory, key, value)
    if entry is not None:
        return entry
    if run_roots and not exists(directory):
        run_roots = []  # what has no containers in its graph root is no containers/storage
    for root in run_roots:
        if not _is_own(f"{root}/{where.driver}-containers"):
            continue
        read, other = _listed(f"{root}/{where.driver}-containers", key, value)
        lists += read
        if entry is not None and other is not None and _string(entry, "image") != _string(other, "image"):
            raise StoreError(f"two run roots tell different images of the {key} {value[:12]}")
        entry = entry or other
    if not lists:
        raise StoreError(f"{where.driver}-containers has no containers.json")
    return entry


def _listed(directory: str, key: str, value: str) -> tuple[int, dict[str, Any] | None]:
    """How many lists of containers there are in `directory`, and the entry that one of them has."""
    read = 0
    for name in ("containers.json", "volatile-containers.json"):
        try:
            entry = _find_entry(f"{directory}/{name}", key, value)
        except FileNotFoundError:
            continue
        read += 1
        if entry is not None:
            return read, entry
    return read, None


def _is_own(directory: str) -> bool:
    """Whether a run root's directory is this user's, as the engine makes it, and nobody else can write there."""
    try:
        status = posix.stat(directory)
    except (OSError, ValueError):
        return False
    return status.st_uid == posix.geteuid() and not status.st_mode & 0o022


def _find_entry(path: str, key: str, value: str) -> dict[str, Any] | None:
    """Return the entry of a storage list whose `key` is `value`, reading only that entry where possible.

    Entries are appended, so the newest container is found from the end of the file. Inside JSON strings a
    quote is escaped, so the bytes `{"id":"` start an entry and nothing else (Go's compact encoding/json).
    """
    fd, status = files.open_regular(path)
    try:
        if status.st_size > MAX_LIST:
            raise files.FileError(f"{path} has {status.st_size} bytes")
        window = min(status.st_size, 1 << 16)
        tail = posix.pread(fd, window, status.st_size - window)
        entry = _entry_at(tail, key, value)
        if entry is not None or window == status.st_size:
            return entry if entry is not None else _full_search(tail, key, value)
        data = files.read_all(fd, MAX_LIST)
    finally:
        posix.close(fd)
    return _entry_at(data, key, value) or _full_search(data, key, value)


def _entry_at(data: bytes, key: str, value: str) -> dict[str, Any] | None:
    at = data.rfind(f'"{key}":"{value}"'.encode())
    if at < 0:
        return None
    start = data.rfind(_ENTRY, 0, at + len(_ENTRY))
    if start < 0:
        return None
    end = data.find(_ENTRY, at + 1)
    try:
        text = data[start : end if end > 0 else len(data)].decode("utf-8")
        entry, _ = jsonio.scan(text, 0)
    except (UnicodeDecodeError, jsonio.JsonError):
        return None
    return entry if isinstance(entry, dict) and entry.get(key) == value else None


def _full_search(data: bytes, key: str, value: str) -> dict[str, Any] | None:
    """The slow way, for a list that is not laid out as Go writes it."""
    if value.encode() not in data:
        return None
    entries = jsonio.parse(data, MAX_LIST)
    if not isinstance(entries, list):
        raise jsonio.JsonError("not a list")
    for entry in entries:
        if isinstance(entry, dict) and entry.get(key) == value:
            return entry
    return None


def _read_image(where: Place, image_id: str) -> Image:
    if not is_id(image_id):
        raise StoreError("its id is not one of containers/storage")
    for store in _image_stores(where):
        directory = f"{store}/{where.driver}-images/{image_id}"
        try:
            manifest = jsonio.parse(files.read(f"{directory}/manifest", MAX_MANIFEST), MAX_MANIFEST)
        except FileNotFoundError:
            continue
        return Image(image_id, _labels(directory, manifest))
    raise StoreError("no image store of this host has it")


def _labels(directory: str, manifest: Any) -> dict[str, str]:
    """The labels of the image whose manifest this is (image-spec manifest.md, config.md)."""
    if not isinstance(manifest, dict):
        raise StoreError("its manifest is not an object")
    config = manifest.get("config")
    digest = config.get("digest") if isinstance(config, dict) else None
    if isinstance(digest, str):
        name = "=" + b2a_base64(digest.encode(), newline=False).decode()
        document = jsonio.parse(files.read(f"{directory}/{name}", MAX_IMAGE_CONFIG), MAX_IMAGE_CONFIG)
    elif manifest.get("schemaVersion") == 1:
        document = _schema1_config(manifest)
    else:
        raise StoreError("its manifest names no config (a format newer than this hook?)")
    return labels_of(document)


def labels_of(document: Any) -> dict[str, str]:
    """The labels in an image's config (image-spec config.md); raises StoreError."""
    if not isinstance(document, dict):
        raise StoreError("its config is not an object")
    settings = document.get("config") or {}
    labels = settings.get("Labels") if isinstance(settings, dict) else None
    if labels is None:
        return {}
    if not isinstance(labels, dict):
        raise StoreError("its labels are not an object")
    return {k: v for k, v in labels.items() if isinstance(v, str)}


def _schema1_config(manifest: dict[str, Any]) -> Any:
    """Docker's image manifest version 2, schema 1 keeps the config as a string in its history."""
    history = manifest.get("history")
    first = history[0] if isinstance(history, list) and history else None
    compatibility = first.get("v1Compatibility") if isinstance(first, dict) else None
    if not isinstance(compatibility, str):
        raise StoreError("its manifest (schema 1) has no history")
    return jsonio.parse(compatibility.encode("utf-8", "surrogatepass"), MAX_IMAGE_CONFIG)


def _image_stores(where: Place) -> Iterator[str]:
    """The graph root first; the additional and separate image stores are looked up only when it lacks the image."""
    yield where.graph
    from fhir_hook.store import image_stores

    for store in image_stores.others(where.graph, where.driver, where.layer):
        if store != where.graph:
            yield store


def _string(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _first(names: Any) -> str:
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def exists(path: str) -> bool:
    """Whether there is anything at a path that links may lead to."""
    try:
        posix.stat(path)
    except (OSError, ValueError):
        return False
    return True
