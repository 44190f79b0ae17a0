"""What a question measured, kept as JSON: every single value, when and on which machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).resolve().parent / "results"


@dataclasses.dataclass
class Result:
    """`blocks` hold one value (in `unit`) of each of the `arms`; `about` is what else a question wants to keep."""

    name: str
    unit: str
    arms: list[str]
    blocks: list[list[float]]
    machine: dict[str, Any]
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    def arm(self, name: str) -> list[float]:
        """The values of one arm, block by block."""
        position = self.arms.index(name)
        return [block[position] for block in self.blocks]

    def save(self) -> None:
        """Writes results/NAME.json, one block a line."""
        fields = dataclasses.asdict(self)
        blocks = fields.pop("blocks")
        head = json.dumps(fields, indent=1)[:-2]
        lines = ",\n  ".join(json.dumps(block) for block in blocks)
        DIRECTORY.mkdir(exist_ok=True)
        (DIRECTORY / f"{self.name}.json").write_text(f'{head},\n "blocks": [\n  {lines}\n ]\n}}\n')


def load(name: str) -> Result | None:
    """The kept result of that name; None when it was never measured."""
    path = DIRECTORY / f"{name}.json"
    return Result(**json.loads(path.read_text())) if path.exists() else None
