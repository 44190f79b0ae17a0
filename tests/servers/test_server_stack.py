"""What runs beside a FHIR server, each under its profile: PostgreSQL, nginx, Redis, Prometheus."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from servers.fhir_server import FULL, assert_confined
from servers.stack import Daemon
from servers.work import use_nginx, use_postgresql, use_prometheus, use_redis


def has_its_table(db: Daemon) -> None:
    """What was written before the stop is there."""
    assert int(db.sql("select count(*) from t")) > 0


def has_its_values(cache: Daemon) -> None:
    """What was written before the stop is there (default: snapshots)."""
    assert cache.redis("get", "last") == "value"


def has_its_series(metrics: Daemon) -> None:
    """Samples from before the stop are there."""
    assert int(metrics.query("count_over_time(up[5m])")) > 1


WORK: dict[str, Callable[[Daemon], None]] = {
    "postgresql": use_postgresql,
    "nginx": use_nginx,
    "redis": use_redis,
    "prometheus": use_prometheus,
}
CHECK: dict[str, Callable[[Daemon], None]] = {
    "postgresql": has_its_table,
    "nginx": lambda web: None,
    "redis": has_its_values,
    "prometheus": has_its_series,
}
# software:runtime:user
EVERY = [f"{name}:{runtime}:{who}" for name in WORK for runtime in ("runc", "crun") for who in ("root", "rootless")]
ALWAYS = ["postgresql:runc:rootless", "nginx:crun:rootless", "redis:runc:root", "prometheus:runc:rootless"]
SHELL = "cd /tmp && echo a b | sed s/a/c/ >x && cat x && id -u && ls -l / | grep -c usr"


@pytest.mark.parametrize("where", EVERY if FULL else ALWAYS)
def test_it_works_under_its_profile_and_starts_again_on_its_data(daemon: Callable[..., Daemon], where: str) -> None:
    name, runtime, who = where.split(":")
    running = daemon(name, runtime=runtime, user=None if who == "root" else who)
    assert_confined(running, alike=name != "nginx")
    WORK[name](running)
    assert running.exec("sh", "-c", SHELL).stdout.splitlines()[0] == "c b"
    assert running.stop() == 0, running.logs()
    running.podman("start", running.id, check=True)
    running.wait()
    assert_confined(running, alike=name != "nginx")
    CHECK[name](running)
