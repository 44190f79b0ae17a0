"""Signing under faults: killed anywhere, disks full, state lost, old or foreign; nothing that contradicts is ever
signed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.conftest import Bench, killing
from fhir_hook.audit import checkpoint, note, signing, verification
from fhir_hook.audit.places import Places

SIGNING = ("flock", "pwrite64", "fdatasync", "fsync", "rename", "ftruncate", "write")


def signed_by(host: Bench) -> list[checkpoint.Signed]:
    """Every checkpoint that somebody could have seen, which must all be of this log."""
    known = [note.Verifier.parse(text) for text in host("log", "key", "show", "--all", check=True).stdout.split()]
    places = Places(host.log, host.tree, host.keys)
    notes = {data for _, data in signing.history(places)}
    notes |= {path.read_bytes() for path in (places.checkpoint, host.keys / "signed") if path.exists()}
    return [checkpoint.opened(data, known) for data in notes]


def assert_never_contradicted(host: Bench, *more: checkpoint.Signed) -> None:
    report = verification.verify(host.log, [*signed_by(host), *more], host.tree)
    assert report.good, [o.problem for o in report.outcomes] + [p.text for p in report.problems]


def test_a_checkpoint_covers_what_was_acknowledged_and_nothing_is_signed_twice(signed: Bench) -> None:
    first = signed.json("log", "checkpoint")
    assert (first["new"], first["size"]) == (False, 20)
    signed.append(3)
    second = signed.json("log", "checkpoint")
    assert (second["new"], second["size"], second["added"]) == (True, 23, 3)
    assert len(list(signing.history(Places(signed.log, signed.tree, signed.keys)))) == 2
    assert_never_contradicted(signed)


def test_the_private_key_is_root_s_alone_and_what_is_public_can_be_read(signed: Bench) -> None:
    assert (signed.keys / "log.key").stat().st_mode & 0o777 == 0o600
    assert (signed.tree / "checkpoint").stat().st_mode & 0o777 == 0o644
    secret = (signed.keys / "log.key").read_text().strip().rpartition("+")[2]
    everything = [path for top in (signed.log, signed.tree) for path in top.rglob("*") if path.is_file()]
    assert not [path for path in everything if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize("call", SIGNING)
def test_kill_9_at_any_boundary_of_signing_leaves_nothing_that_is_not_put_right(signed: Bench, call: str) -> None:
    kills = 0
    for argv in killing(call, signed.argv("log", "checkpoint")):
        signed.append(1)
        done = signed.sandbox.run(argv, env={"PYTHONPATH": str(Path(__file__).parents[2])})
        if done.returncode == 0:
            break
        kills += 1
        assert_never_contradicted(signed)
        assert signed("log", "verify").returncode == 0
    assert kills
    assert signed("log", "checkpoint").returncode == 0
    assert_never_contradicted(signed)


RANDOM = """
import os, random, select, signal, sys, time
from pathlib import Path
from fhir_hook.audit import signing
from fhir_hook.audit.places import Places
from fhir_hook.store import log, rotation
chosen = random.Random(sys.argv[2])
places = Places.default()
def work(pipe, round):
    while True:
        what = chosen.random()
        if what < 0.6:
            record = log.append({"event": "test", "who": f"{round}", "x": "x" * chosen.choice([1, 100, 5000])})
            os.write(pipe, b"a %d %s\\n" % (record["seq"], record["time"].encode()))
        elif what < 0.9:
            at = signing.make(places).signed.checkpoint
            os.write(pipe, b"s %d %s\\n" % (at.size, at.root.hex().encode()))
        else:
            rotation.rotate(log.directory(), 20_000)
for round in range(int(sys.argv[1])):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        chosen.seed(f"{sys.argv[2]} {round}")
        try:
            work(writer, round)
        finally:
            os._exit(1)
    os.close(writer)
    time.sleep(chosen.random() * 0.012)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        for line in pipe.read().split(b"\\n")[:-1]:
            print(line.decode())
