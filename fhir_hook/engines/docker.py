"""daemon.json of Docker: our runtime below "runtimes", and "default-runtime" where that is asked for.

Nothing else in the file moves: members keep their order and the file its indentation. Only "path" is given: with
"runtimeArgs" the daemon wraps the runtime in a shell script (github.com/moby/moby, daemon/runtime_unix.go).
"""

from __future__ import annotations

import json
import re
from typing import Any

from fhir_hook.engines.change import EngineError
from fhir_hook.engines.names import NAME, PROGRAM, replaced

_PLAINLY = "write it plainly first"
_HALVES = re.compile("[\ud800-\udfff]")


def added(text: str | None, default: bool) -> str:
    """daemon.json with our runtime, and as the default one with `default`. Raises EngineError."""
    document = _parsed(text, exact=True)
    runtimes = document.setdefault("runtimes", {})
    if not isinstance(runtimes, dict):
        raise EngineError('daemon.json: "runtimes" is not an object: repair it first')
    runtimes[NAME] = {"path": PROGRAM}
    if default:
        if document.get("default-runtime", "runc") not in ("", "runc", NAME):
            raise EngineError(replaced('daemon.json: "default-runtime"', document["default-runtime"]))
        document["default-runtime"] = NAME
    return _written(document, text)


def removed(text: str | None, before: str | None) -> str | None:
    """daemon.json without our runtime; `before` gives the default runtime that there was. Raises EngineError."""
    if text is None:
        return None
    document, earlier = _parsed(text, exact=True), _parsed(before)
    runtimes = document.get("runtimes")
    ours = runtimes.pop(NAME, None) if isinstance(runtimes, dict) else None
    if ours is not None and not runtimes and "runtimes" not in earlier:
        del document["runtimes"]
    if document.get("default-runtime") == NAME:
        del document["default-runtime"]
        if "default-runtime" in earlier:
            document["default-runtime"] = earlier["default-runtime"]
    return _written(document, text)


def use(text: str | None) -> str:
    """How daemon.json uses our runtime: "default", "extra" or ""."""
    document = _parsed(text)
    if document.get("default-runtime") == NAME:
        return "default"
    runtimes = document.get("runtimes")
    return "extra" if isinstance(runtimes, dict) and NAME in runtimes else ""


def _parsed(text: str | None, exact: bool = False) -> dict[str, Any]:
    """The document; with `exact` EngineError for numbers that would be written in another way than they are."""
    numbers: dict[str, Any] = {"parse_float": _kept, "parse_int": _kept_int} if exact else {}
    if text is None or not text.strip():
        return {}
    try:
        document = json.loads(text, object_pairs_hook=_without_twins, parse_constant=_no_number, **numbers)
    except (ValueError, RecursionError) as error:
        raise EngineError(f"daemon.json is not JSON ({error}): Docker does not start with it either") from None
    if not isinstance(document, dict):
        raise EngineError("daemon.json is not an object: repair it first")
    return document


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return document


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _kept(text: str) -> float:
    """A fraction that is written again as it was read; EngineError for any other."""
    if json.dumps(float(text)) != text:
        raise EngineError(f"daemon.json has the number {text[:40]}, which would be written in another way: {_PLAINLY}")
    return float(text)


def _kept_int(text: str) -> int:
    if len(text) > 18 or str(int(text)) != text:
        raise EngineError(f"daemon.json has the number {text[:40]}, which would be written in another way: {_PLAINLY}")
    return int(text)


def _written(document: dict[str, Any], like: str | None) -> str:
    """The document as text, indented as `like` is."""
    if like is not None and _parsed(like) == document and list(_parsed(like)) == list(document):
        return like
    found = re.search(r"^([ \t]+)\"", like or "", re.MULTILINE)
    indent = found[1] if found else ("    " if not like or "\n" in like.strip() else None)
    end = "\n" if like is None or like.endswith("\n") or not like.strip() else ""
    text = json.dumps(document, indent=indent, ensure_ascii=False) + end
    # Bytes that are no UTF-8 are read as halves of surrogate pairs and written as they were; others can't be.
    if set(_HALVES.findall(text)) - set(_HALVES.findall(like or "")):
        raise EngineError("daemon.json has half of a surrogate pair (\\ud800 to \\udfff) in a text: repair it first")
    return text
