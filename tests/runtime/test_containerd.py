"""Debian's containerd alone, through ctr, with fhir-runc as its runtime's binary."""

from __future__ import annotations

import concurrent.futures
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_hook.core import paths
from fhir_hook.core.spec import Spec
from fhir_hook.store import bolt, containerd_store
from host.machine import Host, Result, parse_status
from system.support import confined, only, watching

SHIM = "/usr/libexec/fhir-hook/fhir-runc"
SOCKET = "/run/test-containerd/socket"
PLAIN, FHIR = "localhost/probe:plain", "localhost/probe:hapi"
OTHER_LAYERS = "localhost/probe:hostile-files"  # a FHIR image


class Containerd:
    """One containerd; `root` holds its images and metadata."""

    def __init__(self, host: Host) -> None:
        self.host = host
        top = host.directory()
        self.root = top / "root"
        self.metadata = self.root / "io.containerd.metadata.v1.bolt/meta.db"
        tree = host.images.directory("docker") / "root/usr"
        subprocess.run(["cp", "-a", f"{tree}/.", "/usr/"], check=True)
        config = top / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{self.root}"\nstate = "/run/test-containerd/state"\n[grpc]\n  address = "{SOCKET}"\n'
        )
        host.run(["fhir-hook", "engine", "configure", "containerd", "--config", config], check=True)
        dump = host.run(["containerd", "--config", config, "config", "dump"], check=True).stdout
        assert f'BinaryName = "{SHIM}"' in dump
        self._said = (top / "log").open("wb")
        self.process = subprocess.Popen(
            ["containerd", "--config", str(config)], stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said
        )
        end = time.monotonic() + 30
        while self.ctr("version").returncode != 0:
            assert time.monotonic() < end and self.process.poll() is None, (top / "log").read_text()[-3000:]
            time.sleep(0.05)
        for tag in ("probe:plain", "probe:hapi", "probe:hostile-files"):
            self.ctr("images", "import", host.images.archive(tag), check=True)

    def ctr(self, *words: str | Path, **more: bool) -> Result:
        """One ctr command."""
        return self.host.run(["ctr", "-a", SOCKET, *words], **more)  # type: ignore[arg-type]

    def run(self, image: str, id: str, *command: str, options: tuple[str, ...] = ()) -> Result:
        """ctr run."""
        return self.ctr("run", "--runc-binary", SHIM, *options, image, id, *command)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)
        self._said.close()


@pytest.fixture(scope="module")
def containerd(host: Host) -> Iterator[Containerd]:
    """A containerd with the probe's images."""
    made = Containerd(host)
    yield made
    made.stop()


def test_a_fhir_container_is_confined_and_on_record(containerd: Containerd, host: Host) -> None:
    with watching(host) as records:
        done = containerd.run(FHIR, "one", "/bin/status", options=("--rm",))
    assert confined(parse_status(done.stdout)), done.stderr
    decided = only(records, event="decision")
    assert (decided["decision"], decided["stage"], decided["container"]["id"]) == ("confined", "create", "one")
    assert decided["image"]["source"] == "containerd" and decided["image"]["names"] == [FHIR]
    assert only(records, event="outcome")["decided_by"] == decided["seq"]


def test_privileged_annotations_and_labels_of_the_caller_loosen_nothing(containerd: Containerd) -> None:
    for number, options in enumerate((
        ("--privileged",),
        ("--annotation", "io.kubernetes.cri.image-name=localhost/probe:plain"),
        ("--annotation", "io.kubernetes.cri.container-type=sandbox"),
        ("--label", "org.opencontainers.image.source=elsewhere"),
    )):  # fmt: skip
        done = containerd.run(FHIR, f"loose{number}", "/bin/status", options=("--rm", *options))
        assert confined(parse_status(done.stdout)), (options, done)


def test_another_container_leaves_no_record(containerd: Containerd, host: Host) -> None:
    with watching(host) as records:
        done = containerd.run(PLAIN, "other", "/bin/status", options=("--rm",))
    assert parse_status(done.stdout)["NoNewPrivs"] == "1" and not records  # as ctr asks for


