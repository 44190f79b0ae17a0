"""Images in containerd's content store: blobs named by their digest (containerd docs/content-flow.md).

From an index to the manifest of this machine's architecture, to the config, to its labels; every blob is checked
against its name (image-spec image-index.md, manifest.md, config.md).
"""

from __future__ import annotations

import posix

from fhir_hook.core import jsonio
from fhir_hook.core.digest import sha256_hex
from fhir_hook.core.image import Image
from fhir_hook.store import containers_storage as storage
from fhir_hook.store import files
from fhir_hook.store.containers_storage import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DIRECTORY = "io.containerd.content.v1.content"
DEFAULT = f"/var/lib/containerd/{DIRECTORY}"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MOST_INDEXES = 4


def image(stores: list[str], digest: str) -> Image:
    """Return the image whose index, manifest or config has this `digest` ("sha256:..."), with its own labels.

    Raises StoreError, FileError, JsonError or OSError when a blob is missing, damaged or of another form.
    """
    id, document = config(stores, digest)
    found = Image(id, storage.labels_of(document))
    found.digest = "" if digest == f"sha256:{id}" else digest
    return found


def config(stores: list[str], digest: str) -> tuple[str, dict[str, Any]]:
    """The id (64 hexadecimal digits) and the config of the image of this `digest`; raises as `image`."""
    found = digest
    for _ in range(_MOST_INDEXES):
        document = _blob(stores, found)
        manifests, descriptor = document.get("manifests"), document.get("config")
        if isinstance(manifests, list):
            found = _digest(_of_this_machine(manifests))
        elif isinstance(descriptor, dict) and isinstance(descriptor.get("digest"), str):
            id = _digest(descriptor)
            return id.removeprefix("sha256:"), _blob(stores, id)
        else:
            return found.removeprefix("sha256:"), document
    raise StoreError("its index leads to nothing but indexes")


def chain_id(document: dict[str, Any]) -> str:
    """The chain id of the layers that an image's config lists (image-spec config.md), "" for none.

    Raises StoreError when it lists none rightly.
    """
    layers = document.get("rootfs")
    listed = layers.get("diff_ids") if isinstance(layers, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise StoreError("its config lists no layers")
    chain = ""
    for one in listed:
        chain = f"sha256:{sha256_hex(f'{chain} {one}'.encode())}" if chain else one
    return chain


def _of_this_machine(manifests: list[Any]) -> Any:
    """The manifest for this machine; the only one whatever it is for."""
    wanted = _ARCHITECTURES.get(posix.uname().machine, "")
    fitting = []
    for entry in manifests:
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if isinstance(platform, dict) and (platform.get("os"), platform.get("architecture")) == ("linux", wanted):
            fitting.append(entry)
    if len(manifests) == 1:
        return manifests[0]
    if len(fitting) != 1:
        raise StoreError(f"its index has {len(fitting)} manifests for this machine")
    return fitting[0]


def _digest(descriptor: Any) -> str:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    if not isinstance(digest, str):
        raise StoreError("a descriptor has no digest")
    return digest


def _blob(stores: list[str], digest: str) -> dict[str, Any]:
    algorithm, _, name = digest.partition(":")
    if algorithm != "sha256" or not storage.is_id(name):
        raise StoreError(f"its digest is {algorithm[:16]!r}, not sha256")
    for store in stores:
        try:
            data = files.read(f"{store}/blobs/sha256/{name}", storage.MAX_IMAGE_CONFIG)
        except FileNotFoundError:
            continue
        if sha256_hex(data) != name:
            raise StoreError(f"the blob {name[:12]} is damaged")
        document = jsonio.parse(data, storage.MAX_IMAGE_CONFIG)
        if not isinstance(document, dict):
            raise StoreError(f"the blob {name[:12]} is not an object")
        return document
    raise StoreError(f"no content store has the blob {name[:12]}")
