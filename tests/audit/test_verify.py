"""Verifying a log that somebody with root's rights has worked on: every change is found, and placed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from audit.conftest import Bench, rechained, written
from fhir_hook.audit import checkpoint, merkle, note, tiles, verification
from fhir_hook.audit.checkpoint import Checkpoint, Signed
from fhir_hook.store import segments

SIGNER = note.Signer("test.example/log", b"s" * 32)


class Kept:
    """A log of `lines` with its tree's hashes and signed checkpoints."""

    def __init__(self, directory: Path, lines: list[bytes]) -> None:
        self.log = directory / "decisions.jsonl"
        self.tree = directory / "tree"
        self.tree.mkdir(parents=True)
        self.lines = lines
        self.log.write_bytes(b"".join(lines))
        writer = tiles.Writer(self.tree, 0)
        writer.add(b"".join(merkle.leaf_hash(line) for line in lines))
        writer.close()

    def signed(self, size: int) -> Signed:
        with tiles.Tiles(self.tree) as stored:
            at = Checkpoint("test.example/log", size, stored.root(size))
        return checkpoint.opened(checkpoint.sign(at, [SIGNER]), [SIGNER.verifier])

    def verify(self, lines: list[bytes], *sizes: int, tree: bool = True, workers: int = 1) -> verification.Report:
        """Verify what became of the log against checkpoints of what it was."""
        self.log.write_bytes(b"".join(lines))
        found = [self.signed(size) for size in sizes or (len(self.lines),)]
        return verification.verify(self.log.parent, found, self.tree if tree else None, workers)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """1,000 records and a checkpoint over all of them."""
    written(tmp_path / "made", 1000)
    return Kept(tmp_path / "log", (tmp_path / "made").read_bytes().splitlines(keepends=True))


def told(report: verification.Report) -> list[tuple[str, int, int]]:
    return [(problem.kind, problem.index, problem.line) for problem in report.problems]


def test_an_untouched_log_is_good(kept: Kept) -> None:
    report = kept.verify(kept.lines, 1, 255, 256, 257, 999, 1000)
    assert report.good and report.records == report.signed == 1000 and told(report) == []


Change = Callable[[list[bytes]], list[bytes]]
CHANGES: dict[str, tuple[Change, list[tuple[str, int, int]]]] = {
    "one bit of a record": (
        lambda x: [*x[:500], x[500].replace(b'"x":"x"', b'"x":"y"'), *x[501:]],
        [("changed", 500, 501)],
    ),
    "the first record": (lambda x: [x[0].replace(b"test", b"tess"), *x[1:]], [("changed", 0, 1)]),
    "the last record": (lambda x: [*x[:-1], x[-1].replace(b"test", b"tess")], [("changed", 999, 1000)]),
    "a record added": (lambda x: [*x[:300], x[299], *x[300:]], [("added", 300, 301)]),
    "three records added": (lambda x: [*x[:300], b"{}\n", b"{1}\n", b"{2}\n", *x[300:]], [("added", 300, 301)]),
    "a record removed": (lambda x: [*x[:300], *x[301:]], [("removed", 300, 301)]),
    "records 300 to 399 removed": (lambda x: [*x[:300], *x[400:]], [("removed", 300, 301)]),
    "two records swapped": (lambda x: [*x[:10], x[11], x[10], *x[12:]], [("moved", 11, 11)]),
    "a record moved far": (lambda x: [*x[:10], *x[11:600], x[10], *x[600:]], [("moved", 10, 600)]),
    "the end cut off": (lambda x: x[:900], [("truncated", 900, 901)]),
    "the beginning cut off": (lambda x: x[5:], [("missing", 5, 1)]),
    "everything": (lambda x: [], [("truncated", 0, 1)]),
    "all records reversed": (lambda x: x[::-1], []),
}


