"""Selectors: conditions on an image's own labels, or (the administrator's only) on its name or id."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def glob_matches(pattern: str, text: str) -> bool:
    """Whether all of `text` matches `pattern`: `*` any run, `?` any one character, else itself.

    Linear in the product of the lengths at worst, never exponential: both sides can come from strangers.
    """
    p = t = 0
    star = mark = -1
    while t < len(text):
        if p < len(pattern) and pattern[p] == "*":
            star, mark, p = p, t, p + 1
        elif p < len(pattern) and pattern[p] in ("?", text[t]):
            p, t = p + 1, t + 1
        elif star >= 0:
            mark += 1
            p, t = star + 1, mark
        else:
            return False
    while p < len(pattern) and pattern[p] == "*":
        p += 1
    return p == len(pattern)


def value_matches(condition: Any, value: str) -> bool:
    """Whether a label's value meets `condition`: an exact string, a list of them, or {"pattern": glob}."""
    if isinstance(condition, str):
        return value == condition
    if isinstance(condition, list):
        return value in condition
    return glob_matches(condition["pattern"], value)


def labels_match(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether every condition of `selector` ({"labels": {key: condition}}) is met; an empty one matches nothing."""
    conditions: dict[str, Any] = selector["labels"]
    if not conditions:
        return False
    for key, condition in conditions.items():
        value = labels.get(key)
        if value is None or not value_matches(condition, value):
            return False
    return True


def binding_matches(binding: dict[str, Any], image_id: str, digest: str, names: tuple[str, ...]) -> bool:
    """Whether an administrator's binding ({"image": glob} or {"id": hex prefix or digest}) means this image."""
    wanted = binding.get("id")
    if wanted is not None:
        return bool(image_id) and (image_id == wanted.removeprefix("sha256:") or digest == wanted)
    return any(glob_matches(binding["image"], name) for name in names)
