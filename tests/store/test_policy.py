"""The policy's files: written so that the old or the new policy is in force, read only when root alone wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.sandbox import Sandbox

WRITE = """
from fhir_hook.store import policy
import sys
def profile(name, version):
    return {"name": name, "version": version, "digest": "d" * 64, "nameable": True, "generic": False, "mode": "enforce",
            "capabilities": [], "seccomp": {"x86_64": {"defaultAction": "SCMP_ACT_ERRNO"}},
            "bpf": {"x86_64": {"enforce": "AAAA", "complain": "BBBB"}}}
def write(version):
    index = {"settings": {}, "bindings": [], "selectors": []}
    return policy.write({"sources": []}, [profile("hapi", version), profile("other", version)], index)
"""
READ = """
from fhir_hook.store import policy
try:
    index = policy.load_index()
    body = policy.Body(index)
    print(index.digest, body.profile("hapi", "x86_64")["version"], body.programs("other", "x86_64")["complain"],
          index.fallback or "-")
except policy.PolicyError as error:
    print(error.code, ascii(str(error)))
"""


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def write(sandbox: Sandbox, version: str) -> str:
    return sandbox.python(WRITE + "print(write(sys.argv[1]))", version).decode().strip()


def read(sandbox: Sandbox) -> list[str]:
    return sandbox.python(READ).decode().strip().split(" ", 3)


def index(sandbox: Sandbox) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((sandbox.state / "selectors.json").read_text())
    return found


def names(sandbox: Sandbox) -> set[str]:
    return {path.name for path in sandbox.state.iterdir()}


def test_what_is_written_is_read_by_digest(sandbox: Sandbox) -> None:
    digest = write(sandbox, "1")
    assert read(sandbox) == [digest, "1", "BBBB", "-"]
    assert names(sandbox) == {"selectors.json", "selectors.previous.json", f"policy-{digest}.jsonl"}
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in sandbox.state.iterdir())


def test_only_the_present_policy_and_the_one_before_it_are_kept(sandbox: Sandbox) -> None:
    digests = [write(sandbox, version) for version in "1234"]
    assert read(sandbox)[:2] == [digests[3], "4"]
    bodies = {f"policy-{digest}.jsonl" for digest in digests[2:]}
    assert names(sandbox) == {"selectors.json", "selectors.previous.json"} | bodies


def test_writing_the_same_policy_again_changes_nothing_but_the_time(sandbox: Sandbox) -> None:
    assert write(sandbox, "1") == write(sandbox, "1")
    assert read(sandbox)[1] == "1"


# what happens to a file of the policy -> the stable code that says so
DAMAGE = {
    "missing": ("rm $F", "FH103"),
    "empty": (": > $F", "FH103"),
    "truncated": ("truncate -s -20 $F", "FH103"),
    "garbage": ("head -c 4000 /dev/urandom > $F", "FH103"),
    "a link": ("mv $F $F.real; ln -s $F.real $F", "FH103"),
    "a FIFO": ("rm $F; mkfifo $F", "FH103"),
    "a directory": ("rm $F; mkdir $F", "FH103"),
    "another user's": ("chown 1000 $F", "FH104"),
    "writable by its group": ("chmod g+w $F", "FH104"),
    "writable by everyone": ("chmod o+w $F", "FH104"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_the_last_good_selectors_are_used_when_the_present_ones_are(sandbox: Sandbox, how: str) -> None:
    first = write(sandbox, "1")
    write(sandbox, "2")
    sandbox.setup = DAMAGE[how][0].replace("$F", "/var/lib/fhir-hook/selectors.json")
    digest, version, _, fallback = read(sandbox)
    assert (digest, version) == (first, "1")
    assert "selectors.json" in fallback


@pytest.mark.parametrize("how", DAMAGE)
def test_no_policy_can_be_used_when_both_selectors_are(sandbox: Sandbox, how: str) -> None:
    write(sandbox, "1")
    command, code = DAMAGE[how]
    both = ("/var/lib/fhir-hook/selectors.json", "/var/lib/fhir-hook/selectors.previous.json")
    sandbox.setup = "\n".join(command.replace("$F", path) for path in both)
    found = read(sandbox)
    assert found[0] == code and "/var/lib/fhir-hook/selectors.json" in " ".join(found)


@pytest.mark.parametrize("how", DAMAGE)
def test_a_profile_is_not_taken_from_a_body_that_is(sandbox: Sandbox, how: str) -> None:
    digest = write(sandbox, "1")
    command, code = DAMAGE[how]
    sandbox.setup = command.replace("$F", f"/var/lib/fhir-hook/policy-{digest}.jsonl")
    assert read(sandbox)[0] == code


def test_a_body_with_one_bit_changed_is_damaged_where_it_was_changed(sandbox: Sandbox) -> None:
    digest = write(sandbox, "1")
    body = sandbox.state / f"policy-{digest}.jsonl"
    data = bytearray(body.read_bytes())
    data[index(sandbox)["profiles"]["hapi"]["parts"]["summary"]["at"][0] + 5] ^= 1
    body.write_bytes(data)
    found = read(sandbox)
    assert found[0] == "FH103" and "damaged at byte" in " ".join(found)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": None},
        {"policy": 1},
        {"body": None},
        {"settings": []},
        {"bindings": {}},
        {"profiles": []},
        {"selectors": None},
    ],
    ids=json.dumps,
)
def test_selectors_of_another_shape_are_not_used(sandbox: Sandbox, change: dict[str, Any]) -> None:
    write(sandbox, "1")
    (sandbox.state / "selectors.previous.json").unlink()
    (sandbox.state / "selectors.json").write_text(json.dumps({**index(sandbox), **change}))
    assert read(sandbox)[0] == "FH103"


@pytest.mark.parametrize("body", ["../../etc/passwd", "/etc/passwd", "", "..", "policy\u0000.jsonl", "policy-\ud800"])
def test_attack_selectors_that_name_a_body_elsewhere(sandbox: Sandbox, body: str) -> None:
    write(sandbox, "1")
    (sandbox.state / "selectors.json").write_text(json.dumps({**index(sandbox), "body": body}))
    assert read(sandbox)[0] == "FH103"


@pytest.mark.parametrize(
    "where", [None, [], {}, {"at": [0, 10]}, {"at": [-5, 3], "sha256": ""}, {"at": "x", "sha256": "y"}]
)
def test_attack_selectors_that_point_wrongly_into_the_body(sandbox: Sandbox, where: Any) -> None:
    write(sandbox, "1")
    document = index(sandbox)
    document["profiles"]["hapi"]["parts"]["summary"] = where
    (sandbox.state / "selectors.json").write_text(json.dumps(document))
    assert read(sandbox)[0] == "FH103"


STEPS = ("open", "write", "fsync", "rename", "unlink")


@pytest.mark.parametrize("step", STEPS)
def test_a_writer_killed_at_any_step_leaves_the_old_or_the_new_policy_in_force(sandbox: Sandbox, step: str) -> None:
    """Each occurrence of each step in turn: the writer kills itself just before it."""
    kill = f"""
