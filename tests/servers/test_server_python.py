"""Python FHIR servers: fhirstarter behind TLS under its profile; gunicorn, uvloop, psycopg under the generic one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from host.machine import Host
from servers.fhir_server import FULL, KINDS, PROGRAMS, Server, assert_confined
from servers.kernel_log import ERRNO, KernelLog
from servers.stack import GUNICORN, Daemon, fallen_back, named

CANARY = "/probe/try"
WHERE = ("runc:root", "runc:rootless", "crun:root", "crun:rootless")
# libraries beside a server, each by itself
LIBRARIES = """
import asyncio, concurrent.futures, multiprocessing, sqlite3, threading, venv
import numpy, psycopg, uvloop
async def wait(): await asyncio.sleep(0.01); return await (await asyncio.create_subprocess_exec("/bin/true")).wait()
assert uvloop.run(wait()) == 0
numpy.linalg.inv(numpy.random.rand(300, 300)); list(range(10**7))
with multiprocessing.Pool(2) as pool: assert pool.map(abs, [-1, -2]) == [1, 2]
db = sqlite3.connect("/tmp/file.db"); db.execute("pragma journal_mode=wal"); db.execute("create table t (a)")
db.execute("insert into t values (1)"); db.commit(); db.execute("vacuum"); db.close()
queue = multiprocessing.Queue(); lock = multiprocessing.Lock()
venv.create("/tmp/venv", symlinks=True)
with psycopg.connect("postgresql://fhir:fhir@127.0.0.1/fhirdb") as connection:
    assert connection.execute("select 1").fetchone() == (1,)
print("all of them")
"""


@pytest.fixture(scope="module")
def certificate(host: Host) -> Path:
    """A folder with a certificate that signed itself, and its key."""
    folder = host.directory()
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    host.run([*new, "-subj", "/CN=x", "-keyout", "key.pem", "-out", "certificate.pem"], cwd=folder, check=True)
    (folder / "key.pem").chmod(0o644)
    return folder


def test_fhirstarter_serves_over_tls_and_ipv6(
    host: Host, daemon: Callable[..., Daemon], certificate: Path, runtime: str
) -> None:
    kind = KINDS["fhirstarter"]
    files = ["--ssl-keyfile", "/tls/key.pem", "--ssl-certfile", "/tls/certificate.pem"]
    words = [*files, "--host", "::", "--port", "8443"]
    host.load(kind.tag)
    id = host.start(kind.tag, "-v", f"{certificate}:/tls:ro", runtime=runtime, command=words)
    try:
        server = Server(host, kind, id, runtime, None)
        body = '{"resourceType": "Patient", "name": [{"family": "Smith"}]}'
        sent = ["-k", "--retry", "60", "--retry-connrefused", "--retry-delay", "1", "-d", body, "-w", "%{http_code}"]
        done = host.http(id, "https://[::1]:8443/Patient", "-H", "Content-Type: application/fhir+json", *sent)
        assert done.stdout.endswith("201"), done.stdout + done.stderr + server.logs()
        assert_confined(server)
        assert server.stop() == kind.exit_code
    finally:
        host.podman("rm", "-f", "-t", "0", id)


def test_the_generic_profile_denies_the_standard_library_nothing(
    host: Host, serve: Callable[..., Server], logged: list[str], uid: int
) -> None:
    """python_calls.py goes through it: files, databases, processes, threads, sockets, event loops."""
    kind = KINDS["fhirstarter"]
    program = PROGRAMS / "python_calls.py"
    host.load(kind.tag)
    with KernelLog(uid) as log:
        tag = named(host, kind, "fhir-python")
        server = serve(kind, *logged, "-v", f"{program}:/python_calls.py:ro", tag=tag, runtime="crun")
        assert_confined(server, "fhir-python")
        server.exec(CANARY, "keyctl")
        log.wait_for(CANARY, "keyctl")
        server.work(load=2)
        said = server.exec("/usr/bin/python3", "/python_calls.py").stdout.splitlines()[:-1]
        server.exec(CANARY, "bpf")
        log.wait_for(CANARY, "bpf")
        assert server.stop() == kind.exit_code
    assert [line for line in said if not line.endswith(" ok")] == []
    assert log.beyond(fallen_back(), CANARY) == {}
    assert set(log.codes) == {ERRNO}


if FULL:

    @pytest.mark.parametrize("where", WHERE)
    def test_gunicorn_with_workers_and_uvloop_works_under_the_generic_profile(
        serve: Callable[..., Server], where: str
    ) -> None:
        runtime, who = where.split(":")
        server = serve(GUNICORN, runtime=runtime, user=None if who == "root" else who)
        assert_confined(server)
        assert server.inspected()["processes"] >= 3
        # each worker has data of its own, so that only single requests make sense
        for _ in range(50):
            assert server.host.http(server.id, server.url() + "/metadata", "-f", user=server.user).returncode == 0
        server.podman("kill", "-s", "HUP", server.id, check=True)
        server.wait()
        assert server.stop() == 0, server.logs()

    def test_nothing_that_python_libraries_need_is_denied(
        host: Host, serve: Callable[..., Server], daemon: Callable[..., Daemon], logged: list[str], uid: int
    ) -> None:
        """psycopg with PostgreSQL in the same network, numpy, uvloop, pools of processes, virtual environments."""
        db = daemon("postgresql")
        with KernelLog(uid) as log:
            server = serve(GUNICORN, *logged, "--network", f"container:{db.id}", runtime="crun")
            server.exec(CANARY, "keyctl")
            log.wait_for(CANARY, "keyctl")
            assert server.exec("/venv/bin/python3", "-c", LIBRARIES).stdout == "all of them\n"
            server.exec(CANARY, "bpf")
            log.wait_for(CANARY, "bpf")
            assert server.stop() == 0, server.logs()
        # numpy asks for memory of one node
        assert log.beyond(fallen_back() | {"mbind"}, CANARY) == {}
