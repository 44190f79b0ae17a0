"""The decision log under concurrency, faults and hostile text: the real module on a real file system."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from fhir_hook.core.digest import sha256_hex
from fhir_hook.store import log_reader
from support.sandbox import Sandbox

APPEND = """
from fhir_hook.store import log
import sys
try:
    for n in range(int(sys.argv[1])):
        record = log.append({"event": "test", "n": n, "who": sys.argv[2] if len(sys.argv) > 2 else ""})
        print(record["seq"], flush=True)
except log.LogError as error:
    print("refused:", error, flush=True)
"""


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """Private paths, an empty log."""
    return Sandbox(tmp_path)


def log_file(sandbox: Sandbox) -> Path:
    return sandbox.log / "decisions.jsonl"


def assert_unbroken(sandbox: Sandbox) -> None:
    problems = [(e.number, e.problem) for e in log_reader.entries(log_file(sandbox)) if e.problem]
    assert problems == []


def test_each_record_names_the_digest_of_the_line_before_it(sandbox: Sandbox) -> None:
    sandbox.python(APPEND, "3")
    lines = log_file(sandbox).read_bytes().splitlines(keepends=True)
    records = [json.loads(line) for line in lines]
    assert [r["seq"] for r in records] == [0, 1, 2]
    assert [r["prev"] for r in records] == ["0" * 64, sha256_hex(lines[0]), sha256_hex(lines[1])]
    assert all(r["user"]["uid"] == 0 and r["boot"] and r["time"].endswith("Z") for r in records)


def test_fifty_writers_at_once_lose_no_record_and_make_one_chain(sandbox: Sandbox) -> None:
    writers = [sandbox.start(APPEND, "4", f"writer{n}") for n in range(50)]
    assert [writer.wait(timeout=100) for writer in writers] == [0] * 50
    records = sandbox.records
    assert len(records) == 200
    assert len({(r["who"], r["n"]) for r in records}) == 200
    assert_unbroken(sandbox)


def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(sandbox: Sandbox) -> None:
    chosen = random.Random(7)
    acknowledged: set[tuple[str, int]] = set()
    for round in range(25):
        writer = sandbox.start(APPEND, "1000", f"round{round}")
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(chosen.random() * 0.02)
        writer.send_signal(signal.SIGKILL)
        said = [first, *writer.stdout.read().split(b"\n")]
        writer.wait(timeout=10)
        count = len([line for line in said if line.strip().isdigit()])
        acknowledged |= {(f"round{round}", n) for n in range(count)}
    sandbox.python(APPEND, "1", "after")
    assert_unbroken(sandbox)
    assert acknowledged <= {(r["who"], r["n"]) for r in sandbox.records if r["event"] == "test"}


@pytest.mark.parametrize(
    "torn", [b"{", b'{"time":"2026', b"\x00" * 5000, b"x" * 70_000], ids=["brace", "beginning", "zeros", "long"]
)
def test_a_torn_tail_is_cut_off_and_recorded(sandbox: Sandbox, torn: bytes) -> None:
    sandbox.python(APPEND, "2")
    whole = log_file(sandbox).read_bytes()
    log_file(sandbox).write_bytes(whole + torn)
    sandbox.python(APPEND, "1")
    assert log_file(sandbox).read_bytes().startswith(whole)
    assert_unbroken(sandbox)
    recovery = sandbox.records[2]
    assert recovery["event"] == "recovery"
    assert recovery["torn"] == {"bytes": len(torn), "sha256": sha256_hex(torn)}
    assert sandbox.records[3]["event"] == "test"


def test_a_torn_tail_stays_until_there_is_a_record_that_tells_of_it(sandbox: Sandbox) -> None:
    sandbox.python(APPEND, "2")
    torn = log_file(sandbox).read_bytes() + b'{"time":'
    log_file(sandbox).write_bytes(torn)
    assert sandbox.python(APPEND, "1", "x" * 70_000).startswith(b"refused:")
    assert log_file(sandbox).read_bytes() == torn
    sandbox.python(APPEND, "1")
    assert [r["event"] for r in sandbox.records] == ["test", "test", "recovery", "test"]
    assert_unbroken(sandbox)


def test_a_torn_tail_stays_when_the_disk_is_too_full_for_the_record_that_tells_of_it(sandbox: Sandbox) -> None:
    sandbox.setup = "mount -t tmpfs -o size=8k full /var/log/fhir-hook"
    code = (
        "import posix\n"
        + APPEND.replace("sys.argv[1]", "'1'").replace("sys.argv[2] if len(sys.argv) > 2 else ''", "'a' * 6000")
        + "fd = posix.open(log.directory() + '/decisions.jsonl', posix.O_RDWR | posix.O_APPEND)\n"
        "posix.write(fd, b'torn' * 100)\n"
        + "try:\n    log.append({'event': 'test', 'who': 'b' * 3000})\n"
        + "except log.LogError as error:\n    print(error)\n"
        + "print(posix.pread(fd, 1 << 20, 0).endswith(b'}\\n' + b'torn' * 100))"
    )
    said = sandbox.python(code, "1", "a" * 6000).decode().splitlines()
    assert said[-2].endswith("No space left on device") and said[-1] == "True"


def test_fifty_first_writers_make_the_directory_together(sandbox: Sandbox) -> None:
    code = (
        "import posix, time\n"
        "from fhir_hook.core import paths\n"
        "paths.LOG_DIRECTORY = '/var/log/fhir-hook/a/b/c'\n"
        "time.sleep(max(0, float(sys.argv[3]) - time.time()))\n"
    )
    at = str(time.time() + 3)
    writers = [sandbox.start("import sys\n" + code + APPEND, "1", f"w{n}", at) for n in range(50)]
    said = [writer.communicate(timeout=60) for writer in writers]
    assert [out for out, _ in said if out.startswith(b"refused")] == []
    assert len((sandbox.log / "a/b/c/decisions.jsonl").read_bytes().splitlines()) == 50


@pytest.mark.parametrize(
    "garbage", [b"a\rb\n", b"\x0b\x0c\x1c\x85\n", b"\r\n", b"\n", b"\xff\xfe\n", b"[1]\n", b'{"seq":"x"}\n']
)
def test_a_last_line_of_any_bytes_is_chained_as_it_is(sandbox: Sandbox, garbage: bytes) -> None:
    sandbox.python(APPEND, "2")
    log_file(sandbox).write_bytes(log_file(sandbox).read_bytes() + garbage)
    sandbox.python(APPEND, "2")
    found = list(log_reader.entries(log_file(sandbox)))
    assert [e.number for e in found if e.problem] == [3]
    assert [e.record["seq"] for e in found if e.number != 3] == [0, 1, 3, 4]


def test_a_log_that_ends_in_a_changed_record_goes_on_counting_and_shows_the_change(sandbox: Sandbox) -> None:
    sandbox.python(APPEND, "3")
    lines = log_file(sandbox).read_text().splitlines(keepends=True)
    lines[2] = "garbage\n"
    log_file(sandbox).write_text("".join(lines))
    sandbox.python(APPEND, "1")
    assert [r.record.get("seq") for r in log_reader.entries(log_file(sandbox))] == [0, 1, None, 3]
    assert [e.number for e in log_reader.entries(log_file(sandbox)) if e.problem] == [3]


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        ("rm -rf $LOG; ln -s /etc/passwd $LOG", "loop|symbolic|Too many levels"),
        ("rm -rf $LOG; mkfifo $LOG", "not a regular file"),
        ("rm -rf $LOG; mkdir $LOG", "directory|regular"),
        ("mount -o remount,bind,ro $DIR", "Read-only file system"),
        ("head -c 400000 /dev/zero | tr '\\0' x > $LOG", "without a record"),
        ("yes garbage | head -n 20 > $LOG", "no readable record"),
        ("mount -t tmpfs -o size=4k,nr_inodes=2 full $DIR; mkdir $DIR/none", "No space left"),
    ],
)
def test_a_log_that_can_take_no_record_says_so_in_one_line_with_its_path(
    sandbox: Sandbox, prepare: str, reason: str
) -> None:
    directory = "/var/log/fhir-hook"
    sandbox.setup = prepare.replace("$LOG", f"{directory}/decisions.jsonl").replace("$DIR", directory)
    said = sandbox.python(APPEND, "1").decode()
    assert said.startswith("refused: ") and len(said.splitlines()) == 1
    assert directory in said and re.search(reason, said), said


def test_a_disk_that_fills_up_leaves_only_whole_records(sandbox: Sandbox) -> None:
    sandbox.setup = "mount -t tmpfs -o size=64k full /var/log/fhir-hook"
    code = APPEND + (
        "import posix\n"
        "fd = posix.open('/var/log/fhir-hook/decisions.jsonl', posix.O_RDONLY)\n"
        "data = b''.join(iter(lambda: posix.read(fd, 65536), b''))\n"
        "print('whole:', data.endswith(b'\\n'), len(data.splitlines()))\n"
    )
    said = sandbox.python(code, "1000").decode().splitlines()
    acknowledged = [line for line in said if line.isdigit()]
    assert said[-2].startswith("refused:") and "No space left" in said[-2]
    assert said[-1] == f"whole: True {len(acknowledged)}"


def test_a_record_longer_than_the_limit_is_refused_and_leaves_no_trace(sandbox: Sandbox) -> None:
    sandbox.python(APPEND, "1")
    before = log_file(sandbox).read_bytes()
    said = sandbox.python(APPEND, "1", "x" * 70_000).decode()
    assert said.startswith("refused:") and "65535" in said
    assert log_file(sandbox).read_bytes() == before


@pytest.mark.parametrize(
    "text",
    ["\x1b[2J\x1b]0;evil\x07", "a\nb\r\u2028\u2029\x85", "\ud800\udfff\ud800", "\U0001f4a9" * 5000],
    ids=["terminal control", "line ends", "lone surrogates", "10,000 characters"],
)
def test_hostile_text_stays_one_line_of_ascii(sandbox: Sandbox, text: str) -> None:
    sandbox.python(
        "from fhir_hook.store import log\nimport sys\nfrom fhir_hook.core import jsonio\n"
        "log.append({'event': 'test', 'name': jsonio.parse(sys.stdin.buffer.read(), 1 << 20)})",
        data=json.dumps(text).encode(),
    )
    data = log_file(sandbox).read_bytes()
    assert data.count(b"\n") == 1 and data.endswith(b"\n")
    assert all(32 <= byte < 127 for byte in data[:-1])
    assert json.loads(data)["name"] == json.loads(json.dumps(text))


def test_appending_reads_no_more_of_a_log_of_200_mib_than_of_a_short_one(sandbox: Sandbox) -> None:
    sandbox.python(APPEND, "1")
    line = log_file(sandbox).read_bytes()
    filler = json.dumps({"seq": 1, "pad": "x" * 1000}).encode() + b"\n"
    with log_file(sandbox).open("ab") as file:
        for _ in range(200):
            file.write(filler * 1040)
        file.write(line)
    argv = ["strace", "-f", "-e", "trace=pread64,read,openat", "-P", "/var/log/fhir-hook/decisions.jsonl"]
    done = sandbox.run([*argv, *sandbox.argv(APPEND, "1")])
    assert done.returncode == 0, done.stderr
    sizes = [int(row.rsplit(b"=", 1)[1]) for row in done.stderr.splitlines() if b"read" in row and b"= " in row]
    assert 0 < sum(sizes) <= 256 * 1024, done.stderr


def test_a_log_that_somebody_else_keeps_locked_is_an_error_after_a_bounded_time(sandbox: Sandbox) -> None:
    sandbox.python(APPEND, "1")
    holder = subprocess.Popen(["flock", str(log_file(sandbox)), "sleep", "60"])
    try:
        time.sleep(0.3)
        said = sandbox.python(
            "from fhir_hook.store import log\nlog.LOCK_SECONDS = 0.5\n"
            + APPEND.replace("from fhir_hook.store import log", ""),
            "1",
        ).decode()
    finally:
        holder.terminate()
        holder.wait()
    assert "locked by another process" in said


def test_attack_the_log_s_first_record_is_cut_off(sandbox: Sandbox) -> None:
    """Only a rotation leaves a log that does not begin with record 0, and it says so in the first record."""
    sandbox.python(APPEND, "3")
    lines = log_file(sandbox).read_bytes().splitlines(keepends=True)
    log_file(sandbox).write_bytes(b"".join(lines[1:]))
    first = next(log_reader.entries(sandbox.log))
    assert first.number == 1 and "prev" in first.problem
