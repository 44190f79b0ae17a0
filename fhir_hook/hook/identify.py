"""Finding out which image a container comes from, and deciding; shared by all stages."""

from __future__ import annotations

from fhir_hook.core import decide, paths
from fhir_hook.core.image import Container, Image
from fhir_hook.core.spec import Spec
from fhir_hook.store import containers_storage as storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fhir_hook.core.decide import Decision

_USERDATA = "-containers/"


def container_of(spec: Spec, index: dict[str, Any], bundle: str = "") -> Container:
    """Return the container that `spec` describes, with its image as its store or its bundle tells.

    `bundle`, an absolute path, is given by the shim: then the stores of Docker and containerd are asked, too.
    Outside of all stores the annotations are taken for the image's labels, as umoci writes them
    (image-spec conversion.md): whoever wrote such a bundle could have left the hook out altogether.
    """
    # Before anything that a mount of the user's may lead to: Docker and containerd have no run root.
    found = _elsewhere(spec, bundle, decide.wants_names(index))
    if found is not None:
        return found
    where = _place(spec)
    if where is None:
        return Container(image=labelled(spec.annotations), source="annotations")
    container = storage.identify(where, _run_roots(spec, where.driver))
    if container.image is not None and decide.wants_names(index):
        storage.describe(where, container.image)
    return container


def _elsewhere(spec: Spec, bundle: str, names: bool) -> Container | None:
    found = None
    if bundle and spec.root_path.startswith("/"):
        from fhir_hook.store import docker_store

        found = docker_store.identify(spec, bundle, names)
    if found is None and f"/{paths.CONTAINERD_TASKS}/" in bundle:
        from fhir_hook.store import containerd_store

        found = containerd_store.identify(spec, bundle, names)
    return found


def decided(
    config: Spec, index: dict[str, Any], id: str, annotations: dict[str, str], bundle: str = ""
) -> tuple[Container, Decision]:
    """The container with this `id` and its decision.

    When the readers of its config could disagree, it is decided from whatever any of them may make of it;
    `annotations` are those that the runtime read.
    """
    container = container_of(config, index, bundle)
    container.id = container.id or id
    decision = decide.decide(container, index)
    if config.ambiguous and not decision.is_fhir:
        for others in (*config.other_annotations, annotations):
            container = Container(id=id, image=labelled(others), source="annotations")
            decision = decide.decide(container, index)
            if decision.is_fhir:
                break
    return container, decision


def labelled(annotations: dict[str, str]) -> Image:
    """The image as a bundle's annotations describe it."""
    return Image("", annotations)


def describe(spec: Spec, container: Container) -> None:
    """Add to a FHIR container's image the names and digest that its record should show."""
    where = _place(spec)
    if where is None or container.image is None or container.image.names:
        return
    if container.source == "docker":
        from fhir_hook.store import docker_store

        docker_store.describe(where, container.image)
    else:
        storage.describe(where, container.image)


def hide(container: Container, settings: dict[str, Any]) -> None:
    """Put tokens in the place of names, where the settings say so: before anything is written of the container."""
    if settings.get("names") == "hashed":
        from fhir_hook.store import names

        names.hide(container)


def _place(spec: Spec) -> storage.Place | None:
    return storage.place(spec.root_path) or storage.bound_place(spec.root_path)


def _run_roots(spec: Spec, driver: str) -> list[str]:
    """Candidates for the engine's run root: RUNROOT/overlay-containers/ID/userdata is where it mounts files from.

    Whoever starts the container chooses mounts, too: none of them is trusted for its place in config.json.
    """
    roots = []
    marker = f"/{driver}{_USERDATA}"
    for source in spec.mount_sources:
        root, found, _ = source.partition(marker)
        if found and root not in roots:
            roots.append(root)
    return roots
