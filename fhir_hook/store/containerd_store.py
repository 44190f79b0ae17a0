"""Which image a container of containerd comes from, read from its metadata and its content store.

The way is bundle -> namespace and id -> the container's image name -> the digest that this name has -> manifest ->
config -> Labels (containerd docs: core/metadata/buckets.go, docs/content-flow.md). A name may have been given to
another image since the container was made: the layers that its snapshot lies on have to be those of the image. The
container's own labels, the image's of that time and the caller's, can make it FHIR, and nothing else. The annotations
of config.json name an image too, but whoever calls containerd can write them; they are used for names in records.
"""

from __future__ import annotations

import posix

from fhir_hook.core import jsonio, paths
from fhir_hook.core.image import Container
from fhir_hook.store import bolt, content_store, files
from fhir_hook.store.containers_storage import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fhir_hook.core.spec import Spec

SOURCE = "containerd"
ROOT = "/var/lib/containerd"
METADATA = "io.containerd.metadata.v1.bolt/meta.db"
_DOCKER = "moby"
_NAMES = ("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.cri.sandbox-name", "io.kubernetes.cri.container-name")
_LABELLED = ("io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.container.name")


def identify(spec: Spec, bundle: str, every_name: bool = False) -> Container | None:
    """Return the container of containerd that has this `bundle`; None when it is none of containerd's.

    With `every_name` the image has all names that lead to its digest, else the one that the container was made with.
    Never raises for what the store holds: what can't be read makes the container undetermined.
    """
    head, _, id = bundle.rstrip("/").rpartition("/")
    head, _, namespace = head.rpartition("/")
    if not head.endswith(f"/{paths.CONTAINERD_TASKS}"):
        return None
    name = "/".join(filter(None, (spec.annotations.get(key) for key in _NAMES)))
    return _identified(_root(bundle), namespace, Container(id=id, name=name, source=SOURCE), every_name)


def identify_by_id(namespace: str, id: str, root: str = ROOT) -> Container:
    """As `identify`, with every name, for the container with this `id` in a `namespace` of the containerd at `root`."""
    container = _identified(root, namespace, Container(id=id, source=SOURCE), True)
    container.name = "/".join(filter(None, (container.claims.get(key) for key in _LABELLED)))
    return container


def listed(root: str = ROOT) -> list[tuple[str, str]]:
    """(namespace, id) of every container that is not Docker's, running or not; none where nothing can be read."""
    metadata = f"{root}/{METADATA}"
    try:
        namespaces = [name for name in bolt.names(metadata, "v1") if name not in ("version", _DOCKER)]
        return [(one, id) for one in namespaces for id in bolt.names(metadata, "v1", one, "containers")]
    except (bolt.BoltError, files.FileError, OSError):
        return []


def _identified(root: str, namespace: str, container: Container, every_name: bool) -> Container:
    try:
        if namespace == _DOCKER:
            raise StoreError("it is Docker's, in a store of a layout that is not known")
        _read(root, namespace, container, every_name)
    except (StoreError, bolt.BoltError, files.FileError, jsonio.JsonError, OSError, ValueError) as error:
        container.image = None
        container.undetermined = f"containerd's files in {root} don't tell its image: {error}"
    return container


def _root(bundle: str) -> str:
    """containerd's root directory: the bundle's link `work` leads to it."""
    try:
        root, found, _ = posix.readlink(f"{bundle}/work").partition(f"/{paths.CONTAINERD_TASKS}/")
    except OSError:
        return ROOT
    return root if found and root.startswith("/") else ROOT


def _read(root: str, namespace: str, container: Container, every_name: bool) -> None:
    metadata = f"{root}/{METADATA}"
    image = bolt.value(metadata, "v1", namespace, "containers", container.id, "image")
    if not image:
        if bolt.value(metadata, "v1", namespace, "containers", container.id, "createdat") is None:
            raise StoreError("its metadata has no such container")
        return  # made of a directory, without an image
    container.claims = _labels(metadata, namespace, container.id)
    name = image.decode("utf-8", "replace")
    digest = bolt.value(metadata, "v1", namespace, "images", name, "target", "digest")
    if digest is None:
        raise StoreError(f"its image {name!r} is not there any more")
    store = f"{root}/{content_store.DIRECTORY}"
    text = digest.decode("ascii", "replace")
    chain = content_store.chain_id(content_store.config([store], text)[1])
    parent = _parent(metadata, namespace, container.id)
    # A snapshot for a user namespace lies on one with other owners, called CHAIN-UID-GID.
    if parent != chain and not (chain and parent.startswith(f"{chain}-")):
        raise StoreError(f"its image {name!r} has other layers than it was made of")
    container.image = content_store.image([store], text)
    container.image.names = tuple(_names(metadata, namespace, name, digest)) if every_name else (name,)


def _labels(metadata: str, namespace: str, id: str) -> dict[str, str]:
    where = ("v1", namespace, "containers", id, "labels")
    found = {key: bolt.value(metadata, *where, key) or b"" for key in bolt.names(metadata, *where)}
    return {key: value.decode("utf-8", "replace") for key, value in found.items()}


def _parent(metadata: str, namespace: str, id: str) -> str:
    """The snapshot that the container's own one lies on, "" for none; raises StoreError when it has no snapshot."""
    where = ("v1", namespace, "containers", id)
    named = [bolt.value(metadata, *where, key) or b"" for key in ("snapshotter", "snapshotKey")]
    snapshotter, key = (value.decode("utf-8", "replace") for value in named)
    snapshot = ("v1", namespace, "snapshots", snapshotter, key)
    if not key or bolt.value(metadata, *snapshot, "createdat") is None:
        raise StoreError("its root file system is no snapshot of its image")
    return (bolt.value(metadata, *snapshot, "parent") or b"").decode("utf-8", "replace")


def _names(metadata: str, namespace: str, first: str, digest: bytes) -> list[str]:
    """All names that lead to this digest, the container's own one first."""
    where = ("v1", namespace, "images")
    others = [name for name in bolt.names(metadata, *where) if name != first]
    return [first, *(n for n in others if bolt.value(metadata, *where, n, "target", "digest") == digest)]
