"""vendor.py: reading what a vendor offers, with whatever an image may hold in its place; keeping it or putting back."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from authoring.sandbox import SHIPPED
from fhir_hook.authoring.source import load_sources
from fhir_hook.review import vendor

PATH = vendor.IMAGE_PATH
GOOD: dict[str, Any] = {
    "name": "acme-fhir",
    "version": "1.2.3",
    "title": "Acme's FHIR server",
    "kind": "jvm",
    "seccomp": {"include": ["process", "files-read", "files-write", "threads", "tcp-server", "fall-backs"]},
    "provenance": {"recordings": [{"server": "acme"}]},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of an image that holds a good profile, beside a secret of the host."""
    (tmp_path / "secret").write_text("the host's")
    place = tmp_path / "image" / PATH.strip("/")
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(GOOD))
    return tmp_path / "image"


def place(root: Path) -> Path:
    return root / PATH.strip("/")


def test_a_regular_file_is_read_byte_for_byte(root: Path) -> None:
    assert vendor.read_beneath(str(root), PATH) == json.dumps(GOOD).encode()


@pytest.mark.parametrize("target", ["/etc/shadow", "../../../../secret", "profile2.json", "/proc/self/mem", "loop"])
def test_attack_a_link_in_the_place_of_the_file_is_not_followed(root: Path, target: str) -> None:
    place(root).unlink()
    (place(root).parent / "profile2.json").write_text("{}")
    (place(root).parent / "loop").symlink_to("loop")
    place(root).symlink_to(target)
    with pytest.raises(vendor.VendorError, match="symbolic link"):
        vendor.read_beneath(str(root), PATH)


def test_attack_a_link_in_the_place_of_a_folder_is_not_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "profile.json").write_text("{}")
    place(root).unlink()
    place(root).parent.rmdir()
    place(root).parent.symlink_to(outside)
    with pytest.raises(vendor.VendorError, match="symbolic link"):
        vendor.read_beneath(str(root), PATH)


CLIMBING = ("profile.json", "/../secret", "/a/../../secret", "/", "", "//etc/passwd", "/usr/./x", "/a\0b")


@pytest.mark.parametrize("path", CLIMBING)
def test_attack_a_path_that_climbs_is_refused(root: Path, path: str) -> None:
    with pytest.raises((vendor.VendorError, ValueError)) as caught:
        vendor.read_beneath(str(root), path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["fifo", "folder", "missing", "huge", "sparse"])
def test_attack_what_is_no_small_regular_file_is_refused_without_waiting(root: Path, kind: str) -> None:
    place(root).unlink()
    if kind == "fifo":
        os.mkfifo(place(root))
    elif kind == "folder":
        place(root).mkdir()
    elif kind in ("huge", "sparse"):
        with place(root).open("wb") as file:
            file.truncate((1 << 20) + 1 if kind == "huge" else 1 << 40)
    with pytest.raises(vendor.VendorError):
        vendor.read_beneath(str(root), PATH)