@pytest.mark.parametrize("rewritten", [False, True], ids=["plain", "with a new chain"])
@pytest.mark.parametrize("what", list(CHANGES))
def test_every_change_is_found_and_placed_by_the_tree_s_hashes(kept: Kept, what: str, rewritten: bool) -> None:
    change, expected = CHANGES[what]
    lines = change(kept.lines)
    if rewritten:
        lines = rechained([line if line.startswith(b'{"time') else kept.lines[0] for line in lines], 0)
    report = kept.verify(lines)
    assert not report.good
    if rewritten:
        # From the first change on every record differs: prev is in each of them.
        first = next((n for n, (a, b) in enumerate(zip(lines, kept.lines, strict=False)) if a != b), len(lines))
        assert report.problems[0].index == first
    elif expected:
        assert told(report) == expected
        assert report.pinned or expected[0][0] == "missing"


@pytest.mark.parametrize("what", [name for name in CHANGES if name not in ("everything", "the beginning cut off")])
def test_every_change_is_found_without_the_hashes_and_the_chain_tells_the_line(kept: Kept, what: str) -> None:
    change, expected = CHANGES[what]
    report = kept.verify(change(kept.lines), tree=False)
    assert not report.good and report.outcomes[0].problem
    if expected and expected[0][0] in ("changed", "added", "removed") and expected[0][1] < 999:
        assert abs(report.problems[0].line - expected[0][2]) <= 1


def test_a_log_written_anew_with_a_whole_chain_does_not_pass_for_what_was_signed(kept: Kept) -> None:
    lines = rechained([line.replace(b'"x":"x"', b'"x":"z"') for line in kept.lines], 0)
    report = kept.verify(lines, tree=False)
    assert report.problems == [] and not report.good
    assert "not the records that were signed" in report.outcomes[0].problem


def test_records_behind_the_checkpoint_are_chained_only_and_counted(kept: Kept) -> None:
    report = kept.verify(kept.lines, 900)
    assert report.good and report.signed == 900 and report.records == 1000
    lines = [*kept.lines[:950], kept.lines[950].replace(b"test", b"tess"), *kept.lines[951:]]
    assert told(kept.verify(lines, 900)) == [("chain", 951, 952)]


def test_an_older_checkpoint_that_holds_and_a_newer_one_that_does_not_are_told_apart(kept: Kept) -> None:
    lines = [*kept.lines[:700], kept.lines[700].replace(b"test", b"tess"), *kept.lines[701:]]
    report = kept.verify(lines, 600, 800, 1000, tree=False)
    assert [bool(outcome.problem) for outcome in report.outcomes] == [False, True, True]


def test_random_changes_are_all_found(kept: Kept, chosen: random.Random) -> None:
    for _ in range(60):
        lines = list(kept.lines)
        at, other = chosen.randrange(1000), chosen.randrange(1000)
        kind = chosen.choice(["edit", "remove", "add", "swap", "cut"])
        if kind == "edit":
            place = chosen.randrange(len(lines[at]) - 1)
            byte = chosen.choice([b for b in range(32, 127) if b != lines[at][place]])
            lines[at] = lines[at][:place] + bytes([byte]) + lines[at][place + 1 :]
        elif kind == "remove":
            del lines[at]
        elif kind == "add":
            lines.insert(at, lines[other])
        elif kind == "swap" and at != other:
            lines[at], lines[other] = lines[other], lines[at]
        else:
            lines = lines[:at]
        report = kept.verify(lines)
        assert not report.good, (kind, at, other)
        assert report.problems[0].index in (at, other, min(at, other) + 1), (kind, at, other, told(report))


def test_bytes_that_are_no_line_end_do_not_shift_lines(kept: Kept) -> None:
    lines = [*kept.lines[:10], b"a\rb\x0b\x0c\x1c\x85\r\n", *kept.lines[10:]]
    assert told(kept.verify(lines)) == [("added", 10, 11)]
    assert [p.line for p in kept.verify(lines, tree=False).problems][0] == 11


