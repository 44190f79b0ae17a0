"""The decision: what becomes of a container, from what is known of its image and the policy. Pure.

The order of precedence is the administrator's binding, then the image's own label io.fhir-hook.profile, then
the selectors; a specific profile's selector comes before a generic one's. docs/architecture.md has the table,
tests/core/test_decide.py walks through it row by row.
"""

from __future__ import annotations

from fhir_hook.core.image import PROFILE_LABEL, Container, Image
from fhir_hook.core.selector import binding_matches, labels_match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

IGNORED = "ignored"
CONFINED = "confined"
REFUSED = "refused"
EXEMPT = "exempt"
UNDETERMINED = "undetermined"
ENFORCE = "enforce"
COMPLAIN = "complain"

DEFAULTS = {
    "mode": ENFORCE,
    "generic": "confine",
    "unknown_profile": "refuse",
    "undetermined": "start",
    "builds": "exempt",
    "log": "fhir",
    "names": "plain",
    "denials": "off",
}


class Decision:
    """What to do with one container, and why.

    `decision` is one of the constants above; `profiles` names the profiles to apply (several: their meet); `mode`
    is enforce or complain, or "" to leave it to the profile; `identified_by` says what made it FHIR; `reasons` and
    `findings` are (code, text) pairs, a refusal's own code first.
    """

    __slots__ = ("decision", "profiles", "mode", "identified_by", "reasons", "findings")

    def __init__(self, decision: str, identified_by: dict[str, Any] | None = None) -> None:
        self.decision = decision
        self.profiles: tuple[str, ...] = ()
        self.mode = ""
        self.identified_by = identified_by
        self.reasons: list[tuple[str, str]] = []
        self.findings: list[tuple[str, str]] = []

    def refuse(self, code: str, text: str) -> Decision:
        """Turn this into a refusal for `code`; what was known before stays in the record."""
        self.decision = REFUSED
        self.reasons.insert(0, (code, text))
        return self

    @property
    def is_fhir(self) -> bool:
        """Whether something identified the image as FHIR."""
        return self.identified_by is not None


def wants_names(index: dict[str, Any]) -> bool:
    """Whether a binding needs the image's names or digest, which cost another file to read."""
    return bool(index["bindings"])


def decide(container: Container, index: dict[str, Any]) -> Decision:
    """Return the decision for a container under the policy's `index` (store.policy.Index.document).

    What the engine keeps of the container's labels counts only where its image says nothing, or can't be read.
    """
    result = _of_image(container, index)
    if not container.claims or result.is_fhir or result.decision == REFUSED:
        return result
    claimed = _match(Image("", container.claims), index)
    if not claimed.is_fhir:
        return result
    claimed.findings.append(("FH214", container.undetermined or "the image has no such label"))
    return claimed


def _of_image(container: Container, index: dict[str, Any]) -> Decision:
    settings = index["settings"]
    if container.undetermined:
        result = Decision(UNDETERMINED)
        result.reasons.append(("FH301", container.undetermined))
        if settings["undetermined"] == "refuse":
            result.refuse("FH112", container.undetermined)
        return result
    if container.image is None:
        return Decision(IGNORED)
    result = _match(container.image, index)
    if result.is_fhir and container.builder:
        return _builder(result, settings)
    return result


def _match(image: Image, index: dict[str, Any]) -> Decision:
    for binding in index["bindings"]:
        if binding_matches(binding, image.id, image.digest, image.names):
            result = Decision(CONFINED, {"by": "binding", **{k: binding[k] for k in ("image", "id") if k in binding}})
            result.profiles = (binding["profile"],)
            result.mode = binding.get("mode", "")
            return _finish(result, index)
    named = image.labels.get(PROFILE_LABEL)
    if named is not None:
        return _named(image, named, index)
    matching = [s for s in index["selectors"] if labels_match(s, image.labels)]
    if not matching:
        return Decision(IGNORED)
    return _finish(_selected(matching, image, index), index)


def _named(image: Image, name: str, index: dict[str, Any]) -> Decision:
    result = Decision(CONFINED, {"by": "label", "key": PROFILE_LABEL, "value": name})
    profile = index["profiles"].get(name)
    if profile is None:
        fallback = _generic_of(image, index) if index["settings"]["unknown_profile"] == "generic" else None
        if fallback is None:
            return result.refuse("FH101", f"its label {PROFILE_LABEL} names the profile {name!r}")
        result.profiles = (fallback,)
        result.findings.append(("FH101", f"profile {name!r} is not installed; the generic one is used instead"))
    elif not profile["nameable"]:
        return result.refuse("FH102", f"its label {PROFILE_LABEL} names the profile {name!r}")
    else:
        result.profiles = (name,)
    return _finish(result, index)


def _generic_of(image: Image, index: dict[str, Any]) -> str | None:
    """The generic profile for an image whose own is missing: the one its labels select, else the only one."""
    generic = [name for name, profile in index["profiles"].items() if profile["generic"]]
    for selector in index["selectors"]:
        if selector["profile"] in generic and labels_match(selector, image.labels):
            name: str = selector["profile"]
            return name
    return generic[0] if len(generic) == 1 else None


def _selected(matching: list[dict[str, Any]], image: Image, index: dict[str, Any]) -> Decision:
    specific = [s for s in matching if not index["profiles"][s["profile"]]["generic"]]
    chosen = specific or matching
    first = chosen[0]
    result = Decision(CONFINED, {"by": "selector", "labels": {key: image.labels[key] for key in first["labels"]}})
    result.profiles = tuple(dict.fromkeys(s["profile"] for s in chosen))
    if len(result.profiles) > 1:
        result.findings.append(("FH206", "the profiles " + ", ".join(result.profiles) + " match with equal rank"))
    return result


def _finish(result: Decision, index: dict[str, Any]) -> Decision:
    settings = index["settings"]
    missing = [name for name in result.profiles if name not in index["profiles"]]
    if missing:
        return result.refuse("FH101", f"the profile {missing[0]!r} is bound to it")
    if all(index["profiles"][name]["generic"] for name in result.profiles):
        if settings["generic"] == "refuse":
            return result.refuse("FH111", "only the generic profile " + ", ".join(result.profiles) + " fits")
        if settings["generic"] == "complain":
            result.mode = COMPLAIN
    if settings["mode"] == COMPLAIN:
        result.mode = COMPLAIN
    return result


def _builder(result: Decision, settings: dict[str, str]) -> Decision:
    if settings["builds"] == "refuse":
        return result.refuse("FH110", "it is a working container of Buildah")
    result.decision = EXEMPT
    result.profiles = ()
    result.findings += result.reasons  # what would have been refused if it were not
    result.reasons = [("FH401", "it is a working container of Buildah")]
    return result
