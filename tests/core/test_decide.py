"""The decision rules of docs/architecture.md, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_hook.core import decide
from fhir_hook.core.image import Container, Image

ID = "a" * 64
HAPI = {"source": "https://github.com/hapifhir/hapi"}


def index(**settings: str) -> dict[str, Any]:
    """A policy's index with two specific profiles, a generic one and one that images may not name."""
    return {
        "settings": {**decide.DEFAULTS, **settings},
        "bindings": [],
        "profiles": {
            "hapi": {"nameable": True, "generic": False},
            "other": {"nameable": True, "generic": False},
            "locked": {"nameable": False, "generic": False},
            "fhir-jvm": {"nameable": True, "generic": True},
        },
        "selectors": [
            {"profile": "fhir-jvm", "labels": {"kind": "jvm"}},
            {"profile": "hapi", "labels": {"source": [HAPI["source"], HAPI["source"] + ".git"]}},
            {"profile": "other", "labels": {"vendor": {"pattern": "Other*"}, "name": "FHIR"}},
        ],
    }


def container(labels: dict[str, str] | None, **more: Any) -> Container:
    image = None if labels is None else Image(ID, labels, ("localhost/fhir:1",), "sha256:" + "b" * 64)
    return Container(id="c", name="n", image=image, **more)


BIND = {"image": "localhost/fhir:*", "profile": "other"}
KIND = {"kind": "jvm"}
LABEL = "io.fhir-hook.profile"

ROWS: list[tuple[str, Container, dict[str, str], list[dict[str, str]], str, tuple[str, ...], str]] = [
    # what, container, settings, bindings, decision, profiles, first code (reason or finding)
    ("no selector matches", container({"a": "b"}), {}, [], "ignored", (), ""),
    ("an image without labels", container({}), {}, [], "ignored", (), ""),
    ("no image at all", container(None), {}, [], "ignored", (), ""),
    ("a label's value of the list", container(HAPI), {}, [], "confined", ("hapi",), ""),
    ("another value of the list", container({"source": HAPI["source"] + ".git"}), {}, [], "confined", ("hapi",), ""),
    ("a value that only begins alike", container({"source": HAPI["source"] + "x"}), {}, [], "ignored", (), ""),
    (
        "all labels of a selector",
        container({"vendor": "Other Inc", "name": "FHIR"}),
        {},
        [],
        "confined",
        ("other",),
        "",
    ),
    ("only one label of two", container({"vendor": "Other Inc"}), {}, [], "ignored", (), ""),
    ("a pattern is anchored", container({"vendor": "No Other", "name": "FHIR"}), {}, [], "ignored", (), ""),
    ("only a generic profile fits", container(KIND), {}, [], "confined", ("fhir-jvm",), ""),
    ("generic, to be refused", container(KIND), {"generic": "refuse"}, [], "refused", ("fhir-jvm",), "FH111"),
    ("a specific one comes before a generic one", container(HAPI | KIND), {}, [], "confined", ("hapi",), ""),
    ("a specific one, generic refused", container(HAPI | KIND), {"generic": "refuse"}, [], "confined", ("hapi",), ""),
    (
        "two of equal rank",
        container(HAPI | {"vendor": "Other", "name": "FHIR"}),
        {},
        [],
        "confined",
        ("hapi", "other"),
        "FH206",
    ),
    ("the label names a profile", container({LABEL: "hapi"}), {}, [], "confined", ("hapi",), ""),
    ("the label comes before selectors", container(HAPI | {LABEL: "other"}), {}, [], "confined", ("other",), ""),
    ("the label names a missing one", container({LABEL: "nope"}), {}, [], "refused", (), "FH101"),
    (
        "the label names a missing one of a kind, generic wanted",
        container(KIND | {LABEL: "nope"}),
        {"unknown_profile": "generic"},
        [],
        "confined",
        ("fhir-jvm",),
        "FH101",
    ),
    ("the label names one not to be named", container({LABEL: "locked"}), {}, [], "refused", (), "FH102"),
    ("an empty label", container({LABEL: ""}), {}, [], "refused", (), "FH101"),
    ("a binding comes before the label", container({LABEL: "nope"}), {}, [BIND], "confined", ("other",), ""),
    ("a binding by id", container({}), {}, [{"id": ID, "profile": "hapi"}], "confined", ("hapi",), ""),
    (
        "a binding by digest",
        container({}),
        {},
        [{"id": "sha256:" + "b" * 64, "profile": "hapi"}],
        "confined",
        ("hapi",),
        "",
    ),
    ("a binding to another image", container({}), {}, [{"image": "x", "profile": "hapi"}], "ignored", (), ""),
    (
        "a binding may name what images may not",
        container({}),
        {},
        [{"image": "*", "profile": "locked"}],
        "confined",
        ("locked",),
        "",
    ),
    ("a build container", container(HAPI, builder=True), {}, [], "exempt", (), "FH401"),
    (
        "a build container, to be refused",
        container(HAPI, builder=True),
        {"builds": "refuse"},
        [],
        "refused",
        ("hapi",),
        "FH110",
    ),
    (
        "a build container whose label names a missing one",
        container({LABEL: "nope"}, builder=True),
        {},
        [],
        "exempt",
        (),
        "FH401",
    ),
    (
        "a build container that only a generic profile fits, generic refused",
        container(KIND, builder=True),
        {"generic": "refuse"},
        [],
        "exempt",
        (),
        "FH401",
    ),
    (
        "a build container whose label names a missing one, to be refused",
        container({LABEL: "nope"}, builder=True),
        {"builds": "refuse"},
        [],
        "refused",
        (),
        "FH110",
    ),
    ("a build container of another image", container({}, builder=True), {"builds": "refuse"}, [], "ignored", (), ""),
    ("unknown image", container(None, undetermined="torn"), {}, [], "undetermined", (), "FH301"),
    (
        "unknown image, to be refused",
        container(None, undetermined="torn"),
        {"undetermined": "refuse"},
        [],
        "refused",
        (),
        "FH112",
    ),
]