@pytest.mark.parametrize("torn", [b"{", b"\0" * 5000, b"x" * 200_000], ids=["brace", "zeros", "long"])
def test_a_torn_last_line_is_told_and_is_nobody_s_crime(kept: Kept, torn: bytes) -> None:
    kept.log.write_bytes(b"".join(kept.lines) + torn)
    report = verification.verify(kept.log.parent, [kept.signed(1000)], kept.tree)
    assert report.good and report.torn == len(torn) and report.records == 1000


@pytest.mark.parametrize("torn", [b'{"time":"2026', b"\0" * 70_000], ids=["beginning", "zeros"])
def test_a_record_torn_in_the_middle_of_the_log_is_told(kept: Kept, torn: bytes) -> None:
    lines = [*kept.lines[:400], torn + kept.lines[400], *kept.lines[401:]]
    assert told(kept.verify(lines)) == [("changed", 400, 401)]
    assert told(kept.verify(lines, tree=False))[0][:3] == ("unreadable", 400, 401)


def test_a_clock_that_was_set_back_is_told_and_is_nobody_s_crime(tmp_path: Path) -> None:
    written(tmp_path / "made", 300)
    lines = (tmp_path / "made").read_bytes().splitlines(keepends=True)
    lines[200] = lines[200].replace(b'"time":"2023', b'"time":"2021')
    kept = Kept(tmp_path / "log", rechained(lines, 0))
    report = kept.verify(kept.lines)
    assert report.good and [back[0] for back in report.back] == [200]
    assert report.back[0][1].startswith("2023-") and report.back[0][2].startswith("2021-")


def test_records_of_65535_bytes_and_hostile_text_verify(tmp_path: Path) -> None:
    lines, prev = [], "0" * 64
    texts = ["\x1b[2J\x07", "\u2028\u2029\x85", "\ud800", "\U0001f4a9" * 5000, "x" * 65_000]
    texts += ['","seq":9,"prev":"', "a\r\nb", '"event":"log","what":"removed","before":9']
    for seq, text in enumerate(texts):
        record = {"time": "2026-11-21T10:14:07.123456Z", "seq": seq, "prev": prev, "event": "test", "x": text}
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        if text.startswith("xx"):
            record["x"] = text + "x" * (65_535 - len(line))
            line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
            assert len(line) == 65_535
        lines.append(line)
        prev = sha256(line).hexdigest()
    kept = Kept(tmp_path / "log", lines)
    for workers in (1, 2):
        assert kept.verify(lines, workers=workers).good


def test_several_processes_find_what_one_finds(tmp_path: Path) -> None:
    written(tmp_path / "many", 60_000, "x" * 400)
    lines = (tmp_path / "many").read_bytes().splitlines(keepends=True)
    many = Kept(tmp_path / "large", lines)
    assert (many.log.stat().st_size >> 20) > 24
    for changed in (lines, [*lines[:40_000], *lines[40_001:]], [*lines[:40_000], b"{}\n", *lines[40_000:]]):
        one, three = (many.verify(changed, 30_000, 60_000, workers=workers, tree=False) for workers in (1, 3))
        assert (one.good, told(one), one.count) == (three.good, told(three), three.count)
        assert [o.problem for o in one.outcomes] == [o.problem for o in three.outcomes]


def test_a_log_in_several_files_is_one_log_and_a_missing_one_is_told(kept: Kept) -> None:
    kept.log.unlink()
    for first, end in ((0, 300), (300, 301), (301, 900)):
        (kept.log.parent / segments.name_of(first)).write_bytes(b"".join(kept.lines[first:end]))
    assert kept.verify(kept.lines[900:]).good
    (kept.log.parent / segments.name_of(300)).unlink()
    report = kept.verify(kept.lines[900:])
    assert told(report) == [("removed", 300, 1)]
    assert not kept.verify(kept.lines[900:], tree=False).good


