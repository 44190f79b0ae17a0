#!/usr/bin/python3
"""A FHIR client that uses a server as its clients do, and counts what did not come back as FHIR says.

    workload.py URL [FEATURE...] [--load SECONDS] [--clients N] [--examples FILE]

FEATURE: update patch vread history paging xml transaction chained validate delete. Metadata, create, read and search
are always done; with --examples also the creation of every resource in FILE, one JSON document a line.
Prints one JSON object: {"requests": N, "wrong": ["METHOD path: what came back"...]}; ends with 1 when something was.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import ssl
import sys
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

JSON = "application/fhir+json"
XML = "application/fhir+xml"


class Client:
    """One connection, kept open."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self.base = parts.path.rstrip("/")
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            # the certificate is the server's own, made at its start
            anyone = ssl._create_unverified_context()
            self.connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=60, context=anyone
            )
        else:
            self.connection = http.client.HTTPConnection(host, port, timeout=60)
        self.requests = 0
        self.wrong: list[str] = []

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        wants: tuple[int, ...] = (200,),
        kind: str = JSON,
        headers: dict[str, str] | None = None,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request; an answer whose status is none of `wants` is noted as wrong."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        given = {"Accept": kind, **({"Content-Type": kind} if data is not None else {}), **(headers or {})}
        try:
            self.connection.request(method, f"{self.base}/{path}", body=data, headers=given)
            answer = self.connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.wrong.append(f"{method} {path}: {type(error).__name__}: {error}")
            raise
        self.requests += 1
        if answer.status not in wants:
            self.wrong.append(f"{method} {path}: {answer.status} {text[:300]!r}")
        return answer, text

    def expect(self, holds: bool, what: str, text: bytes) -> None:
        """Note what came back when it is not what it should be."""
        if not holds:
            self.wrong.append(f"{what}: {text[:300]!r}")


def patient(family: str, **more: Any) -> dict[str, Any]:
    """A patient."""
    return {"resourceType": "Patient", "name": [{"family": family, "given": ["Alice"]}], "gender": "female", **more}


def create(client: Client, family: str, **more: Any) -> str:
    """Creates a patient; returns its id, "" when that failed."""
    answer, text = client.ask("POST", "Patient", patient(family, **more), wants=(201,))
    parts = (answer.getheader("Location") or "").split("/_history/")[0].rsplit("/Patient/", 1)
    client.expect(len(parts) == 2, "Location of a created patient", text)
    return parts[-1]


def every_step(client: Client, features: set[str]) -> None:
    """Each kind of request once."""
    family = f"Smith{random.randrange(10**9)}"
    _, text = client.ask("GET", "metadata")
    client.expect(b"CapabilityStatement" in text, "metadata", text)
    id = create(client, family)
    _, text = client.ask("GET", f"Patient/{id}")
    client.expect(family.encode() in text, "read", text)
    _, text = client.ask("GET", f"Patient?family={family}")
    client.expect(json.loads(text).get("total", 1) == 1 and id.encode() in text, "search", text)
    client.ask("GET", "Patient/none-of-this-id", wants=(404,))
    client.ask("POST", "Patient", b"{this is no JSON", wants=(400, 422))
    # larger than the buffers of servers, and than a segment of TCP
    narrative = '<div xmlns="http://www.w3.org/1999/xhtml">' + "large " * 50_000 + "</div>"
    create(client, family + "Large", text={"status": "generated", "div": narrative})
    client.ask("GET", f"Patient?family={family}Large", headers={"Accept-Encoding": "gzip"})
    for feature, step in STEPS.items():
        if feature in features:
            step(client, id, family)


def update(client: Client, id: str, family: str) -> None:
    """Update and read again."""
    client.ask("PUT", f"Patient/{id}", patient(family, id=id, birthDate="1974-12-25"), wants=(200, 201))
    _, text = client.ask("GET", f"Patient/{id}")
    client.expect(b"1974-12-25" in text, "read after update", text)


def patch(client: Client, id: str, family: str) -> None:
    """JSON Patch."""
    body = [{"op": "replace", "path": "/gender", "value": "other"}]
    client.ask("PATCH", f"Patient/{id}", body, headers={"Content-Type": "application/json-patch+json"})
    _, text = client.ask("GET", f"Patient/{id}")
    client.expect(b"other" in text, "read after patch", text)


def vread(client: Client, id: str, family: str) -> None:
    """The first version of a patient."""
    _, text = client.ask("GET", f"Patient/{id}/_history/1")
    client.expect(family.encode() in text and b"1974-12-25" not in text, "vread", text)


def history(client: Client, id: str, family: str) -> None:
    """All versions of a patient."""
    _, text = client.ask("GET", f"Patient/{id}/_history")
    client.expect(len(json.loads(text).get("entry", [])) >= 2, "history", text)


