#!/usr/bin/python3
"""The hook as one would write it: bench/ measures its start against that of fhir-hook.

A precreate hook of Podman with the usual modules. It finds the image that the container comes from, knows a FHIR server
by its label, gives it the filter in hapi.json beside it, no capabilities and no_new_privs, and logs what it did. With
CHECK=1 in the environment it also checks config.json against a JSON schema.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

SOURCE = "https://github.com/hapifhir/hapi-fhir-jpaserver-starter"
SCHEMA = {
    "type": "object",
    "required": ["ociVersion", "process", "root"],
    "properties": {
        "ociVersion": {"type": "string"},
        "process": {"type": "object", "required": ["args"]},
        "root": {"type": "object", "required": ["path"]},
        "linux": {"type": "object"},
    },
}
log = logging.getLogger("hook")


@dataclasses.dataclass
class Image:
    """What the store says of an image."""

    id: str
    labels: dict[str, str]


def image_of(root: Path) -> Image | None:
    """The image of the container whose root filesystem this is (containers/storage, overlay driver)."""
    layer, store = root.parent.name, root.parent.parent.parent
    for name in ("containers.json", "volatile-containers.json"):
        path = store / "overlay-containers" / name
        for container in json.loads(path.read_text()) if path.exists() else []:
            if container["layer"] == layer:
                return Image(container["image"], labels_of(store / "overlay-images" / container["image"]))
    return None


def labels_of(directory: Path) -> dict[str, str]:
    """The labels in an image's own configuration."""
    digest = json.loads((directory / "manifest").read_text())["config"]["digest"]
    config = json.loads((directory / f"={base64.b64encode(digest.encode()).decode()}").read_text())
    return config.get("config", {}).get("Labels") or {}


def confine(config: dict[str, Any], profile: dict[str, Any]) -> None:
    """Puts the filter into the configuration, and takes the capabilities out."""
    config["linux"]["seccomp"] = profile
    config["process"]["noNewPrivileges"] = True
    for kind in config["process"].get("capabilities", {}):
        config["process"]["capabilities"][kind] = []


def main() -> int:
    """Reads config.json from the standard input and writes it to the standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).resolve().parent
    parser.add_argument("--profile", type=Path, default=here / "hapi.json")
    parser.add_argument("--log", type=Path, default=here / "log")
    options = parser.parse_args()
    logging.basicConfig(filename=options.log, format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    config = json.load(sys.stdin)
    if os.environ.get("CHECK"):
        import jsonschema

        jsonschema.validate(config, SCHEMA)
    image = image_of(Path(config["root"]["path"]))
    if image and image.labels.get("org.opencontainers.image.source") == SOURCE:
        confine(config, json.loads(options.profile.read_text()))
        log.info("confined %s of image %s", config.get("hostname"), image.id)
    json.dump(config, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
