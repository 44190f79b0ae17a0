"""What is done with the software beside a FHIR server: all that its profile is for."""

from __future__ import annotations

import json
import time

from servers.stack import Daemon, kill_process

# one transaction each; as the cluster's administrator
PREPARE = """
drop table if exists t, u;
create table t (id serial primary key, a int, b text);
insert into t (a, b) select g, repeat(md5(g::text), 20) from generate_series(1, 20000) g;
create index on t (a);
"""
CLIENT = "export PGPASSWORD=fhir PGHOST=$0 PGUSER=fhir PGDATABASE=fhirdb; set -e;"
PARALLEL = (
    "set max_parallel_workers_per_gather = 2",
    "set parallel_setup_cost = 0",
    "set parallel_tuple_cost = 0",
    "set min_parallel_table_scan_size = 0",
    "set work_mem = '64kB'",
    "explain (analyze, costs off) select b, count(*) from t group by b order by b",
)


def until(what: str, holds: object, seconds: float = 30) -> None:
    """Wait until a function says that it holds."""
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end, f"{what}: not after {seconds} s"
        time.sleep(0.2)


def use_postgresql(db: Daemon) -> None:
    """Parallel workers, vacuum, bulk copies, tablespaces, shells, dumps, backups, load, cancelled statements."""
    db.sql(PREPARE)
    assert "Workers Launched: 2" in db.sql(*PARALLEL)
    db.sql("vacuum (parallel 2, analyze) t", "delete from t where a % 2 = 0", "cluster t using t_pkey", "vacuum full t")
    db.sql("create index concurrently on t (b)", "checkpoint", "select pg_switch_wal()", "select pg_reload_conf()")
    assert db.sql("copy (select 'by a shell') to program 'cat'", "select lo_unlink(lo_create(0))").strip() == "1"
    db.sql("create database x strategy file_copy", "create database y strategy wal_log")
    db.sql("drop database x", "drop database y", "listen c", "notify c")
    db.exec("mkdir", "-p", "/data/space")
    db.sql("create tablespace space location '/data/space'", "alter table t set tablespace space")
    db.sql("alter table t set tablespace pg_default", "drop tablespace space")
    benchmark = "pgbench -i -q 2>&1; pgbench -c 4 -j 2 -T 2"
    # a client of its own: the label is not on this image, nobody confines it
    words = ["run", "--rm", "--network", f"container:{db.id}", "--entrypoint", "sh", db.kind.tag]
    db.podman(*words, "-c", f"{CLIENT} {benchmark}", "127.0.0.1", check=True)
    dump = "pg_dump -Fc -f /tmp/dump; pg_restore -l /tmp/dump | grep -q pgbench_accounts"
    db.exec("sh", "-c", f"{CLIENT} {dump}", "/tmp")
    verify = "/usr/lib/postgresql/15/bin/pg_verifybackup -q /tmp/backup$$"
    backup = f"pg_basebackup -c fast -D /tmp/backup$$ -X stream; {verify}"
    db.exec("sh", "-c", f"{CLIENT} {backup}", "::1")
    try:
        db.sql("set statement_timeout = 300", "select pg_sleep(9)")
    except AssertionError as error:
        assert "canceling statement" in str(error)


def crash_postgresql(db: Daemon) -> None:
    """A process of the server is killed: it recovers by itself."""
    kill_process(db, "postgres: checkpointer")
    time.sleep(1)
    db.wait()
    assert db.sql("select 1").strip() == "1"


def use_nginx(web: Daemon) -> None:
    """Files, a body over 16 kB, reload, reopened logs, a worker that dies, its own command line."""
    assert "Welcome to nginx" in web.http("/")
    for signal in ("HUP", "USR1"):
        web.podman("kill", "-s", signal, web.id, check=True)
    time.sleep(0.3)
    kill_process(web, "nginx: worker process")
    until("a worker answers", lambda: web.host.http(web.id, web.url() + "/", "-f", user=web.user).returncode == 0)
    web.exec("sh", "-c", "nginx -t 2>&1 | grep -q successful")


