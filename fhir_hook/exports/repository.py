"""Delivering AuditEvents to an audit record repository: FHIR batches over TLS (IHE ITI-20, option ATX: FHIR Feed).

An entry either updates the resource under the id that its record has (R4 http.html, update as create), or creates one
unless there is one with this tag (conditional create), which is ITI-20 to the letter. Both may be sent again: what was
kept once is not kept twice. A delivery that returns was accepted, entry by entry.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from fhir_hook.audit.cursor import Line
from fhir_hook.audit.deliver import DeliveryError, parsed
from fhir_hook.exports import fhir, writing
from fhir_hook.exports.hiding import hidden
from fhir_hook.exports.wording import clean

SECONDS = 60.0
BATCH = 100
MOST_NAMED = 20
_MOST_ANSWER = 64 << 20
_TAG_SYSTEM = "urn:ietf:rfc:3986"


class AddressError(Exception):
    """The address is none that can be delivered to; str() is one line."""


class Repository:
    """The repository at `base`, the service base URL; `authority` and `certificate` are files as for syslog.

    create: conditional creates in the place of updates. hide: no names that people chose. checkpoint: the file whose
    time is that of a checkpoint. `left_out` is the number of lines that no AuditEvent can be made of, `left` the
    digests of the first of them.
    """

    def __init__(
        self, base: str, authority: str | None, certificate: str | None, origin: str, create: bool, hide: bool,
        checkpoint: Path,
    ) -> None:  # fmt: skip
        self._host, self._port, self._path, secure = address(base)
        self._context = _context(authority, certificate) if secure else None
        self._origin, self._create, self._hide = origin, create, hide
        self._checkpoint = checkpoint
        self._connection: http.client.HTTPConnection | None = None
        self.left: list[str] = []
        self.left_out = 0

    def send(self, lines: Iterable[Line], checkpoint: str) -> None:
        """Deliver records, and the checkpoint as the log's AuditEvent about itself. Raises DeliveryError."""
        batch: list[tuple[str, dict[str, Any]]] = []
        left: list[str] = []
        for line in lines:
            resource = self._resource(line)
            if resource is None:
                left.append(line.digest)
                continue
            batch.append((f"record {line.seq}", resource))
            if len(batch) == BATCH:
                self._post(batch)
                batch = []
        if checkpoint:
            at = datetime.fromtimestamp(self._checkpoint.stat().st_mtime, UTC)
            batch.append(("a checkpoint", fhir.checkpoint_event(checkpoint, at, socket.gethostname())))
        if batch:
            self._post(batch)
        self.left_out += len(left)  # now, since what is not accepted is sent again
        self.left += left[: MOST_NAMED - len(self.left)]

    def _resource(self, line: Line) -> dict[str, Any] | None:
        record = parsed(line)
        try:
            return fhir.audit_event(hidden(record) if self._hide else record, line.digest, self._origin)
        except fhir.Unusable:
            return None

    def _post(self, batch: list[tuple[str, dict[str, Any]]]) -> None:
        make = _created if self._create else writing.entry
        document = {"resourceType": "Bundle", "type": "batch", "entry": [make(resource) for _, resource in batch]}
        status, answer = self._exchange(writing.text(document).encode("ascii"))
        if not 200 <= status < 300:
            raise DeliveryError(f"{self._host}: HTTP {status} for a batch: {_said(answer)}")
        entries = answer.get("entry")
        if not isinstance(entries, list) or len(entries) != len(batch):
            raise DeliveryError(f"{self._host}: the answer is no batch-response with {len(batch)} entries")
        for (what, _), entry in zip(batch, entries, strict=True):
            response = entry.get("response") if isinstance(entry, dict) else None
            said = str(response.get("status", "")) if isinstance(response, dict) else ""
            if said[:3] not in ("200", "201"):
                outcome = response.get("outcome") if isinstance(response, dict) else None
                why = clean(f"{said} {_said(outcome)}", 300)
                raise DeliveryError(f"{self._host}: {what} is not accepted: {why}")

    def _exchange(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """POST to the base; a connection that the server has closed meanwhile is made anew, once."""
        headers = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}
        for last in (self._connection is None, True):
            try:
                connection = self._connected()
                connection.request("POST", self._path, body, headers)
                response = connection.getresponse()
                data = response.read(_MOST_ANSWER)
                break
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if last:
                    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
                    raise DeliveryError(f"{self._host}:{self._port}: {clean(why)}") from None
        if response.will_close:
            self.close()
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        return response.status, answer if isinstance(answer, dict) else {}

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            if self._context is None:
                self._connection = http.client.HTTPConnection(self._host, self._port, timeout=SECONDS)
            else:
                self._connection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=SECONDS, context=self._context
                )
        return self._connection

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def address(base: str) -> tuple[str, int, str, bool]:
    """Host, port, path and whether TLS is used, of https://HOST[:PORT]/PATH; http only to this very host. Raises
    AddressError."""
    try:
        parts = urlsplit(base)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment or parts.username:
        raise AddressError(f"{ascii(base)} is no service base URL: write https://HOST[:PORT]/PATH")
    if not (parts.path.isascii() and parts.path.isprintable() and " " not in parts.path):
        raise AddressError(f"{ascii(base)} has characters that a URL does not have")
    secure = parts.scheme == "https"
    if not secure and not _is_here(host):
        raise AddressError("records leave this host by TLS only: write https://")
    return host, port or (443 if secure else 80), parts.path or "/", secure


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _context(authority: str | None, certificate: str | None) -> ssl.SSLContext:
    """The server's certificate is always verified; TLS 1.2 at least (IHE ITI-19)."""
    try:
        context = ssl.create_default_context(cafile=authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate:
            context.load_cert_chain(certificate)
    except (OSError, ssl.SSLError) as error:
        raise DeliveryError(f"{certificate or authority}: {error}") from None
    return context


def _created(resource: dict[str, Any]) -> dict[str, Any]:
    """A batch entry that creates the resource unless there is one of the same record."""
    digest = resource.pop("id")
    name = fhir.named(digest)
    tagged = {"resourceType": resource["resourceType"], "meta": {"tag": [{"system": _TAG_SYSTEM, "code": name}]}}
    condition = f"_tag={quote(f'{_TAG_SYSTEM}|{name}', safe='')}"
    request = {"method": "POST", "url": "AuditEvent", "ifNoneExist": condition}
    return {"resource": {**tagged, **resource}, "request": request}


def _said(outcome: Any) -> str:
    """What an OperationOutcome says."""
    issues = outcome.get("issue") if isinstance(outcome, dict) else None
    texts = [each.get("diagnostics") for each in issues if isinstance(each, dict)] if isinstance(issues, list) else []
    return clean("; ".join(text for text in texts if isinstance(text, str)), 300) or "no reason was given"