def test_exec_is_confined_too(containerd: Containerd) -> None:
    done = containerd.run(FHIR, "served", "/bin/sleeper", options=("-d",))
    assert done.returncode == 0, done.stderr
    try:
        output = containerd.ctr("tasks", "exec", "--exec-id", "e", "served", "/bin/status", check=True).stdout
        assert confined(parse_status(output)), output
    finally:
        containerd.ctr("tasks", "rm", "-f", "served")
        containerd.ctr("containers", "rm", "served")


def test_the_containers_of_every_namespace_are_found_without_asking_containerd(containerd: Containerd) -> None:
    root = str(containerd.root)
    containerd.ctr("containers", "create", FHIR, "idle", check=True)
    try:
        assert ("default", "idle") in containerd_store.listed(root)
        seen = containerd_store.identify_by_id("default", "idle", root)
        assert seen.image is not None and seen.image.names == (FHIR,)
        assert containerd_store.identify_by_id("default", "none", root).undetermined
    finally:
        containerd.ctr("containers", "rm", "idle")
    assert ("default", "idle") not in containerd_store.listed(root) and containerd_store.listed("/nowhere") == []


def test_an_image_that_is_gone_makes_it_undetermined_and_it_starts(containerd: Containerd, host: Host) -> None:
    containerd.ctr("images", "tag", FHIR, "localhost/probe:gone", check=True)
    options = ("-d", "--label", "org.opencontainers.image.source=")
    assert containerd.run("localhost/probe:gone", "gone", "/bin/sleeper", options=options).returncode == 0
    containerd.ctr("tasks", "rm", "-f", "gone", check=True)
    containerd.ctr("images", "rm", "localhost/probe:gone", check=True)
    try:
        with watching(host) as records:
            containerd.ctr("tasks", "start", "-d", "gone", check=True)
    finally:
        containerd.ctr("tasks", "rm", "-f", "gone")
        containerd.ctr("containers", "rm", "gone")
    assert [r["decision"] for r in records] == ["undetermined"]
    assert "is not there any more" in records[0]["reasons"][0]["text"]


@pytest.mark.parametrize("labelled", [True, False])
def test_attack_the_images_name_is_given_to_another_between_create_and_start(
    containerd: Containerd, host: Host, labelled: bool
) -> None:
    """With labels of its container only they tell, without them only the layers, which the two images do not share."""
    name, id = "localhost/probe:moving", f"moving{labelled}"
    containerd.ctr("images", "tag", "--force", OTHER_LAYERS, name, check=True)
    source = "https://github.com/hapifhir/hapi-fhir-jpaserver-starter"
    hidden = () if labelled else ("--label", "org.opencontainers.image.source=")
    assert confined(parse_status(containerd.run(name, id, "/bin/status", options=hidden).stdout))
    containerd.ctr("tasks", "rm", "-f", id)
    labels = ("v1", "default", "containers", id, "labels", "org.opencontainers.image.source")
    assert bolt.value(str(containerd.metadata), *labels) == (source.encode() if labelled else None)
    containerd.ctr("images", "tag", "--force", PLAIN, name, check=True)
    with watching(host) as records:
        done = containerd.ctr("tasks", "start", id)
    containerd.ctr("containers", "rm", id)
    decided = only(records, event="decision")
    if labelled:
        assert confined(parse_status(done.stdout)), done
        assert decided["decision"] == "confined" and "FH214" in [one["code"] for one in decided["findings"]]
    else:
        assert decided["decision"] == "undetermined" and "other layers" in decided["reasons"][0]["text"]


def test_attack_the_images_name_is_given_to_one_with_the_same_layers(containerd: Containerd, host: Host) -> None:
    name = "localhost/probe:relabelled"
    containerd.ctr("images", "tag", FHIR, name, check=True)
    containerd.run(name, "relabelled", "/bin/status")
    containerd.ctr("tasks", "rm", "-f", "relabelled")
    containerd.ctr("images", "tag", "--force", PLAIN, name, check=True)
    with watching(host) as records:
        done = containerd.ctr("tasks", "start", "relabelled")
    containerd.ctr("containers", "rm", "relabelled")
    assert confined(parse_status(done.stdout)) and only(records, event="decision")["decision"] == "confined"


