"""The image store while something writes it, of an unknown format, with links and pipes in it, or very large."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host.machine import Host, parse_status, proc_status
from system.support import (
    FHIR,
    HAPI_SOURCE,
    HOOK,
    LIVE,
    PLAIN,
    codes,
    confined,
    kernel_state,
    only,
    wait_until,
    watching,
)

STORAGE = Path("/var/lib/containers/storage")
ID, LAYER, IMAGE = "c" * 64, "d" * 64, "e" * 64


class Stored:
    """A created container of the FHIR image, and the files from which the store knows its image."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.id = host.podman("create", "--network", "none", FHIR, "sleeper", check=True).stdout.strip()
        image = host.podman("inspect", "-f", "{{.Image}}", self.id, check=True).stdout.strip()
        self.directory = STORAGE / "overlay-images" / image
        self.manifest = self.directory / "manifest"
        digest = json.loads(self.manifest.read_text())["config"]["digest"]
        self.config = self.directory / ("=" + base64.b64encode(digest.encode()).decode())

    def start(self, before: tuple[str, ...]) -> Any:
        return self.host.podman(*before, "start", self.id)


@pytest.fixture
def stored(host: Host, tmp_path: Path) -> Iterator[Stored]:
    container = Stored(host)
    subprocess.run(["cp", "-a", container.directory, tmp_path / "image"], check=True)
    yield container
    subprocess.run(["rm", "-rf", container.directory], check=True)
    subprocess.run(["cp", "-a", tmp_path / "image", container.directory], check=True)
    host.podman("rm", "-f", "-t", "0", container.id, check=True)


def _link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _large(path: Path) -> None:
    """100 MiB of JSON that has the labels at its end."""
    document = {"padding": "x" * (100 << 20), "config": {"Labels": {"org.opencontainers.image.source": HAPI_SOURCE}}}
    path.write_text(json.dumps(document))


UNREADABLE: dict[str, Callable[[Stored], Any]] = {
    "the manifest is missing": lambda s: s.manifest.unlink(),
    "the manifest is half written": lambda s: s.manifest.write_bytes(s.manifest.read_bytes()[:100]),
    "the manifest is of an unknown format": lambda s: s.manifest.write_text('{"schemaVersion": 3, "parts": []}'),
    "the manifest names a config outside": lambda s: s.manifest.write_text(
        '{"config": {"digest": "sha256:../../../../../../etc/passwd"}}'
    ),
    "the image config is missing": lambda s: s.config.unlink(),
    "the image config is half written": lambda s: s.config.write_bytes(s.config.read_bytes()[:100]),
    "the image config is a link": lambda s: _link(s.config),
    "the image config is a FIFO": lambda s: _fifo(s.config),
    "the image config has 100 MiB": lambda s: _large(s.config),
    "the labels are a list": lambda s: s.config.write_text('{"config": {"Labels": ["a"]}}'),
}


@pytest.mark.parametrize("fault", list(UNREADABLE))
def test_a_container_whose_image_can_not_be_known_starts_and_is_recorded_when(
    host: Host, stored: Stored, fault: str
) -> None:
    """The rule: not known whether FHIR means undetermined, which starts (this test) or is refused (the next)."""
    UNREADABLE[fault](stored)
    for before in ((), LIVE):
        with watching(host) as records:
            began = time.monotonic()
            done = stored.start(before)
        assert done.returncode == 0, done.stderr
        assert time.monotonic() - began < 8
        record = only(records, event="decision")
        assert (record["decision"], codes(record)) == ("undetermined", ["FH301"])
        assert "image" in record["reasons"][0]["text"]
        host.podman("stop", "-t", "0", stored.id, check=True)


def test_such_a_container_is_refused_where_the_settings_say_so(
    host: Host, stored: Stored, settings: Callable[[str], None], run: Callable[..., Any]
) -> None:
    settings('undetermined = "refuse"\n')
    stored.manifest.unlink()
    for before in ((), LIVE):
        with watching(host) as records:
            done = stored.start(before)
        assert done.returncode != 0
        assert "FH112" in done.stderr
        assert codes(only(records, event="decision"))[0] == "FH112"
        assert run(PLAIN, "status", before=before).returncode == 0


