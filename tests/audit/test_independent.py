"""The Go project's own note and tlog modules verify what the command writes, and the command what they write."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from audit.conftest import Bench
from fhir_hook.audit import note, proof
from support.sandbox import ROOT

Said = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def program() -> str:
    """logcheck."""
    done = subprocess.run([ROOT / "tests/audit/go/build"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def go(program: str, *arguments: str | Path, stdin: str = "") -> Said:
    return subprocess.run([program, *map(str, arguments)], input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture
def grown(signed: Bench) -> Bench:
    """A log that was signed at 20 and at 620 records."""
    signed.append(600)
    signed("log", "checkpoint", check=True)
    return signed


def test_go_verifies_a_checkpoint(program: str, grown: Bench) -> None:
    data = (grown.tree / "checkpoint").read_text()
    done = go(program, "checkpoint", grown.key(), stdin=data)
    lines = data.split("\n")
    assert (done.returncode, done.stdout) == (0, f"test.example/log 620 {lines[2]}\n"), done.stderr
    assert go(program, "checkpoint", grown.key(), stdin=data.replace("\n620\n", "\n621\n")).returncode == 1


@pytest.mark.parametrize("seq", [0, 19, 20, 255, 256, 511, 619])
def test_go_verifies_the_proof_of_a_record(program: str, grown: Bench, seq: int) -> None:
    document = grown.json("log", "prove", str(seq))
    done = go(program, "inclusion", grown.key(), stdin=json.dumps(document))
    assert (done.returncode, done.stdout) == (0, f"record {seq} of 620\n"), done.stderr
    spoilt = {**document, "record": document["record"].replace('"event"', '"Event"')}
    assert go(program, "inclusion", grown.key(), stdin=json.dumps(spoilt)).returncode == 1


def test_go_verifies_that_one_checkpoint_grew_out_of_another(program: str, grown: Bench) -> None:
    document = grown.json("log", "prove", "--from", "20", "--to", "620")
    done = go(program, "consistency", grown.key(), stdin=json.dumps(document))
    assert (done.returncode, done.stdout) == (0, "20 to 620\n"), done.stderr
    spoilt = {**document, "hashes": document["hashes"][::-1]}
    assert go(program, "consistency", grown.key(), stdin=json.dumps(spoilt)).returncode == 1


def test_go_reads_the_published_tiles_and_every_entry(program: str, grown: Bench, tmp_path: Path) -> None:
    grown("log", "tiles", "--to", tmp_path / "www", check=True)
    done = go(program, "tiles", grown.key(), tmp_path / "www")
    assert (done.returncode, done.stdout) == (0, "620 entries\n"), done.stderr
    names = sorted(str(path.relative_to(tmp_path / "www")) for path in (tmp_path / "www").rglob("*") if path.is_file())
    assert names == [
        "checkpoint",
        *("tile/0/000", "tile/0/001", "tile/0/002.p/108", "tile/1/000.p/2"),
        *("tile/entries/000", "tile/entries/001", "tile/entries/002.p/108"),
    ]
    path = tmp_path / "www/tile/entries/001"
    path.write_bytes(path.read_bytes().replace(b'"event"', b'"Event"', 1))
    assert go(program, "tiles", grown.key(), tmp_path / "www").returncode == 1


def test_a_rotated_key_is_followed_by_go_on_either_key(program: str, grown: Bench) -> None:
    old = grown.key()
    grown("log", "key", "rotate", check=True)
    data = (grown.tree / "checkpoint").read_text()
    for key in (old, grown.key()):
        assert go(program, "checkpoint", key, stdin=data).returncode == 0
    grown.append(1)
    data = grown("log", "checkpoint", check=True).stdout
    assert [go(program, "checkpoint", key, stdin=data).returncode for key in (old, grown.key())] == [1, 0]


@pytest.mark.parametrize(("count", "seq"), [(1, 0), (2, 1), (7, 6), (256, 255), (1000, 700)])
def test_what_go_signs_and_proves_is_verified_here(program: str, count: int, seq: int) -> None:
    made: dict[str, Any] = json.loads(go(program, "make", "go.example/log", str(count), str(seq)).stdout)
    verifier = note.Verifier.parse(made["key"])
    signed = proof.check(made["proof"], [verifier])
    assert (signed.checkpoint.origin, signed.checkpoint.size) == ("go.example/log", count)
    assert str(note.Signer.parse(made["secret"]).verifier) == made["key"]
    with pytest.raises(proof.ProofError):
        proof.check({**made["proof"], "record": "another\n"}, [verifier])
