"""Verifying a log: is every record what it was when it was signed, and does every one follow from the one before?

Reads the log once, in constant memory. Needs the log, a verifier key and a checkpoint, nothing of the host that wrote
it. With the tree's hashes beside it (which the checkpoint's signature covers as well) it also says which records
differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fhir_hook.audit import locate, merkle, scan, tiles, tree
from fhir_hook.audit.checkpoint import Checkpoint, Signed
from fhir_hook.audit.scan import Problem
from fhir_hook.store import log, segments
from fhir_hook.store.segments import Part

_BEHIND = "it covers {} records; the log begins behind them"


class Outcome:
    """What became of one checkpoint: `good`, or the `problem` in one line."""

    __slots__ = ("problem", "signed")

    def __init__(self, signed: Signed) -> None:
        self.signed = signed
        self.problem = ""


class Report:
    """What was found in a log.

    `first`: seq of its first record; `records`: how many there are; `began`, `ended`: their times; `bytes`; `files`;
    `torn`: bytes behind the last record; `outcomes` by checkpoint; `problems`, of which there are `count`; `back`: seq
    and the two times where the clock was set back; `pinned`: problems are placed by the tree's own hashes.
    """

    def __init__(self) -> None:
        self.first = self.records = self.bytes = self.torn = self.count = 0
        self.files: list[str] = []
        self.began = self.ended = ""
        self.outcomes: list[Outcome] = []
        self.problems: list[Problem] = []
        self.back: list[tuple[int, str, str]] = []
        self.pinned = False

    @property
    def signed(self) -> int:
        """How many records a good checkpoint covers."""
        return max((o.signed.checkpoint.size for o in self.outcomes if not o.problem), default=0)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong and there was a checkpoint to tell."""
        return not self.count and bool(self.outcomes) and all(not outcome.problem for outcome in self.outcomes)


def verify(where: Path, checkpoints: list[Signed], tree_directory: Path | None, workers: int = 0) -> Report:
    """Verify the log in the directory or file `where` against signed checkpoints.

    `tree_directory` holds the tree's hashes, if they are at hand; they are believed only where a checkpoint bears them
    out. Raises OSError.
    """
    report = Report()
    with segments.snapshot(where) as parts:
        size = sum(part.size for part in parts)
        report.bytes, report.files = size, [str(part.path) for part in parts]
        report.torn = parts[-1].torn if parts else 0
        _torn_inside(report, parts)
        report.outcomes = [Outcome(signed) for signed in sorted(checkpoints, key=lambda s: s.checkpoint.size)]
        _read(report, parts, tree_directory, workers or tree.workers_for(size))
        _judge(report)
        _grown(report, tree_directory)
        if any(outcome.problem for outcome in report.outcomes):
            _pin_down(report, parts, tree_directory)
    return report


def _torn_inside(report: Report, parts: list[Part]) -> None:
    for part in parts[:-1]:
        if part.torn:
            text = f"the file ends in {part.torn} bytes that are no record"
            _note(report, [Problem(part.first, str(part.path), 0, "torn", text)])


def _read(report: Report, parts: list[Part], tree_directory: Path | None, workers: int) -> None:
    """The one pass over the log: chain, times, roots at the checkpoints' sizes."""
    report.first = first = parts[0].first if parts else 0
    frontier = _beginning(report, first, tree_directory)
    chain = tree.Chain(first, None if first else log.FIRST_PREV)
    roots = _Roots(frontier, report.outcomes) if frontier else None
    before, removed = "", 0
    for part, begin, span in scan.spans(parts, workers):
        if begin == 0:
            chain.begin(part)
        index, removed = chain.index, max(removed, span.removed)
        chain.take(part, span)
        began, ended = scan.time_of(span.began), scan.time_of(span.ended)
        if before and began and began < before:
            report.back.append((index, before, began))
        report.back += [(index + at, *times) for at, *times in span.back]  # type: ignore[misc]
        report.began, report.ended, before = report.began or began, ended or report.ended, ended
        if roots:
            roots.add(span)
    report.records = chain.index - first
    _note(report, chain.problems, chain.count)
    if first > removed:
        text = f"the records before {first} are missing, and no record says that they were archived and removed"
        _note(report, [Problem(first, report.files[0], 1, "missing", text)])


def _beginning(report: Report, first: int, tree_directory: Path | None) -> merkle.Frontier | None:
    """The tree at the log's first record: empty, or from the stored hashes where older segments were removed."""
    if not first:
        return merkle.Frontier()
    try:
        if tree_directory is None:
            raise tiles.TilesError("the tree's hashes are not at hand")
        with tiles.Tiles(tree_directory) as stored:
            return stored.frontier(first)
    except (tiles.TilesError, OSError) as error:
        for outcome in report.outcomes:
            outcome.problem = f"the log begins with record {first}, and what was before can't be known: {error}"
        return None