def paging(client: Client, id: str, family: str) -> None:
    """A search whose answer comes in pages of two, followed to its end."""
    made = {create(client, f"{family}Paged") for _ in range(5)}
    path, seen = f"Patient?family={family}Paged&_count=2", set()
    for _ in range(5):
        _, text = client.ask("GET", path)
        bundle = json.loads(text)
        page = {entry["resource"]["id"] for entry in bundle.get("entry", [])}
        client.expect(1 <= len(page) <= 2 and not page & seen, "a page", text)
        seen |= page
        following = [link["url"] for link in bundle.get("link", []) if link["relation"] == "next"]
        if not following:
            break
        parts = urllib.parse.urlsplit(following[0])
        path = parts.path.removeprefix(client.base).lstrip("/") + "?" + parts.query
    client.expect(seen == made, "all pages", repr(seen ^ made).encode())


def xml(client: Client, id: str, family: str) -> None:
    """The other format, both ways."""
    _, text = client.ask("GET", f"Patient/{id}", kind=XML)
    client.expect(b"<Patient" in text, "XML", text)
    body = f'<Patient xmlns="http://hl7.org/fhir"><name><family value="{family}Xml"/></name></Patient>'
    client.ask("POST", "Patient", body.encode(), wants=(201,), kind=XML)


def transaction(client: Client, id: str, family: str) -> None:
    """A patient and an observation of it, in one transaction."""
    reference = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "weight"},
        "subject": {"reference": reference},
        "valueQuantity": {"value": 65, "unit": "kg"},
    }
    entries = [
        {"fullUrl": reference, "resource": patient(family + "Bundle"), "request": {"method": "POST", "url": "Patient"}},
        {"resource": observation, "request": {"method": "POST", "url": "Observation"}},
    ]
    _, text = client.ask("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    client.expect(text.count(b"201 Created") == 2, "transaction", text)


def chained(client: Client, id: str, family: str) -> None:
    """A search by a property of what is referred to, after the transaction."""
    _, text = client.ask("GET", f"Observation?subject:Patient.family={family}Bundle&_include=Observation:subject")
    client.expect(b"valueQuantity" in text, "chained search", text)


def validate(client: Client, id: str, family: str) -> None:
    """$validate of a good and of a bad patient."""
    client.ask("POST", "Patient/$validate", patient(family))
    _, text = client.ask("POST", "Patient/$validate", patient(family, gender="nonsense"), wants=(200, 400, 412, 422))
    client.expect(b"error" in text, "$validate of a wrong code", text)


def delete(client: Client, id: str, family: str) -> None:
    """Delete, and then it is gone."""
    client.ask("DELETE", f"Patient/{id}", wants=(200, 204))
    client.ask("GET", f"Patient/{id}", wants=(404, 410))


# in this order: delete comes last, since the others need the patient
STEPS = {
    "update": update,
    "patch": patch,
    "vread": vread,
    "history": history,
    "paging": paging,
    "xml": xml,
    "transaction": transaction,
    "chained": chained,
    "validate": validate,
    "delete": delete,
}


def mix(client: Client, until: float) -> None:
    """Create 10, read 60, update 23, search 2, delete 5 of 100; a new connection every 200 requests."""
    family = f"Load{random.randrange(10**9)}"
    ids = [create(client, family)]
    chance = random.Random(family)
    while time.monotonic() < until:
        if client.requests % 200 == 0:
            client.connection.close()
        turn, id = chance.random(), chance.choice(ids)
        if turn < 0.10:
            ids.append(create(client, family))
        elif turn < 0.70:
            client.ask("GET", f"Patient/{id}")
        elif turn < 0.93:
            client.ask("PUT", f"Patient/{id}", patient(family, id=id), wants=(200, 201))
        elif turn < 0.95:
            client.ask("GET", f"Patient?family={family}")
        elif len(ids) > 1:
            ids.remove(id)
            client.ask("DELETE", f"Patient/{id}", wants=(200, 204))


def examples(client: Client, file: Path) -> None:
    """Creates every resource of a file, and reads it again."""
    for line in file.read_text().splitlines():
        kind = json.loads(line)["resourceType"]
        answer, _ = client.ask("POST", kind, line.encode(), wants=(201,))
        place = (answer.getheader("Location") or "").split("/_history/")[0]
        client.ask("GET", f"{kind}/{place.rsplit('/', 1)[-1]}")


def load(url: str, seconds: float, clients: int) -> list[Client]:
    """Several clients at once."""
    crowd = [Client(url) for _ in range(clients)]
    until = time.monotonic() + seconds

    def begin(client: Client) -> None:
        try:
            mix(client, until)
        except (OSError, http.client.HTTPException):
            return  # noted by the client

    threads = [threading.Thread(target=begin, args=(client,)) for client in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return crowd


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("features", nargs="*", choices=[*STEPS, []])
    parser.add_argument("--load", type=float, default=0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--examples", type=Path)
    given = parser.parse_args()
    first = Client(given.url)
    every_step(first, set(given.features))
    if given.examples:
        examples(first, given.examples)
    clients = [first, *(load(given.url, given.load, given.clients) if given.load else [])]
    wrong = [line for client in clients for line in client.wrong]
    print(json.dumps({"requests": sum(client.requests for client in clients), "wrong": wrong[:20]}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