def test_many_containers_come_and_go_while_a_fhir_one_starts(host: Host, run: Callable[..., Any]) -> None:
    """The list of containers is replaced again and again by another Podman meanwhile."""
    loop = 'while :; do podman rm -f "$(podman create --network none probe:plain true)"; done'
    churn = subprocess.Popen(["sh", "-c", loop], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for number in range(10):
            done = run(FHIR, "status", before=LIVE if number % 2 else (), check=True)
            assert confined(parse_status(done.stdout))
    finally:
        churn.kill()
        churn.wait()


class Graph:
    """A graph root made by hand, and the hook called as Podman calls it, for a container in there."""

    def __init__(self, top: Path, containers: str, labels: dict[str, str]) -> None:
        self.top = top
        (top / "overlay-containers").mkdir()
        (top / "overlay-containers" / "containers.json").write_text(containers)
        image = top / "overlay-images" / IMAGE
        image.mkdir(parents=True)
        (image / "manifest").write_text(json.dumps({"config": {"digest": "sha256:" + "f" * 64}}))
        name = "=" + base64.b64encode(b"sha256:" + b"f" * 64).decode()
        (image / name).write_text(json.dumps({"config": {"Labels": labels}}))

    def precreate(self) -> dict[str, Any]:
        config = {
            "ociVersion": "1.0.2", "root": {"path": f"{self.top}/overlay/{LAYER}/merged"},
            "process": {"args": ["x"], "capabilities": {}}, "linux": {},
        }  # fmt: skip
        done = subprocess.run(
            [HOOK, "precreate"], input=json.dumps(config), capture_output=True, text=True, check=True, timeout=30
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


ENTRY = {"id": ID, "names": ["n"], "image": IMAGE, "layer": LAYER, "metadata": '{"id":"\\"{\\"id\\":\\""}'}
OTHERS = [{"id": f"{n:064x}", "names": [f"c{n}"], "image": "1" * 64, "layer": f"{n:064x}"} for n in range(200)]
FHIR_LABELS = {"org.opencontainers.image.source": HAPI_SOURCE}
LISTS = {
    "as Go writes it": json.dumps([*OTHERS, ENTRY], separators=(",", ":")),
    "at the beginning of 100 MiB": json.dumps(
        [ENTRY, {"id": "0" * 64, "big": "x" * (100 << 20)}], separators=(",", ":")
    ),
    "at the end of 100 MiB": json.dumps([{"id": "0" * 64, "big": "x" * (100 << 20)}, ENTRY], separators=(",", ":")),
    "indented": json.dumps([*OTHERS, ENTRY, *OTHERS], indent=2),
    "with members in another order": json.dumps([*OTHERS, dict(reversed(ENTRY.items()))], separators=(",", ":")),
    "with another container's metadata that looks like it": json.dumps(
        [{"id": "2" * 64, "image": "1" * 64, "layer": "3" * 64, "metadata": f'{{"id":"","layer":"{LAYER}"}}'}, ENTRY],
        separators=(",", ":"),
    ),
}


@pytest.mark.parametrize("form", list(LISTS))
def test_a_container_is_found_in_a_list(host: Host, form: str) -> None:
    answer = Graph(host.directory(), LISTS[form], FHIR_LABELS).precreate()
    assert answer["process"]["noNewPrivileges"] is True
    assert "gate" in answer["hooks"]["createRuntime"][0]["args"]


def test_labels_of_15_mib_are_read(host: Host) -> None:
    answer = Graph(host.directory(), LISTS["as Go writes it"], {**FHIR_LABELS, "x": "y" * (15 << 20)}).precreate()
    assert answer["process"]["noNewPrivileges"] is True


def test_an_image_in_an_additional_store_is_identified(host: Host, run: Callable[..., Any], runtime: str) -> None:
    """additionalimagestores of storage.conf(5): the image is in another store than the container."""
    store, mine = host.directory(), host.directory()
    host.run(["podman", "--root", store, "load", "-q"], stdin=host.images.archive(FHIR), check=True)
    conf = Path("/etc/containers/storage.conf")
    conf.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{mine}"\nrunroot = "{mine}/run"\n'
        f'[storage.options]\nadditionalimagestores = ["{store}"]\n'
    )
    try:
        for before in ((), LIVE):
            done = run(FHIR, "status", before=before, runtime=runtime, check=True)
            assert confined(parse_status(done.stdout))
    finally:
        conf.unlink()
        for root in (store, mine):
            subprocess.run(["umount", "-R", root / "overlay"], check=False, stderr=subprocess.DEVNULL)


def test_a_container_keeps_its_image_s_profile_when_the_image_has_lost_its_name(host: Host, stored: Stored) -> None:
    host.podman("untag", FHIR, check=True)
    try:
        for before in ((), LIVE):
            assert stored.start(before).returncode == 0
            pid = host.pid(stored.id)
            wait_until(lambda pid=pid: proc_status(pid)["TracerPid"] == "0", "the attacher's end")  # type: ignore[misc]
            assert confined(kernel_state(pid))
            host.podman("stop", "-t", "0", stored.id, check=True)
    finally:
        host.podman("tag", stored.directory.name, "localhost/probe:hapi", check=True)