import posix, signal
left = int(sys.argv[2])
def die(*args, was=posix.{step}, **more):
    global left
    path = args[0] if isinstance(args[0], str) else ""
    if path.startswith("/var/lib/fhir-hook") or not path and args[0] > 2:
        left -= 1
        if left < 0:
            posix.kill(posix.getpid(), signal.SIGKILL)
    return was(*args, **more)
posix.{step} = die
write(sys.argv[1])
"""
    old = write(sandbox, "1")
    for occurrence in range(20):
        done = sandbox.run(sandbox.argv(WRITE + kill, f"new{occurrence}", str(occurrence)))
        digest, version = read(sandbox)[:2]
        if done.returncode == 0:
            assert version == f"new{occurrence}"
            break
        assert done.returncode == -9, done.stderr
        assert digest == old or version == f"new{occurrence}"
        if digest != old:
            old = digest
        after = write(sandbox, f"after{occurrence}")
        assert read(sandbox)[:2] == [after, f"after{occurrence}"]
        old = after
    else:
        pytest.fail(f"{step} was called more than 20 times")
    assert occurrence > 0 or step == "unlink"
    write(sandbox, "last")
    assert not [name for name in names(sandbox) if name.endswith(".tmp")]


def test_a_full_disk_leaves_the_old_policy_in_force(sandbox: Sandbox) -> None:
    code = WRITE + (
        "print(write('1'))\n"
        "try:\n    write('2' * 200_000)\n"
        "except OSError as error:\n    print(error.strerror)\n" + READ
    )
    sandbox.setup = "mount -t tmpfs -o size=64k,mode=755 full /var/lib/fhir-hook"
    digest, error, found = sandbox.python(code).decode().splitlines()
    assert error == "No space left on device"
    assert found.split(" ")[:2] == [digest, "1"]


def test_writers_at_the_same_time_leave_a_policy_whose_body_is_there(sandbox: Sandbox) -> None:
    write(sandbox, "0")
    loop = WRITE + "for n in range(25):\n    write(f'{sys.argv[1]}-{n}')\n"
    writers = [sandbox.start(loop, str(number)) for number in range(6)]
    assert [writer.wait(timeout=100) for writer in writers] == [0] * 6
    assert not read(sandbox)[0].startswith("FH")
