"""Where in a JSON text the value of a JSON pointer stands: lines and columns for reports that editors and CI show."""

from __future__ import annotations

import re

TOKEN = re.compile(r'[ \t\r\n]*("(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+)')


def positions(text: str) -> dict[str, tuple[int, int]]:
    """Pointer -> (line, column), both from 1, of every value in a JSON text; {} for a text that is none."""
    starts = [0]
    for match in re.finditer("\n", text):
        starts.append(match.end())
    found: dict[str, tuple[int, int]] = {}
    stack: list[tuple[str, int]] = []  # pointer of an open container, index of its next item or -1 for an object
    pointer, key = "", ""
    line = 0
    for match in TOKEN.finditer(text):
        token, at = match[1], match.start(1)
        while line + 1 < len(starts) and starts[line + 1] <= at:
            line += 1
        if token in "}]" or token == ",":
            if token != "," and stack:
                stack.pop()
            elif stack and stack[-1][1] >= 0:
                stack[-1] = (stack[-1][0], stack[-1][1] + 1)
            key = ""
            continue
        if token == ":":
            continue
        if stack and stack[-1][1] < 0 and not key:
            key = _unquoted(token)
            continue
        pointer = _pointer(stack, key)
        found.setdefault(pointer, (line + 1, at - starts[line] + 1))
        key = ""
        if token in "{[":
            stack.append((pointer, -1 if token == "{" else 0))
    return found


def _pointer(stack: list[tuple[str, int]], key: str) -> str:
    if not stack:
        return ""
    parent, index = stack[-1]
    step = key if index < 0 else str(index)
    return f"{parent}/{step.replace('~', '~0').replace('/', '~1')}"


def _unquoted(token: str) -> str:
    return token[1:-1] or "\0"


def find(found: dict[str, tuple[int, int]], pointer: str) -> tuple[int, int]:
    """The position of a pointer, or of the nearest container around it; (1, 1) where nothing is known."""
    while pointer and pointer not in found:
        pointer = pointer.rpartition("/")[0]
    return found.get(pointer, (1, 1))