def test_a_log_without_its_oldest_files_is_verified_with_the_tree_s_hashes(tmp_path: Path) -> None:
    written(tmp_path / "made", 1000)
    lines = (tmp_path / "made").read_bytes().splitlines(keepends=True)
    lines[950] = lines[950].replace(b'"event":"test"', b'"event":"log","what":"removed","before":301')
    kept = Kept(tmp_path / "log", rechained(lines, 0))
    kept.log.unlink()
    (kept.log.parent / segments.name_of(301)).write_bytes(b"".join(kept.lines[301:900]))
    report = kept.verify(kept.lines[900:])
    assert report.good and (report.first, report.records) == (301, 699)
    old = kept.verify(kept.lines[900:], 100, 301, 1000)
    assert old.good and [outcome.problem for outcome in old.outcomes] == ["", "", ""]
    other = Kept(tmp_path / "other", kept.lines[1:]).signed(100)
    split = verification.verify(kept.log.parent, [other, kept.signed(1000)], kept.tree)
    assert not split.good and "the log was changed in between" in split.outcomes[0].problem
    assert "what was before can't be known" in kept.verify(kept.lines[900:], tree=False).outcomes[0].problem
    lines = [kept.lines[900].replace(b"test", b"tess"), *kept.lines[901:]]
    assert told(kept.verify(lines)) == [("changed", 900, 1)]


def test_hashes_that_were_made_to_fit_a_changed_log_are_not_believed(kept: Kept) -> None:
    signed = kept.signed(1000)
    lines = [*kept.lines[:500], kept.lines[500].replace(b"test", b"tess"), *kept.lines[501:]]
    forged = Kept(kept.log.parent.parent / "forged", lines)
    report = verification.verify(forged.log.parent, [signed], forged.tree)
    assert not report.good and not report.pinned and report.outcomes[0].problem


def test_two_logs_under_one_key_are_a_split_view_that_any_second_checkpoint_shows(tmp_path: Path) -> None:
    kepts = []
    for name in ("one", "two"):
        written(tmp_path / name, 100, name)
        kepts.append(Kept(tmp_path / f"log-{name}", (tmp_path / name).read_bytes().splitlines(keepends=True)))
    one, two = kepts
    both = [one.signed(100), two.signed(90)]
    assert [bool(o.problem) for o in verification.verify(one.log, both, None).outcomes] == [True, False]
    assert [bool(o.problem) for o in verification.verify(two.log, both, None).outcomes] == [False, True]


def test_an_exported_copy_verifies_on_another_machine_with_the_key_alone(
    signed: Bench, new_host: Callable[[str], Bench], tmp_path: Path
) -> None:
    signed.append(5)
    signed("log", "rotate", "--now", check=True)
    at = tmp_path / "checkpoint"
    at.write_text(signed("log", "checkpoint", check=True).stdout)
    copy, key, auditor = signed.copy(tmp_path / "copy"), signed.key(), new_host("auditor")
    done = auditor("log", "verify", "--log", copy, "--key", key, "--checkpoint", at)
    assert done.returncode == 0 and done.stdout.endswith("good\n"), done.stdout + done.stderr
    path = copy / "decisions-000000000000.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:7], lines[7].replace(b"test", b"tess"), *lines[8:]]))
    done = auditor("log", "verify", "--log", copy, "--key", key, "--checkpoint", at)
    assert done.returncode == 1 and f"{path}:9: record 8" in done.stdout and done.stdout.endswith("NOT GOOD\n")
    done = auditor("log", "verify", "--log", copy, "--key", key, "--checkpoint", at, "--tree", signed.tree)
    assert f"{path}:8: record 7 was changed" in done.stdout
    document = json.loads(auditor("log", "verify", "--log", copy, "--key", key, "--checkpoint", at, "--json").stdout)
    assert document["good"] is False and document["checkpoints"][0]["problem"]


def test_a_copy_is_not_verified_without_a_key_and_not_with_another_s(
    signed: Bench, new_host: Callable[[str], Bench], tmp_path: Path
) -> None:
    at = tmp_path / "checkpoint"
    at.write_text(signed("log", "checkpoint", check=True).stdout)
    auditor = new_host("auditor")
    options = ("log", "verify", "--log", signed.log, "--checkpoint", at)
    assert auditor(*options).returncode == 2
    assert auditor(*options, "--key", "nonsense").returncode == 2
    other = note.Signer("test.example/log", b"o" * 32).verifier
    done = auditor(*options, "--key", str(other))
    assert done.returncode == 3 and "none of which is a key that was given" in done.stderr


