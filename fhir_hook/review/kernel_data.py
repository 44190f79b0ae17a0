"""The tables of profiles/kernel: what calls open, what never belongs into a profile, how known flaws were reached.

Short conditions: in these files {"0": 16, "2": {"mask": 15, "value": 3}} says that the low 32 bits of argument 0 are
16 and that argument 2 under the mask 15 is 3.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fhir_hook.authoring import schema
from fhir_hook.core import condition as algebra

FOLDER = "kernel"
# Calls newer than the tables of core (Linux 5.18 to 6.16), known by name only.
NEWER = (
    "cachestat", "fchmodat2", "file_getattr", "file_setattr", "futex_requeue", "futex_wait", "futex_wake", "getxattrat",
    "listmount", "listxattrat", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "map_shadow_stack",
    "mseal", "open_tree_attr", "removexattrat", "setxattrat", "statmount", "uretprobe",
)  # fmt: skip

Condition = tuple[int, str, int, int]
Conjunction = tuple[Condition, ...]


class DataError(Exception):
    """A table is missing or damaged; str() is one line."""


@functools.cache
def load(shipped: Path, name: str) -> Any:
    """The document SHIPPED/kernel/NAME.json. Raises DataError."""
    path = shipped / FOLDER / f"{name}.json"
    document, findings = schema.read_json(path)
    if findings:
        raise DataError(f"{path}: {findings[0].message}; install fhir-hook again")
    return document


def conjunction(short: Mapping[str, Any]) -> Conjunction:
    """The conditions of a short form."""
    found: list[Condition] = []
    for index, wanted in sorted(short.items()):
        if isinstance(wanted, dict):
            found.append((int(index), algebra.MASKED_EQ, wanted["mask"], wanted["value"]))
        else:
            found.append((int(index), algebra.MASKED_EQ, algebra.LOW_HALF, wanted & algebra.LOW_HALF))
    return tuple(found)
