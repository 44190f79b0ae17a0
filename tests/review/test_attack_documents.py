"""Documents of strangers: whatever is in them, reading ends in a value or in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fhir_hook.review import engine_format
from review.support import SHIPPED, allow, args, finder, run, section

HOSTILE_JSON: dict[str, bytes] = {
    "nothing": b"",
    "not JSON": b"{",
    "a comment": b'{"defaultAction": "SCMP_ACT_ALLOW"} // x',
    "a list": b"[]",
    "a number": b"1e999",
    "deeper than people write": b"[" * 100_000,
    "deep objects": b'{"a":' * 30 + b"1" + b"}" * 30,
    "a key twice": b'{"defaultAction": "SCMP_ACT_ERRNO", "defaultAction": "SCMP_ACT_ALLOW"}',
    "more than a mebibyte": b'{"defaultAction": "' + b"x" * (1 << 20) + b'"}',
    "an action that is a list": b'{"defaultAction": ["SCMP_ACT_ALLOW"]}',
    "no default action": b'{"defaultAction": null}',
    "rules that are a string": b'{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": "all"}',
    "a rule that is a number": b'{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [7]}',
    "names that are numbers": b'{"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"names": [1]}]}',
    "args that are an object": (
        b'{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",'
        b' "args": {"a": 1}}]}'
    ),
    "a value beyond 64 bits": (
        b'{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",'
        b' "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 18446744073709551616}]}]}'
    ),
    "an index of an argument that there is not": (
        b'{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",'
        b' "args": [{"index": 6, "op": "SCMP_CMP_EQ", "value": 1}]}]}'
    ),
    "includes that are a list": (
        b'{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [], "syscalls": [{"names": ["read"], "includes": [1]}]}'
    ),
    "an archMap of numbers": b'{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [1], "syscalls": []}',
    "errno by a name that is none": b'{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EVERYTHING"}',
    "not UTF-8": b'{"defaultAction": "\xff"}',
    "config.json with seccomp as a list": b'{"linux": {"seccomp": []}}',
}
HOSTILE_YAML: dict[str, bytes] = {
    "aliases that double": b"a: &a [x, x]\nb: &b [*a, *a]\nkind: SeccompProfile\nspec: *b\n",
    "a python object": b"!!python/object/apply:os.system ['touch /tmp/pwned']",
    "a key twice": b"kind: SeccompProfile\nkind: Other\nspec: {}\n",
    "deep": b"- " * 3000,
    "spec that is a list": b"kind: SeccompProfile\nspec: []\n",
    "a base that is elsewhere": b"kind: SeccompProfile\nspec: {defaultAction: SCMP_ACT_ERRNO, baseProfileName: runc}\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "bytes": bytes(range(256)),
}


@pytest.mark.parametrize("content", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_attack_a_hostile_json_document_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "evil.json"
    path.write_bytes(content)
    refused_in_one_line(path)


@pytest.mark.parametrize("content", HOSTILE_YAML.values(), ids=HOSTILE_YAML)
def test_attack_a_hostile_yaml_document_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "evil.yaml"
    path.write_bytes(content)
    refused_in_one_line(path)


def refused_in_one_line(path: Path) -> None:
    with pytest.raises(engine_format.FormatError) as caught:
        engine_format.section(engine_format.read(path), "x86_64")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert not Path("/tmp/pwned").exists()


def test_attack_a_million_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.json"
    rules = [{"names": ["read"] * 100, "action": "SCMP_ACT_ALLOW"} for _ in range(900)]
    path.write_text(json.dumps(section(*rules)))
    refused_in_one_line(path)


@pytest.mark.parametrize("command", [("lint",), ("diff", "docker"), ("why-not",), ("import",)])
def test_attack_conditions_made_to_explode_end_in_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    path = tmp_path / "evil.json"
    bits = [allow("socket", args=args((0, "MASKED_EQ", 1 << bit, 0))) for bit in range(64)]
    path.write_text(json.dumps(section(*bits)))
    done = run(*command, path)
    assert done.returncode in (1, 3), done.stderr
    assert "Traceback" not in done.stderr and "a defect" not in done.stderr
    assert "more than" in done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "missing"])
def test_attack_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "evil.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    done = run("explain", path, "read")
    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_attack_text_of_strangers_can_not_write_to_the_terminal(tmp_path: Path) -> None:
    document = json.loads((SHIPPED / "hapi.json").read_text())
    document["title"] = "fine\x1b[2J\x1b]0;owned\x07\u202egone\nP601 nothing to see"
    path = tmp_path / "hapi.json"
    path.write_text(json.dumps(document))
    done = run("explain", path)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout and "\u202e" not in done.stdout and "\x07" not in done.stdout
    assert "\\x1b[2J" in done.stdout and "\\n" in done.stdout


def test_a_name_without_a_slash_is_never_taken_for_a_file(tmp_path: Path) -> None:
    done = run("diff", "passwd", "docker", cwd="/etc")
    assert done.returncode == 3 and "nothing is called 'passwd'" in done.stderr


@pytest.mark.parametrize("value", [{}, [], None, {"kind": "Pod"}, {"seccomp": 1, "name": "x"}, {"phases": []}])
def test_a_document_of_no_known_kind_is_named_none(value: Any) -> None:
    assert engine_format.kind_of(value) == ""


def test_the_defaults_of_the_engines_are_understood() -> None:
    for name in ("docker", "podman"):
        assert 250 < len(finder().find(name).allowed()) < 340