def test_a_container_of_a_directory_has_no_image_and_leaves_no_record(containerd: Containerd, host: Host) -> None:
    root = host.bundle("probe:plain", ["/bin/status"]) / "rootfs"
    with watching(host) as records:
        done = containerd.run(str(root), "directory", "/bin/status", options=("--rm", "--rootfs"))
    assert done.returncode == 0 and not records, done


def test_a_snapshot_for_a_user_namespace_lies_on_the_layers_of_its_image(containerd: Containerd) -> None:
    """Read as a shim would: ctr hands no --runc-binary on together with --uidmap."""
    options = ("--rm=false", "--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536")
    containerd.ctr("run", *options, FHIR, "mapped", "/bin/status", check=True)
    bundle = containerd.root.parent / f"{paths.CONTAINERD_TASKS}/default/mapped"
    bundle.mkdir(parents=True)
    (bundle / "work").symlink_to(containerd.root / f"{paths.CONTAINERD_TASKS}/default/mapped")
    seen = containerd_store.identify(Spec({}), str(bundle))
    containerd.ctr("containers", "rm", "mapped", check=True)
    parent = bolt.value(str(containerd.metadata), "v1", "default", "containers", "mapped", "snapshotKey")
    assert parent is None and seen is not None and seen.image is not None, seen and seen.undetermined
    assert seen.image.names == (FHIR,)


def test_attack_a_second_name_evades_a_binding_by_name(containerd: Containerd, host: Host) -> None:
    containerd.ctr("images", "tag", PLAIN, "localhost/other:1", check=True)
    binding = Path("/etc/fhir-hook/config.d/bind.toml")
    binding.write_text(f'[[bind]]\nimage = "{PLAIN}"\nprofile = "fhir-jvm"\n')
    try:
        host.run(["fhir-hook", "policy", "compile"], check=True)
        done = containerd.run("localhost/other:1", "named", "/bin/status", options=("--rm",))
    finally:
        binding.unlink()
        host.run(["fhir-hook", "policy", "compile"], check=True)
        containerd.ctr("images", "rm", "localhost/other:1", check=True)
    assert parse_status(done.stdout)["Seccomp"] == "2", done


def test_metadata_is_read_rightly_while_containerd_writes_it(containerd: Containerd) -> None:
    """Two hundred readings, each against forty writers' worth of transactions."""
    writing = True

    def write(number: int) -> None:
        count = 0
        while writing:
            name = f"localhost/{number}:{count}"
            containerd.ctr("images", "tag", FHIR, name)
            containerd.ctr("images", "rm", name)
            count += 1

    wanted = {line.split()[0]: line.split()[2] for line in containerd.ctr("images", "ls").stdout.splitlines()[1:]}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for number in range(2):
            pool.submit(write, number)
        try:
            for _ in range(200):
                for name in (FHIR, PLAIN):
                    key = ("v1", "default", "images", name, "target", "digest")
                    assert (bolt.value(str(containerd.metadata), *key) or b"").decode() == wanted[name]
                assert bolt.value(str(containerd.metadata), "v1", "default", "images", "none", "target") is None
        finally:
            writing = False


@pytest.mark.parametrize("damage", ["empty", "zeros", "cut", "flipped", "loop"])
def test_attack_damaged_metadata_is_an_error_and_nothing_else(
    containerd: Containerd, tmp_path: Path, damage: str
) -> None:
    data = bytearray(containerd.metadata.read_bytes())
    size = int.from_bytes(data[24:28], "little")
    if damage == "empty":
        data = bytearray()
    elif damage == "zeros":
        data[: 2 * size] = bytes(2 * size)
    elif damage == "cut":
        del data[3 * size :]
    else:
        for at in range(2 * size, len(data)):
            data[at] = data[at] ^ 0x5A if damage == "flipped" else data[at % size]
    path = tmp_path / "meta.db"
    path.write_bytes(data)
    with pytest.raises(bolt.BoltError):
        assert bolt.value(str(path), "v1", "default", "images", FHIR, "target", "digest") is None
        raise bolt.BoltError("nothing was found, which is right too")
    assert json.dumps(damage)