"""


def test_kill_9_at_random_moments_of_appending_signing_and_rotating(signed: Bench) -> None:
    """FHIR_HOOK_KILLS=10000 for the full number."""
    kills = os.environ.get("FHIR_HOOK_KILLS", "150")
    argv = signed.sandbox.argv(RANDOM, kills, os.environ.get("FHIR_HOOK_SEED", "7"))
    argv[1] = "-sB"  # cryptography lies in dist-packages, which -I leaves out for the hook's sake
    limit = 60 + int(kills)
    done = subprocess.run(signed.sandbox.command(argv), capture_output=True, timeout=limit, check=False)
    assert done.returncode == 0, done.stderr.decode()
    signed("log", "checkpoint", check=True)
    assert signed("log", "verify").returncode == 0
    assert_never_contradicted(signed)
    said = [line.split() for line in done.stdout.decode().splitlines()]
    records = map(json.loads, signed("log", "--json", check=True).stdout.splitlines())
    there = {(str(record["seq"]), record["time"]) for record in records}
    appended = {(seq, when) for kind, seq, when in said if kind == "a"}
    assert len(appended) > int(kills) // 10 and appended <= there
    known = [note.Verifier.parse(signed.key())]
    history = [checkpoint.opened(data, known).checkpoint for data in _history(signed)]
    at = {(str(one.size), one.root.hex()) for one in history}
    assert {(size, root) for kind, size, root in said if kind == "s"} <= at


def _history(host: Bench) -> list[bytes]:
    places = Places(host.log, host.tree, host.keys)
    return [*(data for _, data in signing.history(places)), places.checkpoint.read_bytes()]


@pytest.mark.parametrize("room", [0, 4, 8, 12, 16, 20, 24, 28, 32])
def test_a_full_disk_signs_nothing_half_and_space_brings_it_back(signed: Bench, room: int) -> None:
    size = 256
    keep = signed.sandbox.top / "keep"
    shutil.copytree(signed.sandbox.state, keep)
    signed.sandbox.setup = (
        f"mount -t tmpfs -o size={size}k full /var/lib/fhir-hook; cp -a {keep}/. /var/lib/fhir-hook/\n"
        f"f=$(stat -f -c %a /var/lib/fhir-hook); n=$((f * 4 - {room})); [ $n -le 0 ] || "
        "dd if=/dev/zero of=/var/lib/fhir-hook/filler bs=1k count=$n status=none"
    )
    signed.append(300)
    command = " ".join(signed.argv("log", "checkpoint"))
    script = (
        f"{command}; echo code $?; cp /var/lib/fhir-hook/keys/signed {keep}/seen; rm -f /var/lib/fhir-hook/filler; "
        f"{command} && rm -rf {keep}/after && cp -a /var/lib/fhir-hook {keep}/after"
    )
    done = signed.sandbox.run(["sh", "-c", script], env={"PYTHONPATH": str(Path(__file__).parents[2])})
    assert done.returncode == 0, done.stderr.decode()
    if room == 0:
        assert b"code 3" in done.stdout and b"No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) <= 1, done.stderr.decode()
    signed.sandbox.setup = ""
    known = [note.Verifier.parse(signed.key())]
    after = [checkpoint.opened(path.read_bytes(), known) for path in (keep / "after/keys/signed", keep / "seen")]
    report = verification.verify(signed.log, after, keep / "after/tree")
    assert report.good and report.signed == 320


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_full_disk_rotates_nothing_and_loses_nothing(host: Bench, room: int) -> None:
    host.append(1)
    line = host.file.read_bytes()
    (host.sandbox.top / "first").write_bytes(line)
    pages = 4
    host.sandbox.setup = (
        f"mount -t tmpfs -o size={pages * 4}k,nr_inodes={2 + room} full /var/log/fhir-hook\n"
        f"cp {host.sandbox.top}/first /var/log/fhir-hook/decisions.jsonl\n"
    )
    code = (
        "from fhir_hook.store import log, rotation\nimport os\n"
        "for n in range(2): log.append({'event': 'test', 'x': 'x' * 7000})\n"
        "before = os.listdir('/var/log/fhir-hook')\n"
        "try:\n    print(rotation.rotate(log.directory()))\n"
        "except log.LogError as error:\n    print('refused', error)\n"
        "assert 'decisions.jsonl' in os.listdir('/var/log/fhir-hook')\n"
        "print(log.append({'event': 'test'})['seq'])\n"
    )
    said = host.sandbox.python(code).decode().splitlines()
    assert (said[0].startswith("refused") and said[1] == "3") or (room == 2 and said[1] == "4"), said


def test_a_tree_that_is_lost_is_built_anew_and_gives_the_same_root(signed: Bench) -> None:
    before = signed.json("log", "checkpoint")
    shutil.rmtree(signed.tree)
    after = signed.json("log", "checkpoint")
    assert (after["root"], after["new"], after["rebuilt"]) == (before["root"], False, True)
    assert (signed.tree / "checkpoint").read_bytes() == (signed.keys / "signed").read_bytes()


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "state.json is empty": lambda tree: (tree / "state.json").write_text(""),
    "state.json is gone": lambda tree: (tree / "state.json").unlink(),
    "state.json is no JSON": lambda tree: (tree / "state.json").write_text("[]"),
    "level0 is short": lambda tree: os.truncate(tree / "level0", 33),
    "level0 is gone": lambda tree: (tree / "level0").unlink(),
    "level0 differs": lambda tree: _flip(tree / "level0", 32 * 19 + 5),
    "the history is torn": lambda tree: (tree / "checkpoints.jsonl").open("ab").write(b'{"time":'),
    "the history is gone": lambda tree: (tree / "checkpoints.jsonl").unlink(),
    "the checkpoint is gone": lambda tree: (tree / "checkpoint").unlink(),
}


@pytest.mark.parametrize("what", list(DAMAGE))
def test_a_damaged_tree_is_put_right_from_the_log(signed: Bench, what: str) -> None:
    DAMAGE[what](signed.tree)
    signed.append(1)
    assert signed.json("log", "checkpoint")["size"] == 21
    assert signed("log", "verify").returncode == 0
    signed("log", "prove", "3", check=True)
    assert_never_contradicted(signed)


def test_an_older_tree_from_a_backup_is_brought_up_to_date(signed: Bench, tmp_path: Path) -> None:
    shutil.copytree(signed.tree, tmp_path / "backup")
    signed.append(300)
    signed("log", "checkpoint", check=True)
    shutil.rmtree(signed.tree)
    shutil.copytree(tmp_path / "backup", signed.tree)
    document = signed.json("log", "checkpoint")
    assert (document["size"], document["added"], document["new"]) == (320, 300, False)
    assert_never_contradicted(signed)


def test_a_log_shorter_than_what_was_signed_is_not_signed_again(signed: Bench) -> None:
    lines = signed.lines()
    signed.file.write_bytes(b"".join(lines[:15]))
    for more in (0, 3, 10):
        if more:
            signed.append(more)
        done = signed("log", "checkpoint")
        assert done.returncode == 1 and "nothing was signed" in done.stderr and len(done.stderr.splitlines()) == 1
        assert signed("log", "verify").returncode == 1
    signed.file.write_bytes(b"".join(lines))
    assert signed("log", "checkpoint").returncode == 0


def test_a_log_and_tree_put_back_to_an_older_copy_are_not_signed_again(signed: Bench, tmp_path: Path) -> None:
    for directory, name in ((signed.log, "log"), (signed.tree, "tree")):
        shutil.copytree(directory, tmp_path / name)
    signed.append(10)
    held = tmp_path / "held elsewhere"
    held.write_text(signed("log", "checkpoint", check=True).stdout)
    for directory, name in ((signed.log, "log"), (signed.tree, "tree")):
        shutil.rmtree(directory)
        shutil.copytree(tmp_path / name, directory)
    done = signed("log", "checkpoint")
    assert done.returncode == 1 and "10 were cut off, or an older copy was put in its place" in done.stderr
    signed.append(11)
    done = signed("log", "checkpoint")
    assert done.returncode == 1 and "not those that were signed before" in done.stderr
    # Even with everything put back, the key's memory as well, a checkpoint held elsewhere shows it.
    (signed.keys / "signed").write_bytes((tmp_path / "tree/checkpoint").read_bytes())
    signed("log", "checkpoint", check=True)
    done = signed("log", "verify", "--checkpoint", held)
    assert done.returncode == 1 and "the root differs" in done.stdout


def test_a_published_checkpoint_put_back_to_an_older_one_is_published_anew(signed: Bench) -> None:
    old = (signed.tree / "checkpoint").read_bytes()
    signed.append(10)
    signed("log", "checkpoint", check=True)
    (signed.tree / "checkpoint").write_bytes(old)
    assert signed.json("log", "verify")["signed"] == 30
    assert signed.json("log", "checkpoint")["new"] is False
    assert b"\n30\n" in (signed.tree / "checkpoint").read_bytes()


def test_a_forged_memory_of_the_key_is_not_believed(signed: Bench) -> None:
    forger = note.Signer("test.example/log", b"f" * 32)
    at = checkpoint.Checkpoint("test.example/log", 1, b"x" * 32)
    (signed.keys / "signed").write_bytes(checkpoint.sign(at, [forger]))
    done = signed("log", "checkpoint")
    assert done.returncode == 3 and "keys/signed can't be used" in done.stderr


def test_a_changed_record_in_the_new_part_is_told_and_signed_as_it_is(signed: Bench) -> None:
    signed.append(5)
    lines = signed.lines()
    signed.file.write_bytes(b"".join([*lines[:22], lines[22].replace(b"test", b"tess"), *lines[23:]]))
    done = signed("log", "checkpoint")
    assert done.returncode == 1 and "decisions.jsonl: record 23: its prev is not the digest" in done.stderr
    assert signed("log", "verify").returncode == 1
    report = signed.json("log", "verify")
    assert report["checkpoints"][-1]["problem"] == "" and report["count"] == 1


def test_without_a_key_nothing_is_signed_and_it_says_what_to_do(host: Bench) -> None:
    host.append(1)
    done = host("log", "checkpoint")
    assert done.returncode == 3 and "fhir-hook log key new" in done.stderr
    assert host("log", "verify").returncode == 3


def test_a_lost_key_is_replaced_on_record_and_the_log_keeps_its_name(signed: Bench) -> None:
    old = signed.key()
    assert signed("log", "key", "new").returncode == 3
    assert signed("log", "key", "new", "--lost").returncode == 3, "it is not lost"
    (signed.keys / "log.key").unlink()
    done = signed("log", "checkpoint")
    assert done.returncode == 3 and "is lost: restore it from a backup" in done.stderr
    signed("log", "key", "new", "--lost", check=True)
    assert signed.key().split("+")[0] == old.split("+")[0] and signed.key() != old
    record = json.loads(signed.lines()[-1])
    assert (record["what"], record["result"], record["old"], record["new"]) == ("key", "lost", old, signed.key())
    assert signed("log", "verify").returncode == 0
    assert_never_contradicted(signed)


def test_a_rotated_key_is_named_in_a_record_that_the_old_key_signed(signed: Bench, tmp_path: Path) -> None:
    old = signed.key()
    new = signed("log", "key", "rotate", check=True).stdout.strip()
    record = json.loads(signed.lines()[-1])
    assert (record["result"], record["old"], record["new"], record["seq"]) == ("rotated", old, new, 20)
    proof = tmp_path / "proof"
    proof.write_text(signed("log", "prove", "20", "--to", "21", check=True).stdout)
    assert signed("log", "verify-proof", proof, "--key", old).returncode == 0
    signed.append(1)
    signed("log", "checkpoint", check=True)
    found = sorted((one.checkpoint.size, len(one.keys)) for one in signed_by(signed))
    assert found == [(20, 1), (21, 1), (21, 2), (22, 1)]
    assert old.split("+")[2] not in (signed.keys / "log.key").read_text()


def test_kill_9_at_any_boundary_of_rotating_the_key_leaves_one_that_signs(signed: Bench) -> None:
    for argv in killing("rename", signed.argv("log", "key", "rotate")):
        done = signed.sandbox.run(argv, env={"PYTHONPATH": str(Path(__file__).parents[2])})
        if done.returncode == 0:
            break
        signed.append(1)
        after = signed("log", "checkpoint")
        if after.returncode:
            assert "current key" in after.stderr or "is lost" in after.stderr
            (signed.keys / "log.key").unlink()
            signed("log", "key", "new", "--lost", check=True)
        assert_never_contradicted(signed)


@pytest.fixture
def copied(signed: Bench, new_host: Callable[[str], Bench]) -> Bench:
    """Another machine made from a copy of the signed one's disk."""
    other = new_host("other")
    for mine, theirs in ((signed.log, other.log), (signed.sandbox.state, other.sandbox.state)):
        shutil.copytree(mine, theirs, dirs_exist_ok=True)
    id = other.sandbox.top / "machine-id"
    id.write_text("0123456789abcdef0123456789abcdef\n")
    other.sandbox.setup = f"[ -e /etc/machine-id ] || touch /etc/machine-id; mount --bind {id} /etc/machine-id"
    return other


