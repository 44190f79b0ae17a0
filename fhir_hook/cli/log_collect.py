"""fhir-hook log collect and send: what users' containers were decided on reaches the host's log."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path

import click

from fhir_hook.audit.cursor import CursorError
from fhir_hook.audit.places import Places
from fhir_hook.cli.failure import Failed
from fhir_hook.cli.log_checkpoint import failures
from fhir_hook.cli.log_verify import json_option
from fhir_hook.collect import sender, server
from fhir_hook.collect.users import Limits, Users
from fhir_hook.core import paths
from fhir_hook.store import files, log

SOCKET = "/run/fhir-hook/collect.sock"
_STATE = f"{paths.STATE}/collect"
_PASSED = 3  # sd_listen_fds(3)
socket_option = click.option("--socket", "path", default=SOCKET, show_default=True, help="The collector's socket.")


@click.command("collect")
@socket_option
@json_option
def collect(path: str, as_json: bool) -> None:
    """Take the records of users who run containers rootless into the host's log; a service, started by its socket.

    The record's user is who the kernel says. A user can add records, in bounds, and nothing else.
    """
    if files.outer_uid() != 0:
        raise Failed("the host's log is root's: run it as root; 'fhir-hook log send' sends a user's own records")
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))
    with failures():
        users = Users(Path(_STATE), Path(log.directory()))
        listening = _listening(path)
        collector = server.Collector(listening, users, Limits())
        collector.run(lambda: not stopped)
    counts = {"taken": collector.taken, "refused": collector.refused}
    click.echo(json.dumps(counts) if as_json else f"took {collector.taken} records, refused {collector.refused}")


def _listening(path: str) -> socket.socket:
    """The socket that systemd passed, or one of our own."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=_PASSED)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).unlink(missing_ok=True)
    listening.bind(path)
    os.chmod(path, 0o666)  # whoever may connect is told apart by the kernel
    listening.listen(server.CONNECTIONS)
    return listening


@click.command("send")
@socket_option
@json_option
def send(path: str, as_json: bool) -> None:
    """Send the user's own records to the host's log, from where it stood; what can't be sent stays for the next time.

    Exit code 1: some records were refused, which are in the user's own log alone.
    """
    if files.outer_uid() == 0:
        raise Failed("root's records are in the host's log already")
    places = Places.default()
    with failures():
        try:
            found = sender.Sender(path, places.log, places.tree.parent / "forward" / "host")
            found.run()
        except (CursorError, sender.SendError) as error:
            raise Failed(f"{error}; what was not sent stays for the next time") from None
    for seq, why in found.refused[:10]:
        click.echo(f"fhir-hook: record {seq} was refused: {why}", err=True)
    if as_json:
        click.echo(json.dumps({"sent": found.sent, "refused": len(found.refused), "wait": found.wait}))
    else:
        later = f"; the rest in {found.wait} s: the host takes so many at a time" if found.wait else ""
        click.echo(f"sent {found.sent} records{later}")
    sys.exit(1 if found.refused else 0)
