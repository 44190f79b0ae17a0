"""HAPI behind its own TLS, with HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from host.machine import Host
from servers.fhir_server import KINDS, Server, assert_confined

HTTPS = dataclasses.replace(KINDS["plain"], scheme="https", port=8443)


def test_hapi_serves_over_tls(host: Host, serve: Callable[..., Server]) -> None:
    keys = host.directory()
    make = ["keytool", "-genkeypair", "-keyalg", "RSA", "-dname", "CN=localhost", "-alias", "server"]
    host.run([*make, "-storepass", "changeit", "-keystore", keys / "keys.p12"], check=True)
    (keys / "keys.p12").chmod(0o644)
    server = serve(HTTPS, "-v", f"{keys}:/keys:ro", "-e", "KEYSTORE=/keys/keys.p12")
    assert_confined(server)
    assert server.work(load=2) > 50
    for version in ("--http1.1", "--http2"):
        asked = ("-f", version, "-o", "/dev/null", "-w", "%{http_version}")
        done = host.http(server.id, server.url() + "/metadata", *asked)
        assert done.stdout == version.removeprefix("--http"), done.stderr
    body = ("-H", "Content-Type: application/fhir+json", "-d", '{"resourceType":"Patient"}', "--http2")
    assert '"resourceType":"Patient"' in host.http(server.id, server.url() + "/Patient", "-f", *body).stdout
    assert server.stop() == HTTPS.exit_code, server.logs()
