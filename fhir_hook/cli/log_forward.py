"""fhir-hook log forward: records and checkpoints leave the host as they are made."""

from __future__ import annotations

import json
import shlex
import time
from hashlib import sha256
from pathlib import Path

import click

from fhir_hook.audit import cursor, deliver, standing
from fhir_hook.audit.places import Places
from fhir_hook.cli.failure import Failed
from fhir_hook.cli.log_checkpoint import failures
from fhir_hook.cli.log_verify import EXISTING, json_option

_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


@click.command("forward")
@click.option("--journal", is_flag=True, help="To the journal of this host.")
@click.option("--syslog", default="", help="To HOST:PORT, by syslog over TLS.")
@click.option("--ca", type=EXISTING, help="The authority that the server's certificate is from; default: the system's.")
@click.option("--certificate", type=EXISTING, help="This host's own certificate with its key, if the server wants one.")
@click.option("--follow", is_flag=True, help="Go on with what comes; for a service.")
@json_option
def forward(journal: bool, syslog: str, ca: Path | None, certificate: Path | None, follow: bool, as_json: bool) -> None:
    """Deliver what was not delivered yet. It goes on where it stood, whenever it was stopped or the receiver was away.

    A record may come twice after a kill, never not at all; each carries its seq and digest.
    """
    if journal == bool(syslog):
        raise click.UsageError("say where to: --journal, or --syslog HOST:PORT")
    places = Places.default()
    name = "journal" if journal else f"syslog-{sha256(syslog.encode()).hexdigest()[:12]}"
    with failures():
        try:
            to = deliver.Journal() if journal else _syslog(syslog, ca, certificate)
            called = "the journal" if journal else f"syslog {syslog}"
            option = "--journal" if journal else f"--syslog {shlex.quote(syslog)}"
            again = command_line(f"fhir-hook log forward {option}", ca, certificate)
            forwarder = Forwarder(places, name, to, called, again)
            count = forwarder.run() if not follow else forwarder.follow()
        except (cursor.CursorError, deliver.DeliveryError) as error:
            raise Failed(f"{error}; what was not delivered stays for the next time") from None
    click.echo(json.dumps({"delivered": count}) if as_json else f"delivered {count} records")


def command_line(start: str, ca: Path | None, certificate: Path | None) -> str:
    """The command that goes the same way again."""
    options = (("--ca", ca), ("--certificate", certificate))
    return " ".join([start, *(f"{option} {shlex.quote(str(path))}" for option, path in options if path)])


def _syslog(address: str, ca: Path | None, certificate: Path | None) -> deliver.Syslog:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise click.BadParameter("write HOST:PORT", param_hint="--syslog")
    files = [str(path) if path else None for path in (ca, certificate)]
    return deliver.Syslog(host.strip("[]"), int(port), *files)


class Forwarder:
    """Brings a delivery up to date with the log and its newest checkpoint."""

    def __init__(self, places: Places, name: str, to: deliver.Delivery, called: str, command: str) -> None:
        """`called`: where it goes, for people; `command`: what goes there again."""
        self._places = places
        self._to = to
        self._way = (name, called, command)
        self._cursor = cursor.Cursor(standing.directory(places) / name)
        self._seen = standing.directory(places) / f"{name}.checkpoint"

    def run(self) -> int:
        """Deliver everything that is there; returns the number of records. What became of it is written down."""
        try:
            count = self._run()
        except deliver.DeliveryError as error:
            standing.keep(self._places, *self._way, problem=str(error))
            raise
        standing.keep(self._places, *self._way)
        return count

    def _run(self) -> int:
        count = 0
        while True:
            lines = self._cursor.lines(self._places.log)
            checkpoint = "" if lines else self._checkpoint()
            if not lines and not checkpoint:
                return count
            self._to.send(lines, checkpoint)
            if lines:
                self._cursor.keep()
            if checkpoint:
                self._seen.parent.mkdir(parents=True, exist_ok=True)
                self._seen.write_text(checkpoint)
            count += len(lines)

    def _checkpoint(self) -> str:
        """The newest checkpoint, unless it was delivered already."""
        try:
            newest = self._places.checkpoint.read_text("utf-8")
        except FileNotFoundError:
            return ""
        return "" if self._seen.exists() and self._seen.read_text() == newest else newest

    def follow(self) -> int:
        """Deliver for ever; a receiver that is away is asked again, less and less often."""
        pause = _PAUSE
        while True:
            try:
                self.run()
                pause = _PAUSE
            except deliver.DeliveryError as error:
                click.echo(f"fhir-hook: {error}; trying again in {pause:.0f} s", err=True)
                self._cursor = self._cursor.again()
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            time.sleep(_PAUSE)
