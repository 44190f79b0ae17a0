"""The strict JSON reader and writer of the hot path."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_hook.core import jsonio
from support.sandbox import ROOT

LIMIT = 1 << 24
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read_back_and_is_what_the_standard_library_reads(value: Any) -> None:
    text = jsonio.text(value)
    assert text.isascii()
    assert "\n" not in text
    assert jsonio.parse(text.encode(), LIMIT) == value
    assert json.loads(text) == value


@given(VALUES)
def test_every_layout_of_the_standard_library_is_read(value: Any) -> None:
    data = ("\r\n\t " + json.dumps(value, indent=2, ensure_ascii=False) + " \n").encode("utf-8", "surrogatepass")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        with pytest.raises(jsonio.JsonError):
            jsonio.parse(data, LIMIT)
    else:
        assert jsonio.parse(data, LIMIT) == value


@given(
    st.binary(max_size=60)
    | st.text('{}[]",:\\ue+-0123456789.truefalsn \x00\ud800', max_size=40).map(
        lambda t: t.encode("utf-8", "surrogatepass")
    )
)
def test_any_bytes_are_a_value_or_a_json_error(data: bytes) -> None:
    try:
        jsonio.parse(data, LIMIT, jsonio.Duplicates())
    except jsonio.JsonError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"1e999",
        b"[-1e999]",
        b"9" * 5000,
        b"-" + b"9" * 4400,
        b"{} {}",
        b"{}x",
        b"[1,]",
        b'{"a":1,}',
        b"'a'",
        b'"\x01"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        "{}".encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"\x00",
        b'{"a":1,"a":2}',
        b'[{"b":{"a":1,"a":1}}]',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
    ids=lambda data: repr(data[:12]) + f"-{len(data)}",
)
def test_what_is_not_strictly_json_is_refused(data: bytes) -> None:
    before = sys.getrecursionlimit()
    with pytest.raises(jsonio.JsonError):
        jsonio.parse(data, LIMIT)
    assert sys.getrecursionlimit() == before


def test_more_bytes_than_the_limit_are_refused_before_anything_is_decoded() -> None:
    assert jsonio.parse(b"[1]", 3) == [1]
    with pytest.raises(jsonio.JsonError, match="3 bytes"):
        jsonio.parse(b"[1]", 2)


def test_a_repeated_key_is_named_and_the_last_one_counts_unless_the_first_is_wanted() -> None:
    data = b'{"a":1,"b":{"c":1,"c":2},"a":3}'
    noticed = jsonio.Duplicates()
    assert jsonio.parse(data, LIMIT, noticed) == {"a": 3, "b": {"c": 2}}
    assert noticed.keys == ["c", "a"]
    assert jsonio.parse(data, LIMIT, jsonio.Duplicates(), first_wins=True) == {"a": 1, "b": {"c": 1}}


def test_a_thousand_repeated_keys_are_noticed_without_being_kept() -> None:
    noticed = jsonio.Duplicates()
    jsonio.parse(("{" + ",".join(['"a":1'] * 1000) + "}").encode(), LIMIT, noticed)
    assert len(noticed.keys) == 16


def test_a_key_written_with_escapes_is_the_same_key() -> None:
    with pytest.raises(jsonio.JsonError, match="twice"):
        jsonio.parse(rb'{"seccomp":1,"\u0073eccomp":2}', LIMIT)


def test_lone_surrogates_survive_a_round_trip() -> None:
    data = rb'{"a\ud800":"\udfff\u2028"}'
    assert jsonio.text(jsonio.parse(data, LIMIT)).encode() == data


def test_the_canonical_form_does_not_depend_on_the_order_of_keys() -> None:
    one = jsonio.parse(b'{"b":[1,{"d":2,"c":3}],"a":"\xc3\xa4"}', LIMIT)
    other = jsonio.parse(b'{"a":"\\u00e4","b":[1,{"c":3,"d":2}]}', LIMIT)
    assert jsonio.canonical(one) == jsonio.canonical(other) == rb'{"a":"\u00e4","b":[1,{"c":3,"d":2}]}'


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1, 2}, b"bytes", object()], ids=["NaN", "infinity", "set", "bytes", "object"]
)
def test_what_json_can_not_hold_is_not_written(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        jsonio.text([value])


def test_as_deep_as_go_reads_is_read_and_written() -> None:
    data = b"[" * 10_000 + b"]" * 10_000
    assert jsonio.text(jsonio.parse(data, LIMIT)).encode() == data


def test_a_fresh_isolated_interpreter_reads_malformed_text_without_the_json_module() -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from fhir_hook.core import jsonio
for data in (b"", b"[1,", b"{{", b'"', b'"\\x01"', b"[" * 100000, b"nul", b"[1 2]", b'{{"a" 1}}', b'"\\\\u12"'):
    try:
        jsonio.parse(data, 1 << 20)
    except jsonio.JsonError:
        continue
    sys.exit(f"accepted {{data!r}}")
unwanted = {{"json", "re", "os", "typing", "enum"}} & set(sys.modules)
sys.exit(f"loaded {{unwanted}}" if unwanted else 0)
"""
    done = subprocess.run(["/usr/bin/python3", "-IS", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
