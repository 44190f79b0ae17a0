"""The image a container's root file system comes from: the only thing that identifies a FHIR server."""

from __future__ import annotations

PROFILE_LABEL = "io.fhir-hook.profile"
KIND_LABEL = "io.fhir-hook.kind"


class Image:
    """An image as its own configuration describes it (image-spec config.md).

    `id` is the storage's id (64 hex digits, or ""), `digest` the manifest's digest or "", `names` the names the
    storage knows it by, `labels` its own labels; never those that a user gave the container.
    """

    __slots__ = ("id", "digest", "names", "labels")

    def __init__(self, id: str, labels: dict[str, str], names: tuple[str, ...] = (), digest: str = "") -> None:
        self.id = id
        self.labels = labels
        self.names = names
        self.digest = digest


class Container:
    """What is known of the container that starts: ids for the record, and the image it was made from.

    `image` is None when the root file system belongs to no image; `undetermined` then says why it can't be
    known, or is "" when it is certain that there is none. `builder` is set for Buildah's working containers. `claims`
    are labels that an engine took from the image and from the user: they can make a container FHIR, and nothing else.
    """

    __slots__ = ("id", "name", "image", "builder", "undetermined", "source", "claims")

    def __init__(
        self,
        id: str = "",
        name: str = "",
        image: Image | None = None,
        builder: bool = False,
        undetermined: str = "",
        source: str = "",
    ) -> None:
        self.id = id
        self.name = name
        self.image = image
        self.builder = builder
        self.undetermined = undetermined
        self.source = source
        self.claims: dict[str, str] = {}
