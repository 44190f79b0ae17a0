"""Asking witnesses for cosignatures (C2SP tlog-witness, client side), and keeping the newest for each.

What a witness has seen is known from its answers: the cosigned checkpoint is kept in tree/witnessed/, by the witness'
key, and a size that it names (409) is believed only for choosing which proof to send.
"""

from __future__ import annotations

import http.client
import urllib.parse
from pathlib import Path

from fhir_hook.audit import checkpoint, merkle, note, tiles
from fhir_hook.audit.checkpoint import Checkpoint, Signed
from fhir_hook.audit.places import Places
from fhir_hook.store import files

SECONDS = 20.0
_LIMIT = 1 << 16


class WitnessError(Exception):
    """A witness gave no cosignature; str() is one line."""


class Conflict(WitnessError):
    """A witness has cosigned something that this log does not hold: one of the two shows another history."""


def directory(places: Places) -> Path:
    """Where the cosigned checkpoints are kept."""
    return places.tree / "witnessed"


def last(places: Places, witness: note.Verifier, known: list[note.Verifier]) -> Signed | None:
    """The newest checkpoint that a witness has cosigned, as it was kept; None when there is none."""
    try:
        data = files.read(str(directory(places) / witness.id.hex()), _LIMIT)
        return checkpoint.opened(data, [*known, witness])
    except (OSError, files.FileError, checkpoint.CheckpointError):
        return None


def ask(places: Places, url: str, witness: note.Verifier, signed: Signed, known: list[note.Verifier]) -> Signed:
    """Have `witness` at `url` cosign `signed`; returns it with the cosignature, kept durably.

    Raises WitnessError, and Conflict when the witness holds a history that this log has not; OSError, tiles.TilesError.
    """
    before = last(places, witness, known)
    old = before.checkpoint.size if before else 0
    for _ in range(2):
        status, body = _post(url, _request(places, old, signed.checkpoint, signed.data))
        if status == 409:
            said = body.strip().decode("ascii", "replace")
            if not said.isdigit() or len(said) > 18 or int(said) == old:
                raise Conflict(f"{url} has cosigned another tree of {old} records: one of the two histories is false")
            old = int(said)
            if old > signed.checkpoint.size:
                raise Conflict(
                    f"{url} has cosigned {old} records, this log has {signed.checkpoint.size}: its end was cut off, "
                    "or another host signs as this log"
                )
            continue
        if status == 422:
            raise Conflict(f"{url} has cosigned another history than this log's ({_shown(body)})")
        if status != 200:
            raise WitnessError(f"{url} answers {status}: {_shown(body)}")
        return _kept(places, witness, signed, body, known, url)
    raise WitnessError(f"{url} names another size each time it is asked")


def _request(places: Places, old: int, now: Checkpoint, data: bytes) -> bytes:
    with tiles.Tiles(places.tree) as stored:
        path = merkle.consistency_proof(stored.subtree, old, now.size)
    lines = "".join(f"{note.base64_of(each)}\n" for each in path)
    return f"old {old}\n{lines}\n".encode() + data


def _kept(
    places: Places, witness: note.Verifier, signed: Signed, body: bytes, known: list[note.Verifier], url: str
) -> Signed:
    """The checkpoint with the witness' line, verified and written down; lines of other keys are left out."""
    try:
        found = note.opened(signed.data + body, [*known, witness])
        lines = [signature for signature in found.verified if signature.id == witness.id]
        text, own = note.split(signed.data)
        data = note.written(text, own + lines)
        if not lines:
            raise WitnessError(f"{url} answers without a cosignature of {witness.name}")
        result = checkpoint.opened(data, [*known, witness])
    except (note.NoteError, checkpoint.CheckpointError) as error:
        raise WitnessError(f"{url}: {error}") from None
    directory(places).mkdir(parents=True, exist_ok=True)
    files.replace(str(directory(places) / witness.id.hex()), data)
    return result


def _post(url: str, body: bytes) -> tuple[int, bytes]:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WitnessError(f"{url!r} is no address of a witness: http://HOST:PORT or https://HOST")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname, parts.port, timeout=SECONDS)
        connection.request("POST", f"{parts.path.rstrip('/')}/add-checkpoint", body)
        answer = connection.getresponse()
        return answer.status, answer.read(_LIMIT)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise WitnessError(f"{url} can't be reached: {error or type(error).__name__}") from None


def _shown(body: bytes) -> str:
    return ascii(body[:200].decode("utf-8", "replace").strip())
