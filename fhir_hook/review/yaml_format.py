"""YAML of strangers, read so that it can't do harm: bounded, plain values only, no aliases, no key twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fhir_hook.authoring.schema import MAX_BYTES, MAX_DEPTH
from fhir_hook.review.engine_format import FormatError


class _Strict(yaml.SafeLoader):
    """SafeLoader that refuses aliases (their expansion can be endless), deep nesting and repeated keys."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested more than {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len({repr(key) for key in keys}) < len(keys):
            raise yaml.YAMLError("a key occurs twice in one object")
        return super().construct_mapping(node, deep)


def read(path: Path) -> Any:
    """The one document in `path`, at most 1 MiB and 24 levels deep. Raises engine_format.FormatError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise FormatError(f"{path}: more than the {MAX_BYTES} bytes that are read")
        return yaml.load(data, Loader=_Strict)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FormatError(f"{path}: {' '.join(str(error).split())[:200]}") from None


def dump(document: dict[str, Any]) -> str:
    """The document as YAML in its own order of members."""
    text: str = yaml.safe_dump(document, sort_keys=False, width=118, default_flow_style=None)
    return text
