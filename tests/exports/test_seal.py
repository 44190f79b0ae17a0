"""Sealed exports: age itself seals and opens them, and the log says which file is ours."""

from __future__ import annotations

import json
import os
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from audit.conftest import Bench, killing
from support.sandbox import ROOT

SECRET = b"nobody reads this\n" * 20_000


class Keys:
    """age keys of people, in files."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def file(self, name: str) -> Path:
        path = self.top / f"{name}.key"
        if not path.exists():
            subprocess.run(["age-keygen", "-o", path], check=True, capture_output=True)
        return path

    def __getitem__(self, name: str) -> str:
        said = subprocess.run(["age-keygen", "-y", self.file(name)], check=True, capture_output=True, text=True)
        return said.stdout.strip()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "export.ndjson"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def file(host: Bench, keys: Keys, plain: Path) -> Path:
    """A file that was sealed for a doctor and an auditor."""
    host("log", "seal", *to(keys, "doctor", "auditor"), plain, check=True)
    return plain.with_name("export.ndjson.age")


def to(keys: Keys, *names: str) -> list[str]:
    return [*(word for name in names for word in ("--to", f"{name}={keys[name]}")), "--recovery", keys["recovery"]]


def opened(host: Bench, file: Path, key: Path, *options: str | Path, code: int = 0) -> str:
    done = host("log", "open", file, "--identity", key, *options)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def test_each_reader_and_the_recovery_key_open_it_and_nobody_else(host: Bench, keys: Keys, file: Path) -> None:
    for name in ("doctor", "auditor", "recovery"):
        assert opened(host, file, keys.file(name)).encode() == SECRET
        said = subprocess.run(["age", "-d", "-i", keys.file(name), file], check=True, capture_output=True)
        assert said.stdout == SECRET
    assert "no identity matched" in opened(host, file, keys.file("stranger"), code=3)


def test_the_log_says_for_whom_with_the_digest_and_the_wrapped_keys(host: Bench, keys: Keys, file: Path) -> None:
    record = host.sandbox.records[-1]
    assert record["event"] == "sealed" and record["sha256"] == sha256(file.read_bytes()).hexdigest()
    assert record["bytes"] == file.stat().st_size
    assert [(r["name"], r["recipient"]) for r in record["readers"]] == [
        (name, keys[name]) for name in ("doctor", "auditor", "recovery")
    ]
    header = file.read_bytes().partition(b"\n--- ")[0].decode()
    assert header == "age-encryption.org/v1" + "".join(
        f"\n-> {' '.join(stanza.split(' ')[:-1])}\n{stanza.split(' ')[-1]}" for stanza in record["wrapped"]
    )
    assert host("log", "key", "new", check=True) and host("log", "verify").returncode == 0


def test_an_export_is_sealed_as_it_is_made_and_lies_nowhere_in_the_clear(
    host: Bench, keys: Keys, tmp_path: Path
) -> None:
    host.append(500, "unmistakable")
    target = tmp_path / "sealed.age"
    export = host.argv("log", "export", "--format", "ecs")
    seal = host.argv("log", "seal", *to(keys, "doctor"), "-o", target, "-")
    script = 'set -eo pipefail; n=$1; shift; "${@:1:n}" | "${@:n+1}"'
    both = ["bash", "-c", script, "x", str(len(export)), *export, *seal]
    traced = ["strace", "-f", "-qq", "-e", "trace=openat,open,creat", "-o", tmp_path / "trace", *both]
    done = host.sandbox.run(traced, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    made = {line.split('"')[1] for line in (tmp_path / "trace").read_text().splitlines() if "O_CREAT" in line}
    assert len(made) == 1 and Path(made.pop()).parent == tmp_path
    text = opened(host, target, keys.file("doctor"))
    assert len(text.splitlines()) == 500 and json.loads(text.splitlines()[0])["event"]["sequence"] == 0


def test_a_reader_added_opens_the_new_file_with_the_others_and_the_log_has_both(
    host: Bench, keys: Keys, file: Path
) -> None:
    before = file.read_bytes()
    new = ("--to", f"regulator={keys['regulator']}")
    host("log", "add-reader", file, "--identity", keys.file("auditor"), *new, check=True)
    for name in ("doctor", "auditor", "recovery", "regulator"):
        assert opened(host, file, keys.file(name)).encode() == SECRET
    record = host.sandbox.records[-1]
    assert record["was"] == sha256(before).hexdigest() and len(record["readers"]) == 4
    assert set(record["wrapped"]).isdisjoint(host.sandbox.records[-2]["wrapped"])
    assert host("log", "add-reader", file, "--identity", keys.file("auditor"), *new).returncode == 2
    host("log", "add-reader", file, "--identity", keys.file("stranger"), "--to", f"x={keys['x']}")
    assert opened(host, file, keys.file("regulator")).encode() == SECRET


def test_a_copy_of_the_log_elsewhere_checks_it_and_without_any_that_is_said(
    host: Bench, keys: Keys, file: Path, tmp_path: Path
) -> None:
    copy = host.copy(tmp_path / "copy")
    for path in host.log.iterdir():
        path.unlink()
    done = host("log", "open", file, "--identity", keys.file("doctor"))
    assert done.returncode == 0 and "not checked" in done.stderr
    done = host("log", "open", file, "--identity", keys.file("doctor"), "--log", copy)
    assert done.returncode == 0 and done.stderr == ""


def test_attack_the_file_is_put_in_the_place_of_another_for_the_same_readers(
    host: Bench, keys: Keys, file: Path
) -> None:
    words = [word for name in ("doctor", "auditor", "recovery") for word in ("-r", keys[name])]
    subprocess.run(["age", *words, "-o", file], input=b"forged", check=True)
    said = opened(host, file, keys.file("doctor"), code=1)
    assert "has no record of a sealed file" in said and len(said.splitlines()) == 1
    assert opened(host, file, keys.file("doctor"), "--unlogged") == "forged"
    done = host("log", "add-reader", file, "--identity", keys.file("doctor"), "--to", f"x={keys['x']}")
    assert done.returncode == 1


@pytest.mark.parametrize("again", [False, True], ids=["open", "add-reader"])
def test_attack_the_file_is_changed_after_it_was_looked_up_and_before_it_is_opened(
    host: Bench, keys: Keys, file: Path, tmp_path: Path, again: bool
) -> None:
    """age waits for its key, at the other end of a pipe, until the file's content is another."""
    forged, pipe, out = tmp_path / "forged", tmp_path / "pipe", tmp_path / "out"
    words = [word for name in ("doctor", "auditor", "recovery") for word in ("-r", keys[name])]
    subprocess.run(["age", *words, "-o", forged], input=b"forged" * 60_000, check=True)
    os.mkfifo(pipe)
    command = ["add-reader", file, "--to", f"new={keys['doctor2']}"] if again else ["open", file]
    argv = host.sandbox.command(host.argv("log", *command, "--identity", pipe, "-o", out))
    running = subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)
    with pipe.open("w") as key:  # there is one who reads it
        file.write_bytes(forged.read_bytes())
        key.write(keys.file("doctor").read_text())
    _, said = running.communicate(timeout=60)
    assert running.returncode == 0, said
    assert (opened(host, out, keys.file("doctor2")).encode() if again else out.read_bytes()) == SECRET


