"""config.json as the hook reads it: what is malformed, what two parsers would read differently, what is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fhir_hook.core import spec
from fhir_hook.core.spec import Spec, SpecError

MINIMAL: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {
        "user": {"uid": 5, "gid": 6, "additionalGids": [7, 8]},
        "args": ["x"],
        "capabilities": {"bounding": ["CAP_KILL"]},
    },
    "root": {"path": "rootfs"},
    "mounts": [{"destination": "/proc", "source": "proc"}, {"destination": "/x"}],
    "annotations": {"a": "b", "wrong": 1},
    "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}},
}


def parse(document: Any) -> Spec:
    return spec.parse(json.dumps(document).encode())


def test_what_the_hook_looks_at_is_read() -> None:
    found = parse(MINIMAL)
    assert found.root_path == "rootfs"
    assert found.annotations == {"a": "b"}
    assert found.mount_sources == ["proc"]
    assert found.user == (5, 6, (7, 8))
    assert found.seccomp == {"defaultAction": "SCMP_ACT_ALLOW"}
    assert found.capabilities == {"bounding": ["CAP_KILL"], **{n: [] for n in spec.CAPABILITY_SETS[1:]}}
    assert not found.ambiguous


@pytest.mark.parametrize(
    "empty", [{}, {"process": None, "root": None, "linux": None, "mounts": None, "annotations": None}]
)
def test_what_is_absent_or_null_is_empty(empty: dict[str, Any]) -> None:
    found = parse(empty)
    assert (found.root_path, found.annotations, found.mount_sources, found.user) == ("", {}, [], (0, 0, ()))
    assert found.seccomp is None
    assert not any(found.capabilities.values())


WRONG: list[tuple[str, Any]] = [
    ("root_path", {"root": []}),
    ("root_path", {"root": {"path": 1}}),
    ("annotations", {"annotations": ["a"]}),
    ("mount_sources", {"mounts": {"a": 1}}),
    ("process", {"process": "x"}),
    ("linux", {"linux": 0}),
    ("seccomp", {"linux": {"seccomp": "none"}}),
    ("seccomp", {"linux": {"seccomp": False}}),
    ("capabilities", {"process": {"capabilities": []}}),
    ("capabilities", {"process": {"capabilities": {"bounding": "CAP_KILL"}}}),
    ("capabilities", {"process": {"capabilities": {"ambient": [1]}}}),
    ("user", {"process": {"user": {"uid": "0"}}}),
]


@pytest.mark.parametrize(("member", "document"), WRONG, ids=lambda value: json.dumps(value))
def test_a_member_of_a_wrong_type_is_an_error_where_it_is_looked_at(member: str, document: Any) -> None:
    found = parse(document)
    with pytest.raises(SpecError, match=r"^config\.json: "):
        getattr(found, member)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'"x"', b"{", b"\xff{}", b'{"a":NaN}', b"[" * 100_000])
def test_what_is_no_object_is_an_error(data: bytes) -> None:
    with pytest.raises(SpecError, match=r"config\.json"):
        spec.parse(data)


@pytest.mark.parametrize(
    "text",
    [
        '{"root":{"path":"a"},"root":{"path":"b"}}',
        '{"linux":{"seccomp":{},"seccomp":null}}',
        '{"annotations":{"x":"1","x":"2"}}',
        '{"mounts":[{"source":"a","source":"b"}]}',
        '{"Root":{"path":"b"}}',
        '{"ROOT":1}',
        '{"linux":{},"Linux":{}}',
        '{"process":{"NoNewPrivileges":false}}',
        '{"process":{"noNewPrivileges":true,"nonewprivileges":false}}',
        '{"process":{"Capabilities":{}}}',
        '{"process":{"capabilities":{"Bounding":["CAP_SYS_ADMIN"]}}}',
        '{"process":{"user":{"UID":0}}}',
        '{"linux":{"seccomp":{},"Seccomp":null}}',
        '{"linux":{"seccomp":{"DefaultAction":"SCMP_ACT_ALLOW"}}}',
        '{"linux":{"seccomp":{"syscalls":[{"Action":"SCMP_ACT_ALLOW"}]}}}',
        '{"linux":{"seccomp":{"syscalls":[{"args":[{"Op":"SCMP_CMP_EQ"}]}]}}}',
        '{"root":{"Path":"b"}}',
        '{"proce\u017fs":{}}',
        '{"linux":{"\u017feccomp":null}}',
        '{"hoo\u212as":{}}',
    ],
)
def test_attack_a_config_that_go_and_others_read_differently_is_ambiguous(text: str) -> None:
    """Go takes the last of two keys, merges objects, and matches members whatever their case (in Unicode's folding)."""
    assert spec.parse(text.encode()).ambiguous


@pytest.mark.parametrize(
    "text",
    [
        '{"annotations":{"Root":"x","SECCOMP":"y","process":"z","Path":"w"}}',
        '{"process":{"env":["Path=1"],"args":["Root"]},"vendor":{"Linux":{},"Seccomp":1}}',
        '{"windows":{"Root":1},"linux":{"resources":{"Path":1}}}',
    ],
)
def test_keys_that_mean_nothing_to_a_runtime_make_nothing_ambiguous(text: str) -> None:
    assert not spec.parse(text.encode()).ambiguous


@pytest.mark.parametrize("member", ['{"linux":{"seccomp":{"syscalls":%s}}}', '{"linux":%s}', '{"process":{"user":%s}}'])
def test_attack_lists_nested_in_lists_deeper_than_python_calls_itself(member: str) -> None:
    assert not spec.parse((member % ("[" * 3000 + "]" * 3000)).encode()).ambiguous