def test_lines_that_somebody_put_there_can_not_speak_to_the_auditor_s_terminal(
    signed: Bench, new_host: Callable[[str], Bench], tmp_path: Path
) -> None:
    at = tmp_path / "checkpoint"
    at.write_text(signed("log", "checkpoint", check=True).stdout)
    evil = b'{"time":"9\x1b[2J\x1b]0;evil\x07-00000000000000","seq":\x1b[31m}\n'
    lines = signed.lines()
    signed.file.write_bytes(b"".join([evil, *lines[:10], evil, *lines[10:], evil]))
    for options in (("--tree", signed.tree), ()):
        done = new_host(f"auditor{len(options)}")(
            "log", "verify", "--log", signed.file, "--key", signed.key(), "--checkpoint", at, *options
        )
        assert done.returncode == 1 and "\x1b" not in done.stdout + done.stderr and "\x07" not in done.stdout
    signed("log", "checkpoint")
    document = {"proof": "fhir-hook inclusion proof 1", "seq": 0, "record": evil.decode(), "hashes": []}
    key = note.Signer("evil.example", b"e" * 32)
    root = merkle.leaf_hash(evil)
    document["checkpoint"] = checkpoint.sign(Checkpoint("evil.example", 1, root), [key]).decode()
    (tmp_path / "proof").write_text(json.dumps(document))
    done = signed("log", "verify-proof", tmp_path / "proof", "--key", str(key.verifier))
    assert done.returncode == 0 and "\x1b" not in done.stdout


def test_a_proof_of_one_record_is_checked_with_the_key_alone(
    signed: Bench, new_host: Callable[[str], Bench], tmp_path: Path
) -> None:
    key, auditor = signed.key(), new_host("auditor")
    for options in ((), ("--json",)):
        path = tmp_path / "proof"
        path.write_text(signed("log", "prove", "7", *options, check=True).stdout)
        done = auditor("log", "verify-proof", path, "--key", key)
        assert done.returncode == 0 and "good: this is record 7 of test.example/log" in done.stdout
        spoilt = path.read_text().replace("index 7", "index 6").replace('"seq": 7', '"seq": 6')
        path.write_text(spoilt)
        done = auditor("log", "verify-proof", path, "--key", key)
        assert done.returncode == 1 and "NOT GOOD" in done.stdout
    assert signed("log", "prove", "20").returncode == 1
    path.write_text("hello")
    assert auditor("log", "verify-proof", path, "--key", key).returncode == 1


def test_growth_between_two_checkpoints_is_proven(signed: Bench, tmp_path: Path) -> None:
    old, key = tmp_path / "old", signed.key()
    old.write_text(signed("log", "checkpoint", check=True).stdout)
    signed.append(30)
    signed("log", "checkpoint", check=True)
    path = tmp_path / "proof"
    path.write_text(signed("log", "prove", "--from", "20", "--json", check=True).stdout)
    assert signed("log", "verify-proof", path, "--key", key).returncode == 0
    path.write_text(signed("log", "prove", "--from", old, "--to", "50", check=True).stdout)
    assert signed("log", "verify-proof", path, "--key", key, "--old", old).returncode == 0
    lines = path.read_text().split("\n")
    path.write_text("\n".join([lines[0], *lines[2:]]))
    assert signed("log", "verify-proof", path, "--key", key, "--old", old).returncode == 1


def test_a_record_that_was_changed_is_not_proven(signed: Bench) -> None:
    lines = signed.lines()
    signed.file.write_bytes(b"".join([*lines[:7], lines[7].replace(b"test", b"tess"), *lines[8:]]))
    done = signed("log", "prove", "7")
    assert done.returncode == 1 and "not what it was when it was signed" in done.stderr
    assert signed("log", "prove", "8").returncode == 0
