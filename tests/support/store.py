"""A containers/storage graph root made by hand, with one container and its image."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

LAYER, CONTAINER, IMAGE = "1" * 64, "c" * 64, "e" * 64
HAPI = {"org.opencontainers.image.source": "https://github.com/hapifhir/hapi-fhir-jpaserver-starter"}


def make(top: Path, labels: dict[str, str], name: str = "localhost/fhir:1") -> Path:
    """Make a store at `top` whose only container has an image with these labels; returns its root.path."""
    digest = "sha256:" + "d" * 64
    image = top / "overlay-images" / IMAGE
    image.mkdir(parents=True)
    (image / "manifest").write_text(json.dumps({"schemaVersion": 2, "config": {"digest": digest}}))
    config = {"architecture": "amd64", "config": {"Labels": labels}}
    (image / ("=" + base64.b64encode(digest.encode()).decode())).write_text(json.dumps(config))
    _list(top / "overlay-images/images.json", {"id": IMAGE, "digest": digest, "names": [name]})
    _list(top / "overlay-containers/containers.json", {"id": CONTAINER, "names": ["n"], "image": IMAGE, "layer": LAYER})
    return f"{top}/overlay/{LAYER}/merged"


def _list(path: Path, entry: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([entry], separators=(",", ":")))
