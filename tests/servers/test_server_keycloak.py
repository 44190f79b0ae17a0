"""Keycloak 26.7.3 under its profile: TLS, tokens, the admin API, a database in a file, its script as entry point.

Only with FHIR_HOOK_SERVERS=all, since it starts in a minute and its image downloads 180 MB.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from host.machine import Host
from servers.fhir_server import FULL, Kind, Server, assert_confined, no_capabilities
from servers.kernel_log import KernelLog
from servers.test_server_liberty import EXPECTED

KEYCLOAK = Kind(
    "keycloak",
    "keycloak:26.7.3",
    "",
    (),
    "keycloak",
    143,
    scheme="https",
    port=8443,
    ready="/realms/master/.well-known/openid-configuration",
)
DATA = ("--tmpfs", "/opt/keycloak/data:mode=1777", "--tmpfs", "/tmp:mode=1777")
CANARY = "/probe/try"


class Keycloak:
    """Its own API, as an application and an administrator use it."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def ask(self, path: str, *options: str, port: int = 8443) -> Any:
        """What it answers, as JSON or text; AssertionError for an error."""
        url = f"{'http' if port == 8180 else 'https'}://127.0.0.1:{port}{path}"
        done = self.server.host.http(self.server.id, url, "-f", *options, user=self.server.user)
        assert done.returncode == 0, f"{path}: {done.stderr}\n{self.server.logs()}"
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout

    def token(self, realm: str, client: str, user: str, password: str) -> str:
        """An access token by the password grant."""
        form = f"grant_type=password&client_id={client}&username={user}&password={password}"
        answer = self.ask(f"/realms/{realm}/protocol/openid-connect/token", "-d", form)
        return str(answer["access_token"])

    def create(self, path: str, **document: Any) -> None:
        """POST to the admin API, as the administrator."""
        bearer = f"Authorization: Bearer {self.token('master', 'admin-cli', 'admin', 'demo')}"
        kind = "Content-Type: application/json"
        self.ask(f"/admin/realms{path}", "-H", bearer, "-H", kind, "-d", json.dumps(document))

    def make_realm(self) -> None:
        """A realm with a client and a user, who signs in."""
        self.create("", realm="clinic", enabled=True)
        self.create("/clinic/clients", clientId="app", publicClient=True, directAccessGrantsEnabled=True)
        password = {"type": "password", "value": "pw"}
        names = {"firstName": "Alice", "lastName": "Smith", "email": "alice@example.org"}
        self.create("/clinic/users", username="alice", enabled=True, credentials=[password], **names)
        self.sign_in()

    def sign_in(self) -> None:
        """The user of the realm gets a token."""
        assert len(self.token("clinic", "app", "alice", "pw")) > 100

    def use(self) -> None:
        """Health, metrics, plain HTTP, many tokens."""
        assert self.ask("/health", port=9000)["status"] == "UP"
        assert "jvm_memory" in self.ask("/metrics", port=9000)
        assert self.ask("/realms/clinic", port=8180)["realm"] == "clinic"
        for _ in range(20):
            self.sign_in()


def ready(serve: Callable[..., Server], *options: str, **more: Any) -> tuple[Server, Keycloak]:
    """A started server, and its API."""
    server = serve(KEYCLOAK, *DATA, *options, **more)
    return server, Keycloak(server)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("where", ["runc:root", "crun:rootless"] if FULL else [])
def test_keycloak_works_under_its_profile(serve: Callable[..., Server], where: str) -> None:
    runtime, who = where.split(":")
    server, keycloak = ready(serve, runtime=runtime, user=None if who == "root" else who)
    assert_confined(server)
    assert no_capabilities(server.pid)
    keycloak.make_realm()
    keycloak.use()
    java = server.exec("/bin/sh", "-c", "jcmd -l | grep -v JCmd | cut -d' ' -f1").stdout.strip()
    assert "Metaspace" in server.exec("jcmd", java, "GC.heap_info").stdout
    assert server.stop() == KEYCLOAK.exit_code, server.logs()


if FULL:

    @pytest.mark.timeout(900)
    def test_keycloak_is_denied_nothing_that_it_needs_and_starts_again_on_its_data(
        host: Host, serve: Callable[..., Server], logged: list[str], uid: int
    ) -> None:
        data = host.directory()
        data.chmod(0o777)
        volumes = ("-v", f"{data}:/opt/keycloak/data", "--tmpfs", "/tmp:mode=1777")
        with KernelLog(uid) as log:
            server = serve(KEYCLOAK, *logged, *volumes, runtime="crun")
            keycloak = Keycloak(server)
            server.exec(CANARY, "keyctl")
            log.wait_for(CANARY, "keyctl")
            keycloak.make_realm()
            keycloak.use()
            assert server.stop() == KEYCLOAK.exit_code, server.logs()
            server.podman("start", server.id, check=True)
            server.wait()
            assert_confined(server)
            keycloak.sign_in()
            server.exec(CANARY, "bpf")
            log.wait_for(CANARY, "bpf")
            assert server.stop() == KEYCLOAK.exit_code, server.logs()
        assert log.beyond(EXPECTED, CANARY) == {}
