"""The ways in which the software beside a FHIR server is run: TLS, root's entry points, signals, crashes, options."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from host.machine import Host, proc_status
from servers.fhir_server import FULL, KINDS, Server, assert_confined, wait_until_gone
from servers.stack import Daemon, kill_process, named
from servers.work import until, use_redis

USERS = [None, "rootless"] if FULL else [None]
GATEWAY = """
worker_processes 2; pid /tmp/nginx.pid; error_log stderr warn; daemon off;
events { worker_connections 512; }
http {
  access_log off; client_max_body_size 8m; upstream fhir { server 127.0.0.1:8080; keepalive 8; }
  client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u;
  scgi_temp_path /tmp/s;
  server {
    listen 443 ssl; listen [::]:443 ssl; ssl_certificate /tls/server.pem; ssl_certificate_key /tls/server.key;
    ssl_client_certificate /tls/ca.pem; ssl_verify_client on;
    location / { proxy_pass http://fhir; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
"""


@pytest.fixture(scope="module")
def tls(host: Host) -> Path:
    """A folder with an authority, and a certificate of it for a server and one for a client, readable by everyone."""
    folder = host.directory()
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    openssl = ["openssl", "req", "-x509", *new]
    host.run([*openssl, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca"], cwd=folder, check=True)
    for name in ("server", "client"):
        more = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        out = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
        host.run([*openssl, *more, "-addext", "basicConstraints=critical,CA:FALSE", *out], cwd=folder, check=True)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def test_nginx_is_a_gateway_with_mutual_tls_before_a_fhir_server(
    host: Host, serve: Callable[..., Server], daemon: Callable[..., Daemon], tls: Path, tmp_path: Path
) -> None:
    """Bodies over 16 kB, a reload with connections open, a worker that dies."""
    behind = serve(KINDS["fhirstarter"])
    config = host.directory() / "gateway.conf"
    config.write_text(GATEWAY)
    mounts = ["-v", f"{config}:/etc/nginx/nginx.conf:ro", "-v", f"{tls}:/tls:ro", "--read-only"]
    ready = ("nginx", "-t", "-q")
    gate = daemon("nginx", *mounts, "--network", f"container:{behind.id}", ready=ready, command=["-e", "stderr"])
    body = tmp_path / "large.json"
    body.write_text('{"resourceType": "Patient", "name": [{"family": "%s"}]}' % ("x" * 200_000))
    client = ["--cacert", f"{tls}/ca.pem", "--cert", f"{tls}/client.pem", "--key", f"{tls}/client.key"]
    base = "https://localhost"

    def ask(path: str, *more: str) -> str:
        done = host.http(gate.id, base + path, "-o", "/dev/null", "-w", "%{http_code}", *more)
        return done.stdout

    post = ["-H", "Content-Type: application/fhir+json", "--data-binary", f"@{body}"]
    until("the gateway answers", lambda: ask("/metadata", *client) == "200")
    assert ask("/metadata", "--cacert", f"{tls}/ca.pem") == "400"
    assert ask("/Patient", *client, *post) == "201", gate.logs()
    gate.podman("kill", "-s", "HUP", gate.id, check=True)
    kill_process(gate, "nginx: worker process")
    until("the gateway answers again", lambda: ask("/metadata", *client) == "200")
    assert ask("/Patient", *client, *post) == "201", gate.logs()
    assert host.http(gate.id, "https://[::1]/metadata", "-k", *client, "-f").returncode == 0
    gate.podman("kill", "-s", "QUIT", gate.id, check=True)
    assert wait_until_gone(gate) == 0


@pytest.mark.parametrize("user", USERS)
def test_nginx_of_root_has_workers_of_an_ordinary_user(daemon: Callable[..., Daemon], user: str | None) -> None:
    web = daemon("nginx", user=user)
    kept = {"CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID"}
    assert set(web.inspected()["capability_names"]["bounding"]) == kept
    find = "grep -l '[n]ginx: worker' /proc/[0-9]*/cmdline | head -1 | cut -d/ -f3"
    worker = web.exec("sh", "-c", find).stdout.strip()
    status = dict(line.split(":\t", 1) for line in web.exec("cat", f"/proc/{worker}/status").stdout.splitlines())
    assert status["Uid"].split()[0] == "33"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")


@pytest.mark.parametrize("user", USERS)
def test_postgresql_starts_as_root_and_goes_on_as_postgres(daemon: Callable[..., Daemon], user: str | None) -> None:
    """As published images do: the entry point owns the data to postgres and changes user with gosu."""
    db = daemon("postgresql", "--user", "root", user=user)
    assert_confined(db)
    status = proc_status(db.pid)
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert db.exec("stat", "-c", "%U", "/proc/1").stdout.strip() == "postgres"
    db.sql("create table t (a int)")
    db.podman("restart", "-t", "30", db.id, check=True)
    db.wait()
    db.sql("insert into t values (1)")


@pytest.mark.parametrize("signal", ["TERM", "INT", "QUIT"] if FULL else ["QUIT"])
def test_postgresql_ends_at_a_signal_and_recovers_by_itself(daemon: Callable[..., Daemon], signal: str) -> None:
    """Smart, fast and immediate shutdown; after the last, and after the end of a process, it recovers from its WAL."""
    db = daemon("postgresql", "--user", "postgres")
    status = proc_status(db.pid)
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    db.sql("create table t (a int)", "insert into t select generate_series(1, 1000)")
    if signal == "QUIT":
        kill_process(db, "postgres: checkpointer")
        time.sleep(2)
        db.wait()
    db.podman("kill", "-s", signal, db.id, check=True)
    assert wait_until_gone(db) == 0, db.logs()
    db.podman("start", db.id, check=True)
    db.wait()
    assert db.sql("select count(*) from t").strip() == "1000"
    assert ("automatic recovery in progress" in db.logs()) == (signal == "QUIT")


# settings of PostgreSQL that change what it calls
SETTINGS = {
    "System V shared memory": ("shared_memory_type=sysv", "dynamic_shared_memory_type=sysv"),
    "mapped files, huge pages": ("dynamic_shared_memory_type=mmap", "huge_pages=try"),
    "WAL by O_DSYNC": ("wal_sync_method=open_datasync", "wal_compression=on"),
    "logs": ("logging_collector=on", "track_io_timing=on", "log_statement_stats=on", "log_rotation_size=1kB"),
    "TLS": (
        "ssl=on",
        "ssl_cert_file=/etc/ssl/certs/ssl-cert-snakeoil.pem",
        "ssl_key_file=/etc/ssl/private/ssl-cert-snakeoil.key",
    ),
}


@pytest.mark.parametrize("name", SETTINGS if FULL else ["System V shared memory"])
def test_postgresql_works_with_other_settings(daemon: Callable[..., Daemon], name: str) -> None:
    words = [word for setting in SETTINGS[name] for word in ("-c", setting)]
    db = daemon("postgresql", command=words)
    db.sql("create table t as select generate_series(1, 1000) a", "checkpoint")
    address = "postgresql://fhir:fhir@127.0.0.1/fhirdb" + ("?sslmode=require" if name == "TLS" else "")
    assert db.exec("psql", "-At", address, "-c", "select 1").stdout.strip() == "1"
    assert db.stop() == 0, db.logs()


HARD = ("--cap-drop=all", "--read-only", "--security-opt", "no-new-privileges", "--init")
THREADS = ("--io-threads", "3", "--appendonly", "yes")
LIMITS = ("--memory", "500m", "--pids-limit", "100", "--privileged")
# name -> software, runtime, user, options, command
OPTIONS: dict[str, tuple[str, str, str | None, tuple[str, ...], tuple[str, ...]]] = {
    "PostgreSQL hardened": ("postgresql", "crun", None, (*HARD, "-v", "/data"), ()),
    "PostgreSQL with limits": ("postgresql", "runc", "rootless", LIMITS, ()),
    "Redis hardened, with threads": ("redis", "runc", None, (*HARD, "-v", "/data"), THREADS),
    "Redis with limits": ("redis", "crun", "rootless", LIMITS, ("--bind", "127.0.0.1", "::1")),
    "Prometheus hardened": ("prometheus", "runc", None, (*HARD, "-v", "/data"), ()),
    "nginx with limits": ("nginx", "crun", "rootless", LIMITS, ()),
}


@pytest.mark.parametrize("name", OPTIONS if FULL else ["PostgreSQL hardened", "Redis hardened, with threads"])
def test_it_answers_whatever_option_it_runs_under(daemon: Callable[..., Daemon], name: str) -> None:
    software, runtime, user, options, command = OPTIONS[name]
    running = daemon(software, *options, runtime=runtime, user=user, command=command)
    assert_confined(running, alike=software != "nginx")
    if software == "redis":
        use_redis(running)
    elif software == "postgresql":
        running.sql("create table t as select generate_series(1, 1000) a", "vacuum t")
    assert running.exec("sh", "-c", "echo a | cat").stdout == "a\n"
    running.stop()


def test_the_administrator_binds_a_profile_to_an_image_by_name(
    host: Host, daemon: Callable[..., Daemon], settings: Callable[[str], None]
) -> None:
    settings('[[bind]]\nimage = "localhost/redis:7.0"\nprofile = "redis"\n')
    assert_confined(daemon("redis", tag="redis:7.0"))


def test_an_image_that_nobody_bound_is_left_alone(daemon: Callable[..., Daemon]) -> None:
    assert daemon("redis", tag="redis:7.0").records() == []


def test_a_health_check_by_a_shell_passes(host: Host, daemon: Callable[..., Daemon], runtime: str) -> None:
    cache = daemon("redis", "--health-cmd", "redis-cli ping | grep -q PONG", runtime=runtime)
    cache.podman("healthcheck", "run", cache.id, check=True)
    assert named(host, cache.kind, "redis")
