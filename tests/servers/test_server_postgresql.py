"""The JPA server with PostgreSQL as its database, in one pod: each container under a profile of its own.

Only with FHIR_HOOK_SERVERS=all: the JPA server takes a minute to start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from host.machine import Host
from servers.fhir_server import FULL, KINDS, Server, assert_confined
from servers.stack import Daemon

JPA = KINDS["jpa"]
DATABASE = {
    "spring.datasource.url": "jdbc:postgresql://127.0.0.1:5432/fhirdb",
    "spring.datasource.username": "fhir",
    "spring.datasource.password": "fhir",
    "spring.datasource.driverClassName": "org.postgresql.Driver",
    "spring.jpa.properties.hibernate.dialect": "ca.uhn.fhir.jpa.model.dialect.HapiFhirPostgres94Dialect",
}


@pytest.fixture
def pod(host: Host) -> Iterator[tuple[str, ...]]:
    """Options that put a container into a new pod without a network beyond itself."""
    id = host.podman("pod", "create", "--network", "none", check=True).stdout.strip()
    infra = host.podman("pod", "inspect", "-f", "{{.InfraContainerID}}", id, check=True).stdout.strip()
    yield ("--pod", id, "--network", f"container:{infra}")
    host.podman("pod", "rm", "-f", "-t", "0", id)


if FULL:

    @pytest.mark.timeout(900)
    def test_hapi_keeps_its_data_in_postgresql_and_both_are_confined(
        serve: Callable[..., Server], daemon: Callable[..., Daemon], pod: tuple[str, ...], runtime: str
    ) -> None:
        database = daemon("postgresql", *pod, "-v", "/data", runtime=runtime)
        # the image's own variable comes before the JSON
        settings = ("-e", f"SPRING_APPLICATION_JSON={json.dumps(DATABASE)}", "--unsetenv", "SPRING_DATASOURCE_URL")
        server = serve(JPA, *pod, *settings, runtime=runtime)
        assert_confined(database)
        assert_confined(server)
        server.work(load=5)
        assert int(database.sql("select count(*) from hfj_resource", database="fhirdb")) > 5
        assert server.stop() == JPA.exit_code, server.logs()
        assert database.stop() == 0, database.logs()
        for container in (database, server):
            container.podman("start", container.id, check=True)
            container.wait()
        assert_confined(server)
        found = server.host.http(server.id, server.url() + "/Patient?_summary=count")
        assert json.loads(found.stdout)["total"] > 0
        server.work()
