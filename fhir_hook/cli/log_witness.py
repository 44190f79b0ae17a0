"""fhir-hook log witness and witness-serve: a second machine that vouches for what it has seen."""

from __future__ import annotations

import json
import secrets
import shlex
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click

from fhir_hook.audit import cosigning, keys, note, standing, witness
from fhir_hook.audit.places import Places
from fhir_hook.cli.failure import Failed
from fhir_hook.cli.log_checkpoint import failures
from fhir_hook.cli.log_verify import json_option, verifiers
from fhir_hook.store import files

_KEY = "witness.key"


@click.command("witness")
@click.option("--url", required=True, help="Where the witness is: http://HOST:PORT or https://HOST.")
@click.option("--witness-key", "text", required=True, help="Its verifier key, from whoever runs it.")
@json_option
def ask(url: str, text: str, as_json: bool) -> None:
    """Have a witness cosign the newest checkpoint; exit code 1 when it has seen another history of this log."""
    places = Places.default()
    try:
        public = note.Verifier.parse(text)
    except note.NoteError as error:
        raise click.BadParameter(str(error)) from None
    if public.kind != note.COSIGNATURE:
        raise click.BadParameter("that is the key of a log, not of a witness")
    try:
        with failures():
            kept = keys.Keys(places.keys)
            signed, known = kept.signed(), kept.verifiers()
            if signed is None:
                raise Failed("nothing is signed yet: run 'fhir-hook log checkpoint'")
            way = (f"witness-{public.id.hex()}", f"the witness {public.name}", _again(url, text))
            try:
                found = cosigning.ask(places, url, public, signed, known)
            except cosigning.WitnessError as error:
                standing.keep(places, *way, problem=str(error))
                raise
            standing.keep(places, *way)
    except cosigning.Conflict as error:
        said = json.dumps({"cosigned": False, "problem": str(error)}) if as_json else f"fhir-hook: {error}"
        click.echo(said, err=not as_json)
        sys.exit(1)
    except cosigning.WitnessError as error:
        raise Failed(f"{error}; the checkpoint stays to be cosigned next time") from None
    size = found.checkpoint.size
    click.echo(json.dumps({"cosigned": True, "size": size}) if as_json else found.data.decode(), nl=as_json)


def _again(url: str, key: str) -> str:
    """The command that asks the witness again."""
    return f"fhir-hook log witness --url {shlex.quote(url)} --witness-key {shlex.quote(key)}"


class _Server(ThreadingHTTPServer):
    """The witness' HTTP server; requests are bounded in size and time."""

    daemon_threads = True
    witness: witness.Witness


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "fhir-hook-witness", ""
    protocol_version = "HTTP/1.1"
    timeout = 20
    server: _Server

    def do_POST(self) -> None:  # noqa: N802
        """add-checkpoint."""
        length = self.headers.get("Content-Length", "")
        if not self.path.endswith("/add-checkpoint"):
            self._answer(witness.Answer(404, "add-checkpoint is all there is\n"))
        elif not length.isdigit() or len(length) > 9 or int(length) > witness.LONGEST_REQUEST:
            self.close_connection = True
            self._answer(witness.Answer(413, "too long\n"))
        else:
            try:
                self._answer(self.server.witness.add(self.rfile.read(int(length))))
            except OSError as error:
                self._answer(witness.Answer(500, f"{error.strerror}\n"))

    def _answer(self, answer: witness.Answer) -> None:
        body = answer.body.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """One line for each request on stderr, without what strangers sent."""
        print(f"{self.client_address[0]} {args[1] if len(args) > 1 else ''}", file=sys.stderr, flush=True)


@click.command("witness-serve")
@click.option("--state", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where it keeps all.")
@click.option("--name", default="", help="What the witness is called, when its key is made.")
@click.option("--log-key", "given", multiple=True, required=True, help="Verifier key of a log, or a file of them.")
@click.option("--listen", default="127.0.0.1:7380", show_default=True, help="ADDRESS:PORT; put TLS in front of it.")
@json_option
def serve(state: Path, name: str, given: tuple[str, ...], listen: str, as_json: bool) -> None:
    """Be a witness for the logs whose keys are given; run it on another machine than theirs."""
    known = verifiers(given, copy=True)
    signer = _signer(state, name)
    address, _, port = listen.rpartition(":")
    if not port.isdigit():
        raise click.BadParameter("write ADDRESS:PORT", param_hint="--listen")
    try:
        server = _Server((address.strip("[]"), int(port)), _Handler)
    except OSError as error:
        raise Failed(f"{listen}: {error.strerror or error}") from None
    server.witness = witness.Witness(state, signer, known)
    at = f"{server.server_address[0]!s}:{server.server_address[1]}"
    key = str(signer.verifier)
    click.echo(json.dumps({"key": key, "listening": at}) if as_json else f"{key}\nlistening on {at}")
    sys.stdout.flush()
    server.serve_forever()


def _signer(state: Path, name: str) -> note.Signer:
    """The witness' key, made when it is started for the first time."""
    path = state / _KEY
    with failures():
        try:
            return note.Signer.parse(files.read(str(path), 1 << 12).decode("utf-8", "replace"))
        except FileNotFoundError:
            pass
        except (note.NoteError, files.FileError) as error:
            raise Failed(f"{path}: {error}") from None
        if not name:
            raise Failed("a new witness needs a name: --name witness.example.com")
        try:
            signer = note.Signer(name, secrets.token_bytes(32), note.COSIGNATURE)
        except note.NoteError as error:
            raise click.BadParameter(str(error), param_hint="--name") from None
        state.mkdir(parents=True, exist_ok=True)
        files.replace(str(path), (signer.secret() + "\n").encode(), 0o600)
        return signer
