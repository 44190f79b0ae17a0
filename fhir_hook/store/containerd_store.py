"""Which image a container of containerd comes from, read from its metadata and its content store.

The way is bundle -> namespace and id -> the container's image name -> the digest that this name has -> manifest ->
config -> Labels (containerd docs: core/metadata/buckets.go, docs/content-flow.md). The annotations of config.json name
an image too, but whoever calls containerd can write them; they are used for names in records, and nothing else.
"""

from __future__ import annotations

import posix

from fhir_hook.core import jsonio
from fhir_hook.core.image import Container
from fhir_hook.store import bolt, content_store, files
from fhir_hook.store.containers_storage import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fhir_hook.core.spec import Spec

SOURCE = "containerd"
ROOT = "/var/lib/containerd"
TASKS = "io.containerd.runtime.v2.task"
METADATA = "io.containerd.metadata.v1.bolt/meta.db"
_DOCKER = "moby"
_NAMES = ("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.cri.sandbox-name", "io.kubernetes.cri.container-name")


def identify(spec: Spec, bundle: str) -> Container | None:
    """Return the container of containerd that has this `bundle`; None when it is none of containerd's.

    Never raises for what the store holds: what can't be read makes the container undetermined.
    """
    head, _, id = bundle.rstrip("/").rpartition("/")
    head, _, namespace = head.rpartition("/")
    if not head.endswith(f"/{TASKS}"):
        return None
    name = "/".join(filter(None, (spec.annotations.get(key) for key in _NAMES)))
    container = Container(id=id, name=name, source=SOURCE)
    root = _root(bundle)
    try:
        if namespace == _DOCKER:
            raise StoreError("it is Docker's, in a store of a layout that is not known")
        _read(root, namespace, container)
    except (StoreError, bolt.BoltError, files.FileError, jsonio.JsonError, OSError, ValueError) as error:
        container.image = None
        container.undetermined = f"containerd's files in {root} don't tell its image: {error}"
    return container


def _root(bundle: str) -> str:
    """containerd's root directory: the bundle's link `work` leads to it."""
    try:
        root, found, _ = posix.readlink(f"{bundle}/work").partition(f"/{TASKS}/")
    except OSError:
        return ROOT
    return root if found and root.startswith("/") else ROOT


def _read(root: str, namespace: str, container: Container) -> None:
    metadata = f"{root}/{METADATA}"
    image = bolt.value(metadata, "v1", namespace, "containers", container.id, "image")
    if image is None:
        if bolt.value(metadata, "v1", namespace, "containers", container.id, "createdat") is None:
            raise StoreError("its metadata has no such container")
        return  # made of a directory, without an image
    name = image.decode("utf-8", "replace")
    digest = bolt.value(metadata, "v1", namespace, "images", name, "target", "digest")
    if digest is None:
        raise StoreError(f"its image {name!r} is not there any more")
    store = f"{root}/{content_store.DIRECTORY}"
    container.image = content_store.image([store], digest.decode("ascii", "replace"))
    container.image.names = (name,)
