"""JSON in and out for the hook, on the C scanner and encoder that `json` itself uses.

`import json` costs as much as starting the interpreter (it pulls in `re` and `enum`), so the hot path
uses `_json` directly. Reading is strict where the standard library is lenient (RFC 8259): a byte cap,
UTF-8 only, no NaN or Infinity, no number out of range; a key that occurs twice in one object is
reported, because Go, yajl and Python disagree on which one counts.
"""

from __future__ import annotations

import sys
from _json import encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WHITESPACE = " \t\n\r"
MAX_DEPTH = 12_000  # encoding/json of Go, which runc and Podman use, ends at 10,000


class JsonError(Exception):
    """The text is not JSON that this project accepts; str() is one line for people."""


class Duplicates:
    """What a parse noticed beside the value: `keys` that occur twice in one object, at most 16 of them."""

    __slots__ = ("keys",)

    def __init__(self) -> None:
        self.keys: list[str] = []


class _Context:
    """The attributes that `_json.make_scanner` reads (Lib/json/decoder.py, JSONDecoder)."""

    __slots__ = ("strict", "object_hook", "object_pairs_hook", "parse_float", "parse_int", "parse_constant", "memo")

    def __init__(self, duplicates: Duplicates | None, first_wins: bool) -> None:
        def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
            value = dict(items)
            if len(value) != len(items):
                if duplicates is None:
                    raise JsonError("a key occurs twice in one object")
                seen: set[str] = set()
                for key, _ in items:
                    if key in seen and len(duplicates.keys) < 16:
                        duplicates.keys.append(key)
                    seen.add(key)
                if first_wins:
                    return dict(reversed(items))
            return value

        self.strict = True
        self.object_hook = None
        self.object_pairs_hook = pairs
        self.parse_float = _finite
        self.parse_int = _bounded
        self.parse_constant = _refuse_constant
        self.memo: dict[str, str] = {}


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise JsonError("a number is out of range")
    return value


def _bounded(text: str) -> int:
    if len(text) > 4000:
        raise JsonError("a number has more than 4,000 digits")
    return int(text)


def _refuse_constant(text: str) -> None:
    raise JsonError(f"{text} is not JSON")


def parse(data: bytes, limit: int, duplicates: Duplicates | None = None, first_wins: bool = False) -> Any:
    """Return the value of one JSON text of at most `limit` bytes.

    With `duplicates`, a key that occurs twice is noted there and the last one counts (the first one
    with `first_wins`); without, it is an error. Raises JsonError, and nothing else, on bad input.
    """
    if len(data) > limit:
        raise JsonError(f"{len(data)} bytes, more than the {limit} that are read")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8 at byte {error.start}") from None
    start = 0
    end = len(text)
    while start < end and text[start] in WHITESPACE:
        start += 1
    value, stop = scan(text, start, duplicates, first_wins)
    while stop < end and text[stop] in WHITESPACE:
        stop += 1
    if stop != end:
        raise JsonError(f"text after the value, at character {stop}")
    return value


def scan(text: str, start: int, duplicates: Duplicates | None = None, first_wins: bool = False) -> tuple[Any, int]:
    """Return the JSON value that starts at `text[start]` and the index behind it; raises JsonError."""
    before = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(MAX_DEPTH)
        context: Any = _Context(duplicates, first_wins)
        value, stop = make_scanner(context)(text, start)
    except JsonError:
        raise
    except StopIteration as error:
        raise JsonError(f"no value at character {error.value}") from None
    except RecursionError:
        raise JsonError(f"nested more than {MAX_DEPTH} deep") from None
    except MemoryError:
        raise JsonError("larger than the memory") from None
    except SystemError:
        # The C scanner takes its exception class from an imported json.decoder; without it there is no message.
        raise JsonError("malformed") from None
    except ValueError as error:
        raise JsonError(str(error)) from None
    finally:
        sys.setrecursionlimit(before)
    return value, stop


def text(value: Any, sort_keys: bool = False) -> str:
    """Return `value` as compact JSON in ASCII; raises ValueError on NaN and TypeError on a foreign type."""
    before = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(MAX_DEPTH + 1000)
        encode = make_encoder(None, _no_default, encode_basestring_ascii, None, ":", ",", sort_keys, False, False)
        return "".join(encode(value, 0))
    finally:
        sys.setrecursionlimit(before)


def canonical(value: Any) -> bytes:
    """Return the one byte string that stands for `value`: sorted keys, no space, ASCII (for digests only)."""
    return text(value, sort_keys=True).encode("ascii")


def _no_default(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} is not a JSON type")
