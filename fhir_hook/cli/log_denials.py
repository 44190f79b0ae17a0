"""fhir-hook log watch: what the kernel denied, joined with what was decided."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import click

from fhir_hook.cli.failure import Failed
from fhir_hook.cli.log_checkpoint import failures
from fhir_hook.cli.log_verify import json_option
from fhir_hook.core import paths
from fhir_hook.denials import watch
from fhir_hook.denials.counting import Limits
from fhir_hook.denials.stand import Stand
from fhir_hook.store import log

_STAND = f"{paths.STATE}/denials"
_VERBS = {"errno": "denied", "log": "would be denied", "kill": "killed it", "trap": "trapped"}
_MAPPED = {
    "unmapped": "in a container that is not known",
    "remembered": "the process had ended",
    "session": "told by its login session",
}
_WHATS = {
    "watching": "denials are watched from here on",
    "stopped": "denials are not watched from here on",
    "lost": "the kernel lost records of denials",
    "unobservable": "denials can't be observed",
}
_TELL_AGAIN = 600.0  # seconds


def described(record: dict[str, Any]) -> str:
    """What a record of the events denial and watch says, in one line; its text is still to be made printable."""
    if record.get("event") == "denial":
        call = record.get("call") or "calls that are not told apart"
        verb = _VERBS.get(str(record.get("action")), str(record.get("action", "")))
        parts = [f"{call} {verb}".strip(), _times(record.get("count")), str(record.get("exe", ""))]
        if record.get("comm") and not str(record.get("exe", "")).endswith(f"/{record['comm']}"):
            parts.append(f"as {record['comm']}")
        parts.append(_MAPPED.get(str(record.get("mapped")), ""))
        if record.get("container") and record.get("decided_by") is None:
            parts.append("no decision in this log")
        return ", ".join(filter(None, parts))
    what = str(record.get("what"))
    findings = record.get("findings")
    texts = [str(item.get("text")) for item in findings if isinstance(item, dict)] if isinstance(findings, list) else []
    members = (("ways", "by"), ("lost", ""), ("times", "times"), ("seen", "seen"), ("elsewhere", "in no container"))
    said = [f"{words} {_joined(record[name])}".strip() for name, words in members if name in record]
    return "; ".join([_WHATS.get(what, what), *texts, *said])


def _times(count: Any) -> str:
    return "once" if count == 1 else f"{count:,} times" if isinstance(count, int) else ""


def _joined(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


class _Goes:
    """Whether watching goes on: until the time is up, or SIGTERM or SIGINT."""

    def __init__(self, seconds: float | None, watcher: watch.Watcher) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._stopped = False
        self._watcher = watcher
        self._said, self._when = "", 0.0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, *_: object) -> None:
        self._stopped = True

    def __call__(self) -> bool:
        problem, now = self._watcher.problem, time.monotonic()
        if problem and (problem != self._said or now - self._when > _TELL_AGAIN):
            click.echo(f"fhir-hook: {problem}; it is tried again", err=True)
            self._said, self._when = problem, now
        return not self._stopped and (self._end is None or now < self._end)


@click.command("watch")
@click.option("--for", "seconds", type=click.FloatRange(0), help="End after so many seconds; default: never.")
@click.option("--once", is_flag=True, help="Read what the kernel log holds, and end.")
@click.option("--every", default=10.0, show_default=True, type=click.FloatRange(0.01), metavar="MINUTES",
              help="Tell of growing counts at most so often.")  # fmt: skip
@json_option
def watch_command(seconds: float | None, once: bool, every: float, as_json: bool) -> None:
    """Write denied system calls to the log, by container, as the kernel tells of them; for a service.

    Calls are counted, not listed. What was denied while nobody watched is read from the kernel log, if it is there
    still. docs/denials.md says what can't be seen.
    """
    if once and seconds is not None:
        raise click.UsageError("--once ends by itself: leave --for out")
    with failures():
        try:
            watcher = watch.Watcher(Path(log.directory()), Stand(Path(_STAND)), Limits(every=every * 60), earlier=once)
        except PermissionError as error:
            raise Failed(f"the kernel's records can't be read: {error.strerror}; run it as root of the host") from None
        try:
            if once:
                watcher.once()
            else:
                click.echo(f"watching by: {', '.join(watcher.ways)}", err=True)
                watcher.run(_Goes(seconds, watcher))
        finally:
            watcher.close()
    if as_json:
        counts = {"seen": watcher.seen, "elsewhere": watcher.elsewhere, "records": watcher.written}
        click.echo(json.dumps({**counts, "ways": watcher.ways}))
    else:
        click.echo(f"{watcher.seen} denials, {watcher.elsewhere} of them in no container; {watcher.written} records")
