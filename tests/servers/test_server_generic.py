"""The generic profile fhir-jvm: bound by the administrator, asked for by a label, under an entry point of root's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from host.machine import Host, proc_status
from servers.fhir_server import FULL, JAVA, KINDS, PROGRAMS, Server, assert_confined, no_capabilities

KEPT = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
SOURCE = "org.opencontainers.image.source-"
# What published images do before the server starts: as root, then as an ordinary user.
ENTRY = """#!/bin/busybox sh
set -eu
umask 022
mkdir -p /data/db/lib /data/conf
echo 'url=@URL@' > /data/conf/template
cp -a /data/conf/template /data/conf/server.properties
sed -i 's|@URL@|jdbc:h2:mem:x|' /data/conf/server.properties
ln -sf /data/conf/server.properties /data/conf/link
mv /data/conf/template /data/conf/old && rm /data/conf/old
touch /data/db/lock && chmod 640 /data/db/lock
chown -R 65532:65532 /data
chmod -R u+rwX /data
find /data -type f | wc -l
[ "$(id -u)" = 0 ]
nice -n 0 true 2>/dev/null || true
trap 'kill -TERM $child' TERM
exec {drop} "$@"
"""
DROPS = {
    "like su-exec": "/bin/change_user 65532 65532",
    "none": "",
}
# server:runtime:user
ALWAYS = ["plain:runc:root", "plain:crun:rootless"]
EVERY = [
    f"{name}:{runtime}:{who}"
    for name in ("plain", "jpa")
    for runtime in ("runc", "crun")
    for who in ("root", "rootless")
]


@pytest.fixture(scope="session")
def change_user(host: Host) -> Path:
    """The static program that changes user as su-exec does."""
    program = host.directory() / "change_user"
    host.run(["gcc", "-static", "-O2", "-o", program, PROGRAMS / "change_user.c"], check=True)
    return program


@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", EVERY if FULL else ALWAYS)
def test_the_administrator_binds_it_to_an_image(
    serve: Callable[..., Server], settings: Callable[[str], None], where: str
) -> None:
    name, runtime, who = where.split(":")
    user = None if who == "root" else who
    settings(f'[[bind]]\nimage = "localhost/{KINDS[name].tag}"\nprofile = "fhir-jvm"\n')
    server = serve(KINDS[name], runtime=runtime, user=user)
    assert_confined(server, "fhir-jvm")
    server.work(load=2)
    assert server.stop() == 143


@pytest.mark.parametrize("drop", DROPS if FULL else ["like su-exec"])
def test_an_entry_point_of_root_prepares_data_and_changes_user(
    host: Host, serve: Callable[..., Server], runtime: str, user: str | None, drop: str, change_user: Path
) -> None:
    script = host.directory(user) / "entry.sh"
    script.write_text(ENTRY.replace("{drop}", DROPS[drop]))
    script.chmod(0o755)
    copies: list[str] = []
    for source, target in (
        (script, "/entry.sh"),
        (Path("/bin/busybox"), "/bin/busybox"),
        (change_user, "/bin/change_user"),
    ):
        mine = host.directory(user) / source.name
        mine.write_bytes(source.read_bytes())
        mine.chmod(0o755)
        copies += ["--copy", f"{mine}:{target}"]
    for applet in (
        "sh",
        "mkdir",
        "cp",
        "sed",
        "ln",
        "mv",
        "rm",
        "touch",
        "chmod",
        "chown",
        "find",
        "wc",
        "id",
        "nice",
        "true",
    ):
        link = host.directory(user) / applet
        link.symlink_to("/bin/busybox")
        copies += ["--copy", f"{link}:/bin/{applet}"]
    entry = f'["/entry.sh", "{JAVA}", "-cp", "/app/classes:/app/lib/*", "FhirServer"]'
    tag = host.derive(
        "hapi:plain",
        f"localhost/entry:{drop.replace(' ', '-')}",
        *copies,
        "--label",
        SOURCE,
        "--label",
        "io.fhir-hook.kind=jvm",
        "--user",
        "0",
        "--env",
        "PATH=/bin:/opt/jre/bin",
        "--entrypoint",
        entry,
        user=user,
    )
    server = serve(KINDS["plain"], tag=tag, runtime=runtime, user=user)
    assert_confined(server, "fhir-jvm")
    server.work(load=1)
    status = proc_status(server.pid)
    kept = set(server.inspected()["capability_names"]["bounding"])
    assert kept == set(KEPT)
    if DROPS[drop]:
        uid = int(status["Uid"].split()[0])
        assert uid == 65532 if user is None else uid > 65532
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    else:
        assert not no_capabilities(server.pid)
    assert server.stop() == 143, server.logs()