def use_redis(cache: Daemon) -> None:
    """Values, snapshots, the append-only file and its rewriting, load."""
    assert cache.redis("set", "key", "value") == "OK"
    cache.redis("config", "set", "appendonly", "yes")
    until("the first rewrite", lambda: "aof_rewrite_in_progress:0" in cache.redis("info", "persistence"))
    cache.exec("redis-benchmark", "-q", "-n", "2000", "-d", "1000", "-t", "set,get,mset")
    for command, running in (("bgsave", "rdb_bgsave_in_progress"), ("bgrewriteaof", "aof_rewrite_in_progress")):
        cache.redis(command)
        until(command, lambda running=running: f"{running}:0" in cache.redis("info", "persistence"))
    info = cache.redis("info", "persistence")
    assert "rdb_last_bgsave_status:ok" in info and "aof_last_bgrewrite_status:ok" in info, info
    cache.redis("flushall", "async")
    cache.redis("memory", "purge")
    cache.redis("config", "set", "appendonly", "no")
    assert cache.redis("set", "last", "value") == "OK"


def use_prometheus(metrics: Daemon) -> None:
    """It scrapes itself, answers queries, takes a snapshot, deletes series, reloads, profiles itself."""
    until("it scraped itself", lambda: metrics.query("up") == "1")
    metrics.http("/api/v1/admin/tsdb/snapshot", "-X", "POST")
    metrics.http("/api/v1/admin/tsdb/delete_series?match%5B%5D=go_goroutines", "-X", "POST")
    metrics.http("/api/v1/admin/tsdb/clean_tombstones", "-X", "POST")
    metrics.http("/-/reload", "-X", "POST")
    metrics.http("/debug/pprof/profile?seconds=1", "-o", "/dev/null")
    assert "go_goroutines" in metrics.http("/metrics")
    up = '"health":"up"'
    until("it scrapes itself again", lambda: up in metrics.http("/api/v1/targets"))


def use_pocketbase(server: Daemon) -> None:
    """An administrator signs in; collections and records are made, changed, searched, deleted, backed up."""
    account = ("admin@example.org", "fhir-fhir")
    server.exec("/bin/pocketbase", "superuser", "upsert", *account, "--dir", "/data")
    json_type = ("-H", "Content-Type: application/json")
    login = json.dumps(dict(zip(("identity", "password"), account, strict=True)))
    token = json.loads(server.http("/api/collections/_superusers/auth-with-password", *json_type, "-d", login))["token"]
    signed = (*json_type, "-H", f"Authorization: {token}")
    name = f"patients{time.time_ns()}"
    fields = [{"name": "family", "type": "text"}, {"name": "photo", "type": "file", "maxSelect": 1}]
    server.http("/api/collections", *signed, "-d", json.dumps({"name": name, "type": "base", "fields": fields}))
    records = f"/api/collections/{name}/records"
    for number in range(20):
        made = json.loads(server.http(records, *signed, "-d", json.dumps({"family": f"Smith{number}"})))
    server.http(f"{records}/{made['id']}", *signed, "-X", "PATCH", "-d", '{"family": "Jones"}')
    server.http(f"{records}/{made['id']}", "-H", signed[-1], "-X", "PATCH", "-F", "photo=@/usr/bin/env")
    assert json.loads(server.http(f"{records}?filter=family='Jones'", *signed))["totalItems"] == 1
    server.http(f"{records}/{made['id']}", *signed, "-X", "DELETE")
    server.http("/api/backups", *signed, "-d", "{}")
    assert json.loads(server.http("/api/backups", *signed))


def use_node(server: Daemon) -> None:
    """All that its program tries."""
    said = server.http("/everything").splitlines()
    assert len(said) == 8 and all(line.endswith(" ok") for line in said), said
