"""Selectors and bindings: exact values, lists, anchored patterns."""

from __future__ import annotations

import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_hook.core.selector import binding_matches, glob_matches, labels_match, value_matches

ID, DIGEST = "a" * 64, "sha256:" + "b" * 64


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_a_pattern_means_what_the_shells_patterns_mean(pattern: str, text: str) -> None:
    assert glob_matches(pattern, text) == bool(re.match(fnmatch.translate(pattern), text))


@given(st.text(max_size=20))
def test_a_pattern_without_wildcards_matches_itself_alone(text: str) -> None:
    plain = text.replace("*", "").replace("?", "")
    assert glob_matches(plain, plain)
    assert not glob_matches(plain, plain + "x")
    assert not glob_matches(plain, "x" + plain)


@pytest.mark.parametrize("character", ["[a]", "a.b", "a\\", "a\n", "^a$", "(a|b)", "\u0130", "a\x00b"])
def test_no_character_but_two_is_special(character: str) -> None:
    assert glob_matches(character, character)
    assert glob_matches(f"{character}*", f"{character}tail")
    assert not glob_matches(character, "a")


def test_attack_a_pattern_that_makes_a_backtracking_matcher_hang() -> None:
    began = time.monotonic()
    assert not glob_matches("*a" * 40 + "b", "a" * 20_000)
    assert time.monotonic() - began < 5


def test_values_are_compared_whole_and_with_case() -> None:
    assert value_matches("x", "x")
    assert not value_matches("x", "X")
    assert not value_matches("x", "x ")
    assert value_matches(["x", "y"], "y")
    assert not value_matches(["x*"], "xy")
    assert value_matches({"pattern": "x*"}, "xy")
    assert not value_matches({"pattern": "x*"}, "wxy")


def test_every_condition_of_a_selector_must_hold() -> None:
    selector = {"labels": {"vendor": "a", "version": {"pattern": "v5.*"}}}
    assert labels_match(selector, {"vendor": "a", "version": "v5.1", "more": "z"})
    assert not labels_match(selector, {"vendor": "a", "version": "v6.5"})
    assert not labels_match(selector, {"vendor": "a"})


def test_a_selector_without_conditions_matches_nothing() -> None:
    assert not labels_match({"labels": {}}, {"a": "b"})
    assert not labels_match({"labels": {}}, {})


@pytest.mark.parametrize(
    ("binding", "matches"),
    [
        ({"id": ID}, True),
        ({"id": f"sha256:{ID}"}, True),
        ({"id": DIGEST}, True),
        ({"id": ID[:12]}, False),
        ({"id": "c" * 64}, False),
        ({"id": ""}, False),
        ({"image": "localhost/fhir:1"}, True),
        ({"image": "localhost/*"}, True),
        ({"image": "fhir:1"}, False),
        ({"image": "*"}, True),
        ({"image": ""}, False),
    ],
)
def test_a_binding_means_an_image_by_name_id_or_digest(binding: dict[str, str], matches: bool) -> None:
    assert binding_matches(binding, ID, DIGEST, ("localhost/fhir:1", "localhost/other:2")) is matches


@pytest.mark.parametrize("binding", [{"id": ""}, {"id": "sha256:"}, {"id": ID}, {"image": "*"}])
def test_no_binding_means_a_bundle_that_only_its_annotations_describe(binding: dict[str, str]) -> None:
    assert not binding_matches(binding, "", "", ())
