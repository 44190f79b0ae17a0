"""fhir-hook log: what was decided, newest last."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from fhir_hook.audit.follow import Follower
from fhir_hook.audit.selection import Record, Selection
from fhir_hook.cli import lazily, log_table
from fhir_hook.cli.failure import Failed
from fhir_hook.cli.selecting import selection_options
from fhir_hook.core import paths
from fhir_hook.store import log, log_reader
from fhir_hook.store.log_reader import Entry

_PAUSE = 500  # milliseconds
_BEFORE = 10  # records that --follow begins with


MEMBERS = {
    **{name: f"log_checkpoint:{name}" for name in ("checkpoint", "rotate", "key")},
    **{"verify": "log_verify:verify", "prove": "log_verify:prove", "verify-proof": "log_verify:verify_proof"},
    **{"archive": "log_archive:save", "remove": "log_archive:remove", "restore": "log_archive:restore"},
    **{"tiles": "log_archive:publish", "witness": "log_witness:ask", "witness-serve": "log_witness:serve"},
    **{"forward": "log_forward:forward", "deliver": "log_deliver:send", "export": "log_export:export"},
    **{"summary": "log_summary:summary", "metrics": "log_metrics:metrics", "token": "log_token:token"},
    **{"seal": "log_seal:seal", "open": "log_seal:unseal", "add-reader": "log_seal:add_reader"},
    **{"watch": "log_denials:watch_command", "collect": "log_collect:collect", "send": "log_collect:send"},
}


@click.group("log", cls=lazily.Group, members=MEMBERS, invoke_without_command=True)
@selection_options
@click.option("-n", "--lines", type=click.IntRange(0), default=None, help="Only the last N that match.")
@click.option("-f", "--follow", is_flag=True, help="Begin with the last 10 (-n), and go on with what comes.")
@click.option("--file", "path", type=click.Path(path_type=Path), help="Another log: its directory, or one file.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as they are, one a line.")
@click.pass_context
def command(
    context: click.Context, path: Path | None, lines: int | None, follow: bool, as_json: bool, selection: Selection
) -> None:
    """Show what was decided about containers, newest last; verify it, sign it, keep it.

    Exit code 1: the chain does not hold somewhere; where is said on stderr.
    """
    if context.invoked_subcommand:
        return
    source = path or Path(log.directory())
    output = Output(selection, as_json)
    with reading(source):
        if follow:
            _follow(source, output, _BEFORE if lines is None else lines)
        else:
            output.show(log_reader.entries(source), lines)
    sys.exit(1 if output.problems else 0)


@contextlib.contextmanager
def reading(source: Path) -> Iterator[None]:
    """Turn what can go wrong in reading a log into one line; a log that is not there yet is empty."""
    try:
        yield
    except BrokenPipeError:
        raise
    except FileNotFoundError:
        click.echo(absent(source), err=True)
    except OSError as error:
        raise Failed(
            f"{source}: {error.strerror}. The host's log is read by root and the group of its directory"
        ) from None


def absent(source: Path, option: str = "--file") -> str:
    """What to say of a log that is not there; a user may have meant the host's."""
    if os.geteuid() == 0 or source == Path(paths.LOG_DIRECTORY):
        return f"{source} does not exist: nothing was decided yet"
    return f"{source} does not exist: nothing of yours was decided yet. The host's: {option} {paths.LOG_DIRECTORY}"


def problem_said(entry: Entry) -> bool:
    """Say on stderr what is wrong with the log at an entry; whether something is."""
    if entry.problem:
        click.echo(f"{entry.path}:{entry.number}: {entry.problem}", err=True)
    return bool(entry.problem)


class Output:
    """Prints the records that are meant; what is wrong with the log goes to stderr and is counted in `problems`."""

    def __init__(self, selection: Selection, as_json: bool) -> None:
        self._selection = selection
        self._table = None if as_json else log_table.Writer()
        self.problems = 0

    def show(self, entries: Iterable[Entry], last: int | None) -> None:
        """Print all, or the `last` so many, holding no more than these."""
        records = self.meant(entries)
        for record in records if last is None else deque(records, maxlen=last):
            self.print(record)
        self.flush()

    def meant(self, entries: Iterable[Entry]) -> Iterator[Record]:
        """The records among entries that are meant."""
        for entry in entries:
            self.problems += problem_said(entry)
            if entry.record and self._selection.matches(entry.record):
                yield entry.record

    def print(self, record: Record) -> None:
        """Print a record, at the latest when flush() is called."""
        if self._table:
            self._table.add(record)
        else:
            sys.stdout.write(json.dumps(record, ensure_ascii=True, separators=(",", ":")) + "\n")

    def flush(self) -> None:
        """See that all is printed."""
        if self._table:
            self._table.flush()
        sys.stdout.flush()


def _follow(source: Path, output: Output, before: int) -> None:
    """Print what is there and what comes until somebody interrupts, or nobody reads any more."""
    follower = Follower(source)
    try:
        entries = follower.entries()
        output.show(_now(entries), before)
        while not _unread(_PAUSE):
            output.show(_now(entries), None)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        follower.close()


def _now(entries: Iterator[Entry | None]) -> Iterator[Entry]:
    """The entries up to where there are no more for now."""
    for entry in entries:
        if entry is None:
            return
        yield entry


def _unread(milliseconds: int) -> bool:
    """Wait; whether stdout is a pipe that its reader has closed (POLLERR, poll(2))."""
    waiting = select.poll()
    waiting.register(sys.stdout.fileno(), 0)
    return bool(waiting.poll(milliseconds))