@pytest.mark.parametrize(
    ("who", "settings", "bindings", "decision", "profiles", "code"), [row[1:] for row in ROWS], ids=[r[0] for r in ROWS]
)
def test_the_decision_is_as_the_table_says(
    who: Container,
    settings: dict[str, str],
    bindings: list[dict[str, str]],
    decision: str,
    profiles: tuple[str, ...],
    code: str,
) -> None:
    result = decide.decide(who, {**index(**settings), "bindings": bindings})
    assert result.decision == decision
    assert result.profiles == profiles
    codes = [c for c, _ in (*result.reasons, *result.findings)]
    assert (codes[:1] or [""]) == [code]


@pytest.mark.parametrize(
    ("settings", "labels", "bindings", "mode"),
    [
        ({}, HAPI, [], ""),
        ({"mode": "complain"}, HAPI, [], "complain"),
        ({"generic": "complain"}, KIND, [], "complain"),
        ({"generic": "complain"}, HAPI, [], ""),
        ({}, {}, [{**BIND, "mode": "complain"}], "complain"),
        ({"mode": "complain"}, {}, [{**BIND, "mode": "enforce"}], "complain"),
    ],
)
def test_complain_mode_comes_from_host_binding_or_setting_and_else_from_the_profile(
    settings: dict[str, str], labels: dict[str, str], bindings: list[dict[str, str]], mode: str
) -> None:
    result = decide.decide(container(labels), {**index(**settings), "bindings": bindings})
    assert (result.decision, result.mode) == ("confined", mode)


def test_what_identified_the_image_is_kept_for_the_record() -> None:
    assert decide.decide(container(HAPI), index()).identified_by == {"by": "selector", "labels": HAPI}
    named = decide.decide(container({LABEL: "nope"}), index())
    assert named.identified_by == {"by": "label", "key": LABEL, "value": "nope"}


def test_only_a_policy_with_bindings_needs_the_images_names() -> None:
    assert not decide.wants_names(index())
    assert decide.wants_names({**index(), "bindings": [BIND]})


@pytest.mark.parametrize(
    ("image", "unknown", "claims", "settings", "decision", "profiles"),
    [
        ({"a": "b"}, "", HAPI, {}, "confined", ("hapi",)),
        (None, "its image is gone", HAPI, {}, "confined", ("hapi",)),
        (None, "its image is gone", {"a": "b"}, {}, "undetermined", ()),
        (None, "its image is gone", HAPI, {"undetermined": "refuse"}, "refused", ()),
        (HAPI, "", {LABEL: "fhir-jvm"}, {}, "confined", ("hapi",)),
        ({LABEL: "locked"}, "", HAPI, {}, "refused", ()),
    ],
)
def test_labels_that_an_engine_keeps_make_fhir_what_its_image_does_not_and_loosen_nothing(
    image: dict[str, str] | None,
    unknown: str,
    claims: dict[str, str],
    settings: dict[str, str],
    decision: str,
    profiles: tuple[str, ...],
) -> None:
    what = container(image, undetermined=unknown)
    what.claims = claims
    result = decide.decide(what, index(**settings))
    assert (result.decision, result.profiles) == (decision, profiles)
    by_claims = decision == "confined" and image != HAPI
    assert ("FH214" in [code for code, _ in result.findings]) is by_claims