@pytest.mark.parametrize("size", [0, 1, 300, 66_000, -1])
def test_attack_a_file_that_was_cut_off_is_refused_and_leaves_nothing(
    host: Bench, keys: Keys, file: Path, tmp_path: Path, size: int
) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:size])
    opened(host, file, keys.file("doctor"), code=1)
    out = tmp_path / "out"
    opened(host, file, keys.file("doctor"), "--unlogged", "-o", out, code=3)
    assert not out.exists() and not list(tmp_path.glob(".out*"))


def test_attack_one_bit_is_changed_anywhere(host: Bench, keys: Keys, file: Path) -> None:
    data = file.read_bytes()
    for at in (5, 60, 200, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert opened(host, file, keys.file("doctor"), code=1)


BAD = [
    "-d", "doctor", "=", "doctor=", "doctor=-d", "doctor=--output=/etc/passwd", "doctor=age1", "doctor=age1xyz",
    "doctor=age1yubikey1qwertyuiopasdfghjkl", "doctor=age1x1" + "q" * 56, "doctor=/etc/passwd",
    "doctor=ssh-ed25519 AAAA",
    "doctor=KEY\n-d", "d\x1b[31m=KEY", "a\nb=KEY", "-d=KEY", "=KEY", "recovery=KEY", "x" * 64 + "=KEY", "d\u2028=KEY",
]  # fmt: skip


@pytest.mark.parametrize("reader", BAD)
def test_attack_a_reader_that_is_none_or_an_option_or_a_program(
    host: Bench, keys: Keys, plain: Path, reader: str
) -> None:
    given = reader.replace("KEY", keys["doctor"])
    done = host("log", "seal", f"--to={given}", "--recovery", keys["recovery"], plain)
    assert done.returncode == 2 and "\x1b" not in done.stderr, done.stderr
    assert not plain.with_name("export.ndjson.age").exists() and not list(host.log.iterdir())


def test_attack_a_recipient_whose_checksum_is_wrong_and_one_given_twice(host: Bench, keys: Keys, plain: Path) -> None:
    key = keys["doctor"]
    wrong = key[:-1] + ("q" if key[-1] != "q" else "p")
    done = host("log", "seal", "--to", f"doctor={wrong}", "--recovery", keys["recovery"], plain)
    assert done.returncode == 3 and "malformed recipient" in done.stderr and len(done.stderr.splitlines()) == 1
    for more in (("--to", f"b={key}"), ("--to", f"doctor={keys['b']}")):
        assert host("log", "seal", *to(keys, "doctor"), *more, plain).returncode == 2
    assert not plain.with_name("export.ndjson.age").exists() and not list(host.log.iterdir())


def test_a_file_that_the_log_can_not_take_a_record_of_is_not_there(host: Bench, keys: Keys, plain: Path) -> None:
    host.file.mkdir(parents=True)
    done = host("log", "seal", *to(keys, "doctor"), plain)
    assert done.returncode == 3 and not plain.with_name("export.ndjson.age").exists()


@pytest.mark.parametrize("call", ["rename", "fdatasync", "fsync"])
def test_killed_anywhere_there_is_no_sealed_file_without_its_record(
    host: Bench, keys: Keys, plain: Path, call: str
) -> None:
    target = plain.with_name("export.ndjson.age")
    for argv in killing(call, host.argv("log", "seal", *to(keys, "doctor"), plain)):
        target.unlink(missing_ok=True)
        done = host.sandbox.run(argv, env={**os.environ, "PYTHONPATH": str(ROOT)})
        if target.exists():
            opened(host, target, keys.file("doctor"))
        if done.returncode == 0:
            return
    raise AssertionError("never ran to its end")
