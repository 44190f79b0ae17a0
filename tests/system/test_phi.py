"""Nothing that could be about a patient is written: markers in everything a container is given, then a search in all
that the product writes. With log.names = "hashed" the container's name is one of them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from host.machine import Host
from system.support import FHIR, LIVE, SETTINGS, STATE

MARKS = {
    name: f"patient{name}7f3a"
    for name in ("argument", "variable", "source", "file", "target", "hostname", "annotation", "label")
}
NAME = "patientname7f3a"
DROPIN = SETTINGS / "config.d/90-phi.toml"
LOGS = Path("/var/log/fhir-hook")
JOURNAL = Path("/run/systemd/journal/socket")
FORMATS = ("fhir-ndjson", "fhir-bundle", "ecs")


def settings(host: Host, text: str) -> None:
    DROPIN.write_text(text)
    host.run(["/usr/bin/fhir-hook", "policy", "compile"], check=True)


def begin_log() -> None:
    """A log that begins here, delivered to nobody yet."""
    for path in [*LOGS.glob("*"), *(STATE / "forward").glob("*")]:
        path.unlink()


@pytest.fixture
def hidden(host: Host) -> Iterator[Host]:
    """The installed product, with names hashed and a log that begins here."""
    begin_log()
    settings(host, '[log]\nnames = "hashed"\n')
    yield host
    DROPIN.unlink()
    host.run(["/usr/bin/fhir-hook", "policy", "compile"], check=True)


def loaded(host: Host, user: str | None) -> tuple[str | Path, ...]:
    """Options of podman run that put a marker wherever there is room for one."""
    source = host.directory(user) / MARKS["source"]
    source.mkdir()
    (source / "file").write_text(MARKS["file"])
    if user:
        subprocess.run(["chown", "-R", "--reference", source.parent, source], check=True)
    return (
        *("--name", NAME, "-e", f"X={MARKS['variable']}", "-v", f"{source}:/{MARKS['target']}"),
        *("--hostname", MARKS["hostname"], "--annotation", f"a={MARKS['annotation']}"),
        *("--label", f"l={MARKS['label']}", "--workdir", f"/{MARKS['target']}"),
    )


def ran(host: Host, tag: str, *before: str, user: str | None = None, runtime: str = "runc") -> tuple[int, str]:
    """Run a container that is full of markers; returns its exit code and what the product said of it."""
    script = f"cat /{MARKS['target']}/file >/dev/null; exit 0 # {MARKS['argument']}"
    words = ("run", "--rm", "--network", "none", *loaded(host, user), tag, "sh", "-c", script)
    done = host.podman(*before, *words, user=user, runtime=runtime)
    return done.returncode, "\n".join(line for line in done.stderr.splitlines() if "fhir-hook" in line)


def leaks(texts: dict[str, bytes], marks: list[str]) -> list[str]:
    """Where which marker was found, with what is around it."""
    return [
        f"{where}: {text[max(0, at - 80) : at + 60]!r}"
        for where, text in texts.items()
        for mark in marks
        for at in [text.find(mark.encode())]
        if at >= 0
    ]


def on_disk(*tops: Path) -> dict[str, bytes]:
    """Every file that the product wrote."""
    return {str(path): path.read_bytes() for top in tops for path in top.rglob("*") if path.is_file()}


def said(host: Host, *words: str, user: str | None = None) -> dict[str, bytes]:
    done = host.run(["/usr/bin/fhir-hook", *words], user=user)
    return {" ".join(words): (done.stdout + done.stderr).encode("utf-8", "replace")}


def forwarded(host: Host) -> bytes:
    """What reaches the journal."""
    JOURNAL.parent.mkdir(parents=True, exist_ok=True)
    JOURNAL.unlink(missing_ok=True)
    got: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(JOURNAL))
        journal.settimeout(10)

        def receive() -> None:
            while True:
                try:
                    data, fds, _, _ = socket.recv_fds(journal, 1 << 20, 4)
                except OSError:
                    return
                got.append(data)
                for fd in fds:
                    got.append(os.pread(fd, 1 << 20, 0))
                    os.close(fd)
                if data == b"end":
                    return

        receiver = threading.Thread(target=receive)
        receiver.start()
        host.run(["/usr/bin/fhir-hook", "log", "forward", "--journal"], check=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", str(JOURNAL))
        receiver.join()
    JOURNAL.unlink()
    assert len(got) > 2
    return b"\n".join(got)


def everything(host: Host, stderr: list[str]) -> dict[str, bytes]:
    """All that the product wrote, says and exports."""
    found = on_disk(LOGS, STATE)
    found["stderr"] = "\n".join(stderr).encode()
    for format in FORMATS:
        found |= said(host, "log", "export", "--format", format)
    for words in ("log", "log summary", "log --json", "log metrics", "doctor --all", "log --decision refused"):
        found |= said(host, *words.split())
    report = host.directory()
    found |= said(host, "report", "-o", str(report / "report.html"))
    found |= said(host, "report", "--for", "hipaa", "-o", str(report / "hipaa"))
    found |= on_disk(report)
    assert (report / "report.html").exists() and (report / "hipaa").is_dir(), found
    found["journal"] = forwarded(host)
    return found


def test_no_marker_is_in_anything_that_is_written_whatever_becomes_of_the_container(
    hidden: Host, runtime: str
) -> None:
    host = hidden
    host.load(FHIR)
    refusing = host.derive(FHIR, f"localhost/{runtime}-phi-refused", "--label", "io.fhir-hook.profile=absent")
    stderr = []
    for tag, before, expected in ((FHIR, (), 0), (FHIR, LIVE, 0), (refusing, (), 126), (refusing, LIVE, 126)):
        code, text = ran(host, tag, *before, runtime=runtime)
        assert (code == 0) == (expected == 0), text
        stderr.append(text)
    assert all(stderr[2:]), stderr
    settings(host, 'mode = "complain"\n[log]\nnames = "hashed"\n')
    assert ran(host, FHIR, runtime=runtime)[0] == 0
    settings(host, '[log]\nnames = "hashed"\n')
    for path in STATE.glob("policy-*.jsonl"):
        path.rename(path.with_suffix(".away"))  # a FHIR container is refused without the policy's body
    stderr.append(ran(host, FHIR, runtime=runtime)[1])
    (STATE / "selectors.json").rename(STATE / "selectors.away")
    (STATE / "selectors.previous.json").unlink(missing_ok=True)
    stderr.append(ran(host, FHIR, runtime=runtime)[1])
    settings(host, '[log]\nnames = "hashed"\n')

    records = [json.loads(line) for line in (LOGS / "decisions.jsonl").read_text().splitlines()]
    decided = [record["decision"] for record in records if record["event"] == "decision"]
    assert decided.count("confined") == 3 and decided.count("refused") == 4
    codes = [record["reasons"][0]["code"] for record in records if record.get("decision") == "refused"]
    assert codes[:3] == ["FH101", "FH101", "FH103"]
    names = {record["container"]["name"] for record in records if record.get("container")}
    assert len(names) == 1 and re.fullmatch("name-[0-9a-f]{32}", names.pop())
    assert leaks(everything(host, stderr), [NAME, *MARKS.values()]) == []


def test_of_an_ordinary_user_nothing_is_written_either(hidden: Host) -> None:
    host, user = hidden, "rootless"
    host.load(FHIR, user)
    assert ran(host, FHIR, user=user)[0] == 0
    own = host.home(user) / ".local/state/fhir-hook"
    records = [json.loads(line) for line in (own / "decisions.jsonl").read_text().splitlines()]
    assert re.fullmatch("name-[0-9a-f]{32}", records[-1]["container"]["name"])
    assert (own / "names.key").stat().st_mode & 0o777 == 0o600
    found = on_disk(own) | said(host, "log", user=user) | said(host, "log", "export", "--format", "ecs", user=user)
    assert leaks(found, [NAME, *MARKS.values()]) == []


def test_a_bundles_own_name_and_place_are_hidden_too(hidden: Host, runtime: str) -> None:
    host = hidden
    made = host.bundle(FHIR, "sh", "-c", f"exit 0 # {MARKS['argument']}")
    bundle = made.with_name(MARKS["source"])
    made.rename(bundle)
    host.run(["/usr/bin/fhir-hook", "bundle", "enroll", bundle], check=True)
    done = host.runtime(runtime, "--root", host.directory(), "run", "--bundle", bundle, NAME)
    assert done.returncode == 0, done.stderr
    spec = json.loads((bundle / "config.json").read_text())
    spec["annotations"]["io.fhir-hook.profile"] = "absent"
    (bundle / "config.json").write_text(json.dumps(spec))
    refused = host.runtime(runtime, "--root", host.directory(), "run", "--bundle", bundle, NAME)
    assert refused.returncode != 0
    assert len(on_disk(LOGS)) and leaks(everything(host, [done.stderr]), [NAME, *MARKS.values()]) == []


def test_without_the_setting_only_the_name_is_there(host: Host) -> None:
    begin_log()
    host.load(FHIR)
    code, text = ran(host, FHIR)
    assert code == 0
    found = everything(host, [text])
    assert leaks(found, list(MARKS.values())) == []
    assert len(leaks(found, [NAME])) > 3


def test_switched_on_later_it_hides_the_names_of_before_in_what_is_exported(host: Host) -> None:
    host.load(FHIR)
    assert ran(host, FHIR)[0] == 0
    try:
        settings(host, '[log]\nnames = "hashed"\n')
        for format in FORMATS:
            text = said(host, "log", "export", "--format", format)
            assert leaks(text, [NAME]) == [] and b"name-" in next(iter(text.values()))
    finally:
        DROPIN.unlink()
        host.run(["/usr/bin/fhir-hook", "policy", "compile"], check=True)
