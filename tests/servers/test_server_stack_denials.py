"""What the profiles deny the software beside a FHIR server, seen in the kernel's log: nothing without a fall-back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from host.machine import Host
from servers.fhir_server import FULL, programs
from servers.kernel_log import ERRNO, LOG, KernelLog
from servers.stack import SOFTWARE, Daemon, fallen_back
from servers.work import use_nginx, use_postgresql, use_prometheus, use_redis

WORK: dict[str, Callable[[Daemon], None]] = {
    "postgresql": use_postgresql,
    "nginx": use_nginx,
    "redis": use_redis,
    "prometheus": use_prometheus,
}
CANARY = "/probe/try"
# Seen in complain mode only: crun waits for `start` behind the filter where no_new_privs is not set; what follows on a
# timer_create that was let through.
COMPLAINING = {"pselect6", "timer_settime", "timer_delete"}
# a user of nobody else's may not open port 80
NGINX = """
pid /tmp/nginx.pid; error_log stderr; worker_processes 2; events {}
http { access_log off; root /usr/share/nginx/html; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p;
  fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; server { listen 8080; } }
"""


def options(host: Host, name: str) -> tuple[list[str], dict[str, object]]:
    """How it is run by a user of its own."""
    folder = host.directory()
    folder.chmod(0o777)
    if name != "nginx":
        return ["-v", f"{folder}:/data"], {}
    (folder / "nginx.conf").write_text(NGINX)
    return ["-v", f"{folder}/nginx.conf:/etc/nginx/nginx.conf:ro"], {"ready": (8080, "/")}


def all_of_it(running: Daemon, log: KernelLog, work: Callable[[Daemon], None]) -> None:
    """What is done with it, between two denials that are seen."""
    running.exec(CANARY, "keyctl")
    log.wait_for(CANARY, "keyctl")
    work(running)
    running.exec("sh", "-c", "cd /tmp && echo a b | sed s/a/c/ >x && cat x && id -u && ls -l / | grep -c usr")
    running.exec(CANARY, "bpf")
    log.wait_for(CANARY, "bpf")
    assert running.stop() == 0, running.logs()


@pytest.mark.parametrize("name", WORK if FULL else ["postgresql", "nginx"])
def test_enforcing_on_crun_denies_nothing_that_is_needed(
    host: Host, daemon: Callable[..., Daemon], logged: list[str], uid: int, name: str
) -> None:
    more, ready = options(host, name)
    with KernelLog(uid) as log:
        all_of_it(daemon(name, *logged, *more, runtime="crun", **ready), log, WORK[name])
    assert log.beyond(fallen_back(), CANARY) == {}
    assert set(log.codes) == {ERRNO}


@pytest.mark.parametrize("where", [f"{n}:{r}" for n in WORK for r in ("runc", "crun")] if FULL else ["redis:runc"])
def test_complaining_finds_nothing_that_is_needed(
    host: Host, daemon: Callable[..., Daemon], settings: Callable[[str], None], uid: int, where: str
) -> None:
    """Without no_new_privs, so that the runtimes' own calls before execve and at exec are seen too."""
    name, runtime = where.split(":")
    more, ready = options(host, name)
    # an image of its own: the client of PostgreSQL's work comes from the one that it is made of
    tag = host.derive(SOFTWARE[name].tag, f"localhost/complaining-{name}:1", "--label", "complaining=1")
    settings(f'[[bind]]\nimage = "{tag}"\nprofile = "{name}"\nmode = "complain"\n')
    free = ["--security-opt", "seccomp=unconfined", "--user", f"{uid}:{uid}", "-v", f"{programs(host)}:/probe:ro"]
    with KernelLog(uid) as log:
        all_of_it(daemon(name, *free, *more, runtime=runtime, tag=tag, **ready), log, WORK[name])
    assert log.beyond(fallen_back() | COMPLAINING, CANARY) == {}
    assert log.by_runtime == {}
    assert set(log.codes) == {LOG}