def test_a_key_copied_to_another_machine_does_not_sign_there(signed: Bench, copied: Bench) -> None:
    copied.append(2)
    done = copied("log", "checkpoint")
    assert done.returncode == 3 and "was made on another machine" in done.stderr
    copied("log", "key", "new", "--copied", check=True)
    assert copied.key().split("+")[0] != signed.key().split("+")[0]
    assert json.loads(copied.lines()[-1])["result"] == "copied"
    assert copied("log", "verify").returncode == 0
    signed.append(1)
    assert signed("log", "checkpoint").returncode == 0


def test_two_hosts_that_sign_with_one_key_are_found_out_by_either_s_checkpoint(signed: Bench, copied: Bench) -> None:
    copied.sandbox.setup = ""  # a copy down to the machine id
    paths = []
    for number, host in enumerate((signed, copied)):
        host.append(2 + number)
        path = host.sandbox.top / "seen"
        path.write_text(host("log", "checkpoint", check=True).stdout)
        paths.append(path)
    for host in (signed, copied):
        done = host("log", "verify", "--checkpoint", paths[0], "--checkpoint", paths[1])
        assert done.returncode == 1 and ("the root differs" in done.stdout or "were signed and the log" in done.stdout)


@pytest.mark.parametrize("origin", ["a b", "a+b", "a\nb", "\x1b[2J", "x" * 100_000])
def test_an_origin_that_can_not_be_one_is_refused_in_one_line(host: Bench, origin: str) -> None:
    if len(origin) > 1000:
        host("log", "key", "new", "--origin", origin[:500], check=True)
        return
    done = host("log", "key", "new", "--origin", origin)
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 1 and not host.keys.exists()
