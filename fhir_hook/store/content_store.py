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
    found = digest
    for _ in range(_MOST_INDEXES):
        document = _blob(stores, found)
        manifests, config = document.get("manifests"), document.get("config")
        if isinstance(manifests, list):
            found = _digest(_of_this_machine(manifests))
        elif isinstance(config, dict) and isinstance(config.get("digest"), str):
            id = _digest(config)
            return Image(id.removeprefix("sha256:"), storage.labels_of(_blob(stores, id)), digest=digest)
        else:
            return Image(found.removeprefix("sha256:"), storage.labels_of(document))
    raise StoreError("its index leads to nothing but indexes")


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