HOSTILE = {
    "deep": b"[" * 50_000,
    "a key twice": b'{"name": "a", "name": "b"}',
    "not an object": b"7",
    "no members": b"{}",
    "a name that is a path": json.dumps({**GOOD, "name": "../../evil"}).encode(),
    "a name with a slash": json.dumps({**GOOD, "name": "a/b"}).encode(),
    "a name with a newline": json.dumps({**GOOD, "name": "acme\n"}).encode(),
    "a name that is too long": json.dumps({**GOOD, "name": "a" * 65}).encode(),
    "unknown members": json.dumps({**GOOD, "hooks": ["rm"]}).encode(),
    "an action that a profile has not got": json.dumps(
        {**GOOD, "seccomp": {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}}
    ).encode(),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_attack_a_hostile_offer_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "offer.json"
    path.write_bytes(content)
    with pytest.raises(vendor.VendorError) as caught:
        vendor.from_file(path, SHIPPED)
    assert "\n" not in str(caught.value)


def offer(tmp_path: Path, **members: Any) -> vendor.Offer:
    path = tmp_path / "offer.json"
    path.write_text(json.dumps({**GOOD, **members}))
    return vendor.from_file(path, SHIPPED)


def codes(tmp_path: Path, **members: Any) -> set[str]:
    found = vendor.judge(offer(tmp_path, **members), load_sources(SHIPPED), SHIPPED)
    return {finding.code for finding in found if finding.severity == "error"}


def test_a_modest_profile_has_nothing_against_it(tmp_path: Path) -> None:
    assert codes(tmp_path) == set()
    assert offer(tmp_path).digest == hashlib.sha256((tmp_path / "offer.json").read_bytes()).hexdigest()


def rules(*names: str, **members: Any) -> dict[str, Any]:
    return {"include": GOOD["seccomp"]["include"], "syscalls": [{"names": list(names), **members}]}


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"mode": "complain"}, "P607"),
        ({"generic": True}, "P607"),
        ({"noNewPrivileges": False}, "P605"),
        ({"capabilities": {"keep": ["CAP_SYS_ADMIN"]}}, "P603"),
        ({"seccomp": rules("ptrace")}, "P601"),
        ({"seccomp": rules("clone3")}, "P307"),
        ({"seccomp": rules("ioctl")}, "P601"),
        ({"seccomp": rules("socket", args=[{"index": 1, "op": "SCMP_CMP_EQ", "value": 3}])}, "P601"),
        ({"seccomp": {"include": ["not-there"]}}, "P202"),
        ({"seccomp": rules("no_such_call")}, "P201"),
    ],
)
def test_attack_a_profile_that_asks_for_too_much_is_refused(tmp_path: Path, members: dict[str, Any], code: str) -> None:
    assert code in codes(tmp_path, **members)


class Refused(Exception):
    """Stands for a policy that is refused."""


def test_what_was_there_is_back_when_the_policy_is_refused(tmp_path: Path) -> None:
    store = vendor.Store(tmp_path / "local")
    store.local.mkdir()
    store.path("acme-fhir").write_text("older")

    def refuse() -> str:
        assert json.loads(store.path("acme-fhir").read_text())["version"] == "1.2.3"
        raise Refused

    with pytest.raises(Refused):
        store.install(offer(tmp_path), refuse)
    assert [path.name for path in store.local.iterdir()] == ["acme-fhir.json"]
    assert store.path("acme-fhir").read_text() == "older"


def test_the_origin_is_kept_beside_and_tells_of_later_edits(tmp_path: Path) -> None:
    store = vendor.Store(tmp_path / "local")
    store.local.mkdir()
    one = offer(tmp_path)
    assert store.install(one, lambda: "digest") == "digest"
    assert store.path("acme-fhir").read_bytes() == one.data
    origin = store.origin("acme-fhir")
    assert origin["digest"] == one.digest == store.digest(store.path("acme-fhir")) and origin["kind"] == "file"
    store.path("acme-fhir").write_text("{}")
    assert store.digest(store.path("acme-fhir")) != origin["digest"]
    store.remove("acme-fhir", lambda: "")
    assert list(store.local.iterdir()) == []


def test_a_name_that_is_taken_is_said_unless_it_is_an_update_from_the_same_place(tmp_path: Path) -> None:
    store = vendor.Store(tmp_path / "local")
    store.local.mkdir()
    sources = load_sources(SHIPPED, store.local)
    assert store.taken(offer(tmp_path), sources) == ""
    assert "ships" in store.taken(offer(tmp_path, name="hapi"), sources)
    store.path("acme-fhir").write_text("{}")
    assert "written on this host" in store.taken(offer(tmp_path), sources)
    store.install(offer(tmp_path), lambda: "")
    assert store.taken(offer(tmp_path), sources) == ""
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(json.dumps(GOOD))
    assert "came from" in store.taken(vendor.from_file(elsewhere, SHIPPED), sources)


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"kind": 7}', b"\xff", b"x" * 100_000])
def test_attack_a_damaged_origin_is_none(tmp_path: Path, content: bytes) -> None:
    store = vendor.Store(tmp_path)
    store.origin_path("acme-fhir").write_bytes(content)
    assert store.origin("acme-fhir") == {}
