"""The same software on musl, the C library of Alpine's images, with BusyBox for a shell: under the same profiles.

Only with FHIR_HOOK_SERVERS=all, since the images take minutes to build.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from host.machine import ARCHIVES, Host
from servers.fhir_server import FULL, assert_confined
from servers.kernel_log import ERRNO, KernelLog
from servers.stack import SOFTWARE, Daemon, fallen_back
from servers.test_server_stack_denials import all_of_it, options
from servers.work import use_nginx, use_postgresql, use_redis

WORK: dict[str, Callable[[Daemon], None]] = {
    "nginx": use_nginx,
    "redis": use_redis,
    "postgresql": use_postgresql,
}
ARCHIVES.update({f"{name}:musl": ("on-musl", f"{name}.tar") for name in WORK})
CANARY = "/probe/try"
# Calls that are denied on musl beyond the groups' fall-backs, and why nobody misses them.
EXPECTED = {"mremap": "realloc then copies", "sendfile": "BusyBox then uses read and write"}


def on_musl(host: Host, name: str, user: str | None = None) -> str:
    """An image of the software on musl whose label names the profile."""
    host.load(f"{name}:musl", user)
    label = f"io.fhir-hook.profile={SOFTWARE[name].profile}"
    return host.derive(f"{name}:musl", f"localhost/{name}:musl-confined", "--label", label, user=user)


if FULL:

    @pytest.mark.parametrize("where", ["runc:root", "crun:rootless"])
    @pytest.mark.parametrize("name", WORK)
    def test_it_works_on_musl_under_its_profile(
        host: Host, daemon: Callable[..., Daemon], name: str, where: str
    ) -> None:
        runtime, who = where.split(":")
        user = None if who == "root" else who
        running = daemon(name, runtime=runtime, user=user, tag=on_musl(host, name, user))
        assert_confined(running, SOFTWARE[name].profile, alike=name != "nginx")
        WORK[name](running)
        assert running.stop() == 0, running.logs()

    @pytest.mark.parametrize("name", WORK)
    def test_it_is_denied_nothing_on_musl_that_it_needs(
        host: Host, daemon: Callable[..., Daemon], logged: list[str], uid: int, name: str
    ) -> None:
        more, ready = options(host, name)
        with KernelLog(uid) as log:
            running = daemon(name, *logged, *more, runtime="crun", tag=on_musl(host, name), **ready)
            all_of_it(running, log, WORK[name])
        assert log.beyond(fallen_back() | set(EXPECTED), CANARY) == {}
        assert set(log.codes) == {ERRNO}