class _Roots:
    """Compares the root with each checkpoint's as the log grows past its size."""

    def __init__(self, frontier: merkle.Frontier, outcomes: list[Outcome]) -> None:
        self._frontier = frontier
        self._waiting = list(outcomes)
        self._pass()

    def add(self, span: scan.Span) -> None:
        leaves, roots = span.leaves, span.roots if span.assumed == self._frontier.size else None
        while self._waiting and self._next <= self._frontier.size + len(leaves) // merkle.HASH_SIZE:
            part = (self._next - self._frontier.size) * merkle.HASH_SIZE
            self._frontier.add(leaves[:part])
            leaves, roots = leaves[part:], None
            self._pass()
        self._frontier.add(leaves, roots)

    @property
    def _next(self) -> int:
        return self._waiting[0].signed.checkpoint.size

    def _pass(self) -> None:
        while self._waiting and self._next <= self._frontier.size:
            outcome = self._waiting.pop(0)
            if outcome.signed.checkpoint.size < self._frontier.size:
                outcome.problem = _BEHIND.format(outcome.signed.checkpoint.size)
            elif outcome.signed.checkpoint.root != self._frontier.root():
                outcome.problem = "the root differs: these are not the records that were signed"


def _judge(report: Report) -> None:
    """Checkpoints beyond the log's end."""
    end = report.first + report.records
    for outcome in report.outcomes:
        size = outcome.signed.checkpoint.size
        if size > end and not outcome.problem:
            outcome.problem = f"{size} records were signed and the log ends after {end}: {size - end} were cut off"


def _grown(report: Report, tree_directory: Path | None) -> None:
    """Checkpoints from before the log's first record: proven by the stored hashes, against the newest good one."""
    good = [outcome.signed.checkpoint for outcome in report.outcomes if not outcome.problem]
    if not good or tree_directory is None:
        return
    for outcome in report.outcomes:
        old = outcome.signed.checkpoint
        if outcome.problem != _BEHIND.format(old.size):
            continue
        try:
            with tiles.Tiles(tree_directory) as stored:
                path = merkle.consistency_proof(stored.subtree, old.size, good[-1].size)
            merkle.check_consistency(old.size, old.root, good[-1].size, good[-1].root, path)
            outcome.problem = ""
        except merkle.ProofError as error:
            outcome.problem = str(error)
        except (tiles.TilesError, OSError):
            continue


def _pin_down(report: Report, parts: list[Part], tree_directory: Path | None) -> None:
    """Say which records differ, where the stored hashes are those of a checkpoint."""
    bad = [outcome.signed.checkpoint for outcome in report.outcomes if outcome.problem]
    if tree_directory is None or not bad:
        _cut_off(report)
        return
    with tiles.Tiles(tree_directory) as stored:
        for checkpoint in reversed(bad):
            try:
                if not _borne_out(stored, checkpoint):
                    continue
                expected = stored.leaves(report.first, checkpoint.size)
                found, count = locate.differences(_leaves(parts), expected, report.first)
            except (tiles.TilesError, OSError):
                continue
            report.pinned = True
            report.problems, report.count = found, count
            return
    _cut_off(report)


def _borne_out(stored: tiles.Tiles, checkpoint: Checkpoint) -> bool:
    """Whether the stored leaf hashes, every one of them, give the root that was signed."""
    if stored.root(checkpoint.size) != checkpoint.root:
        return False
    frontier, step = merkle.Frontier(), 64 * merkle.TILE_WIDTH
    for at in range(0, checkpoint.size, step):
        frontier.add(stored.read(0, at, min(step, checkpoint.size - at)))
    return frontier.root() == checkpoint.root


def _cut_off(report: Report) -> None:
    """Without stored hashes: a missing end is known all the same."""
    end = report.first + report.records
    largest = max((o.signed.checkpoint.size for o in report.outcomes), default=0)
    if largest > end:
        text = f"records {end} to {largest - 1} were cut off" if largest - end > 1 else f"record {end} was cut off"
        _note(report, [Problem(end, report.files[-1] if report.files else "", 0, "truncated", text)])


def _leaves(parts: list[Part]) -> Iterator[locate.Line]:
    for part in parts:
        line = 1
        for _, _, span in scan.spans([part], 1):
            for at in range(span.count):
                yield span.leaves[at * 32 : at * 32 + 32], str(part.path), line + at
            line += span.count


def _note(report: Report, problems: list[Problem], count: int | None = None) -> None:
    report.count += len(problems) if count is None else count
    report.problems = (report.problems + problems)[: scan.MOST_PROBLEMS]
