"""Records: what one line of the decision log says (docs/log.md describes every member).

A record never holds arguments, environment, mount sources or file contents of a container. Names, labels and
reasons are text that strangers choose: each is bounded here, and written in ASCII with everything else escaped.
"""

from __future__ import annotations

from fhir_hook.core import meet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fhir_hook.core.decide import Decision
    from fhir_hook.core.image import Container
    from fhir_hook.core.tighten import Tightened

# Together these keep every record below the log's limit, whatever strangers write.
LONGEST_TEXT = 512
LONGEST_NAME = 64  # of a capability or a system call
MOST_ITEMS = 32


def bounded(text: str, longest: int = LONGEST_TEXT) -> str:
    """The text, cut to what a record holds of any one name, label or reason: `longest` bytes as the log escapes it."""
    if len(text) <= longest and text.isascii() and text.isprintable():
        return text
    room = longest - 6
    for at, character in enumerate(text):
        room -= 1 if character.isascii() and character.isprintable() else 12 if character > "\uffff" else 6
        if room < 0:
            return text[:at] + "\u2026"
    return text


def printable(text: str) -> str:
    """The text with everything escaped that could steer a terminal, break a line, or turn its direction."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def decision(
    result: Decision,
    container: Container,
    stage: str,
    path: str,
    policy: str,
) -> dict[str, Any]:
    """Return the members of a decision record that follow from the decision itself.

    `stage` is precreate, prestart or gate, `path` native, live or "" (nothing applied), `policy` the digest or "".
    """
    fields: dict[str, Any] = {"event": "decision", "decision": result.decision, "stage": stage, "path": path}
    fields["container"] = {"id": bounded(container.id), "name": bounded(container.name)}
    fields["image"] = _image(container)
    fields["identified_by"] = _texts(result.identified_by or {})
    fields["policy"] = policy
    fields["mode"] = result.mode
    fields["reasons"] = coded(result.reasons)
    fields["findings"] = coded(result.findings)
    return fields


def refusal(container: Container, stage: str, code: str, text: str) -> dict[str, Any]:
    """Return the members of an outcome record for a refusal that came after the decision, on the native path."""
    return {
        "event": "outcome",
        "decision": "refused",
        "stage": stage,
        "path": "native",
        "container": {"id": bounded(container.id), "name": bounded(container.name)},
        "reasons": coded([(code, text)]),
    }


def _image(container: Container) -> dict[str, Any]:
    image = container.image
    if image is None:
        return {}
    return {
        "id": bounded(image.id),
        "digest": bounded(image.digest),
        "names": [bounded(name) for name in image.names[:MOST_ITEMS]],
        "source": container.source,
    }


def _texts(value: Any) -> Any:
    if isinstance(value, str):
        return bounded(value)
    if isinstance(value, dict):
        return {bounded(k): _texts(v) for k, v in list(value.items())[:MOST_ITEMS]}
    return value


def coded(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    """Reasons or findings as records hold them: [{"code", "text"}]."""
    return [{"code": code, "text": bounded(text)} for code, text in pairs[:MOST_ITEMS]]


def plan(tightened: Tightened, profiles: list[dict[str, Any]], known: dict[str, int]) -> dict[str, Any]:
    """Return the members that say what is put in force: profile, seccomp, capabilities, no_new_privs.

    `known` are the architecture's calls by name, which are the ones counted.
    """
    return {
        "profile": [{"name": p["name"], "version": p["version"], "digest": p["digest"]} for p in profiles],
        "seccomp": {
            "allowed_before": len(known) if tightened.given is None else meet.passing(tightened.given, known),
            "allowed": meet.passing(tightened.met, known),
            "inexpressible": [bounded(name, LONGEST_NAME) for name in tightened.inexpressible[:MOST_ITEMS]],
            **({"logged": True} if tightened.logged else {}),
        },
        "capabilities": {
            "asked": _texts_list(tightened.asked["bounding"]),
            "left": _texts_list(tightened.capabilities["bounding"]),
            "dropped": _texts_list(tightened.dropped),
        },
        "no_new_privs": not tightened.complain,
    }


def _texts_list(names: list[str]) -> list[str]:
    return [bounded(name, LONGEST_NAME) for name in names[:64]]
