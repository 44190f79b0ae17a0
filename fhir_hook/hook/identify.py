"""Finding out which image a container comes from, and deciding; shared by all stages."""

from __future__ import annotations

from fhir_hook.core import decide
from fhir_hook.core.image import Container, Image
from fhir_hook.core.spec import Spec
from fhir_hook.store import containers_storage as storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_USERDATA = "-containers/"


def container_of(spec: Spec, index: dict[str, Any]) -> Container:
    """Return the container that `spec` describes, with its image as its store or its bundle tells.

    Outside of containers/storage the annotations are taken for the image's labels, as umoci writes them
    (image-spec conversion.md): whoever wrote such a bundle could have left the hook out altogether.
    """
    where = _place(spec)
    if where is None:
        return Container(image=labelled(spec.annotations), source="annotations")
    container = storage.identify(where, _run_roots(spec, where.driver))
    if container.image is not None and decide.wants_names(index):
        storage.describe(where, container.image)
    return container


def labelled(annotations: dict[str, str]) -> Image:
    """The image as a bundle's annotations describe it."""
    return Image("", annotations)


def describe(spec: Spec, container: Container) -> None:
    """Add to a FHIR container's image the names and digest that its record should show."""
    where = _place(spec)
    if where is not None and container.image is not None and not container.image.names:
        storage.describe(where, container.image)


def _place(spec: Spec) -> storage.Place | None:
    return storage.place(spec.root_path) or storage.bound_place(spec.root_path)


def _run_roots(spec: Spec, driver: str) -> list[str]:
    """Candidates for the engine's run root: RUNROOT/overlay-containers/ID/userdata is where it mounts files from."""
    roots = []
    marker = f"/{driver}{_USERDATA}"
    for source in spec.mount_sources:
        root, found, _ = source.partition(marker)
        if found and root not in roots:
            roots.append(root)
    return roots
