"""The private container host that tests/host/enter made, as the tests drive it."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "tests" / "images"
USER = "fhirtest"
PROBE_PROGRAMS = ("status", "try", "forker", "sleeper", "firstcall", "firstcall-unshare", "firstcall-bpf")
# tag of an image -> (tests/images/NAME that builds it, archive below the directory that it prints)
ARCHIVES = {
    "probe:plain": ("probe", "plain.tar"),
    "probe:hapi": ("probe", "hapi.tar"),
    "probe:hostile-files": ("probe", "hostile-files.tar"),
    "hapi:plain": ("hapi-plain", "hapi-plain.tar"),
    "hapi:jpa": ("hapi-jpa", "hapi-jpa.tar"),
    "fhirstarter:4.2.0": ("fhirstarter", "fhirstarter.tar"),
    "postgresql:15": ("postgresql", "postgresql.tar"),
    "nginx:1.22": ("nginx", "nginx.tar"),
    "redis:7.0": ("redis", "redis.tar"),
    "prometheus:2.42": ("prometheus", "prometheus.tar"),
    "fhir:examples": ("fhir-examples", "examples.jsonl"),
    # built on request
    "open-liberty:22.0.0.4": ("open-liberty", "open-liberty.tar"),
    "keycloak:26.7.3": ("keycloak", "keycloak.tar"),
    "pocketbase:0.36": ("go-server", "pocketbase.tar"),
    "helios:0.2.7": ("helios", "helios.tar"),
    "python-server:1": ("python-server", "python-server.tar"),
    "node:18": ("node", "node.tar"),
}
# command -> Debian package
TOOLS = {
    "podman": "podman",
    "runc": "runc",
    "crun": "crun",
    "conmon": "conmon",
    "buildah": "buildah",
    "skopeo": "skopeo",
    "umoci": "umoci",
    "newuidmap": "uidmap",
    "slirp4netns": "slirp4netns",
    "curl": "curl",
    "gcc": "gcc",
    "nsenter": "util-linux",
    "setcap": "libcap2-bin",
    "make": "make",
}

Result = subprocess.CompletedProcess[str]


def missing_packages() -> list[str]:
    """Debian packages of the tools that are not there."""
    return sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})


class Archives:
    """OCI archives of the test images, built when first asked for and kept in the user's cache."""

    def __init__(self) -> None:
        self._built: dict[str, Path] = {}

    def directory(self, name: str) -> Path:
        """Directory with the archives of tests/images/NAME; RuntimeError when the build fails."""
        if name not in self._built:
            done = subprocess.run([IMAGES / "build", name], stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(
                    f"image {name} could not be built: run tests/host/enter --net tests/images/build {name}"
                )
            self._built[name] = Path(done.stdout.strip())
        return self._built[name]

    def archive(self, tag: str) -> Path:
        """The archive of an image, by its tag without localhost/."""
        name, file = ARCHIVES[tag]
        return self.directory(name) / file

    def program(self, name: str) -> Path:
        """A static program of the probe image, for bundles and for mounting into other images."""
        return self.directory("probe") / name


class Host:
    """Every method takes user: None is root, "rootless" the ordinary user of the private host."""

    def __init__(self, images: Archives) -> None:
        self.images = images
        self.temporary = Path(os.environ["FHIR_HOOK_HOST_TMP"])
        self._loaded: set[tuple[str, str | None]] = set()
        self._no_hooks = self.temporary / "no-hooks"
        self._no_hooks.mkdir(exist_ok=True)

    def home(self, user: str | None = None) -> Path:
        """Home directory."""
        return Path("/root" if user is None else pwd.getpwnam(USER).pw_dir)

    def directory(self, user: str | None = None) -> Path:
        """A new empty directory that belongs to the user."""
        path = Path(tempfile.mkdtemp(dir=self.temporary))
        path.chmod(0o755)
        if user is not None:
            owner = pwd.getpwnam(USER)
            os.chown(path, owner.pw_uid, owner.pw_gid)
        return path

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        user: str | None = None,
        check: bool = False,
        timeout: float = 120,
        env: dict[str, str] | None = None,
        stdin: Path | None = None,
        input: str | None = None,
        cwd: Path | None = None,
    ) -> Result:
        """Runs a command. AssertionError with everything it said when check is set and it failed."""
        words = [str(word) for word in argv]
        extra = [f"{key}={value}" for key, value in (env or {}).items()]
        if user is not None:
            words = ["/usr/local/bin/as-user", *extra, *words]
        elif extra:
            words = ["env", *extra, *words]
        source = stdin.open() if stdin else (None if input is not None else subprocess.DEVNULL)
        try:
            done = subprocess.run(
                words,
                stdin=source,
                input=input,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                cwd=cwd,
                errors="replace",
            )
        finally:
            if source is not None and not isinstance(source, int):
                source.close()
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def podman(
        self, *args: str | Path, runtime: str = "runc", hooks: bool = True, user: str | None = None, **more: Any
    ) -> Result:
        """podman, on "runc" or "crun"; hooks=False runs it as if the product were not installed."""
        before = ["--runtime", runtime] + ([] if hooks else ["--hooks-dir", str(self._no_hooks)])
        return self.run(["podman", *before, *args], user=user, **more)

    def start(self, tag: str, *options: str | Path, command: Sequence[str] = (), **more: Any) -> str:
        """podman run -d without network unless the options name one; returns the container's id."""
        network = (
            () if any(str(o).startswith(("--network", "-p", "--publish")) for o in options) else ("--network", "none")
        )
        done = self.podman("run", "-d", *network, *options, tag, *command, check=True, **more)
        return done.stdout.strip().splitlines()[-1]

    def runtime(self, name: str, *args: str | Path, **more: Any) -> Result:
        """runc or crun itself."""
        return self.run([name, *args], **more)

    def buildah(self, *args: str | Path, **more: Any) -> Result:
        """buildah."""
        return self.run(["buildah", *args], **more)

    def load(self, tag: str, user: str | None = None) -> str:
        """Puts a built image into the store of the user, once; returns the tag."""
        if (tag, user) not in self._loaded:
            self.podman("load", "-q", user=user, stdin=self.images.archive(tag), check=True, timeout=300, hooks=False)
            self._loaded.add((tag, user))
        return tag

    def derive(self, base: str, tag: str, *options: str | Path, user: str | None = None) -> str:
        """A new image from BASE with other labels, annotations, user, entry point, files: see tests/images/derive."""
        self.load(base, user) if base in ARCHIVES else None
        self.run(["/usr/local/bin/derive", base, tag, *options], user=user, check=True)
        return tag

    def bundle(self, tag: str, *args: str, user: str | None = None) -> Path:
        """A runtime bundle of an image made with umoci, which runs ARGS without terminal and network."""
        top = self.directory(user)
        layout = top / "layout"
        with tarfile.open(self.images.archive(tag)) as archive:
            archive.extractall(layout)
        if user is not None:
            owner = pwd.getpwnam(USER)
            for path in (layout, *layout.rglob("*")):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        self.run(
            ["skopeo", "copy", "-q", f"oci:{layout}:localhost/{tag}", f"oci:{layout}:bundle"], user=user, check=True
        )
        rootless = ["--rootless"] if user is not None else []
        self.run(["umoci", "unpack", *rootless, "--image", f"{layout}:bundle", top / "bundle"], user=user, check=True)
        config = top / "bundle" / "config.json"
        spec = json.loads(config.read_text())
        spec["process"]["terminal"] = False
        if args:
            spec["process"]["args"] = list(args)
        config.write_text(json.dumps(spec))
        return top / "bundle"

    def pid(self, container: str, user: str | None = None) -> int:
        """Process id of a container's first process."""
        return int(self.podman("inspect", "-f", "{{.State.Pid}}", container, user=user, check=True).stdout)

    def config(self, container: str, user: str | None = None) -> dict[str, Any]:
        """The config.json that the runtime was given."""
        path = self.podman("inspect", "-f", "{{.OCIConfigPath}}", container, user=user, check=True).stdout.strip()
        spec: dict[str, Any] = json.loads(Path(path).read_text())
        return spec

    def http(self, container: str, url: str, *options: str, user: str | None = None) -> Result:
        """curl in the network of a container, whatever certificate a server has."""
        return self.run(
            ["nsenter", "-n", "-t", str(self.pid(container, user)), "curl", "-sSk", "-m", "20", *options, url]
        )

    def wait_http(self, container: str, url: str, seconds: float = 120, user: str | None = None) -> None:
        """Waits until the URL answers with success; AssertionError with the container's output when it does not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if (
                self.podman("inspect", "-f", "{{.State.Running}}", container, user=user, check=True).stdout.strip()
                != "true"
            ):
                break
            if self.http(container, url, "-f", user=user).returncode == 0:
                return
            time.sleep(0.2)
        logs = self.podman("logs", container, user=user)
        raise AssertionError(f"{url} did not answer in {seconds} s\n{logs.stdout[-4000:]}{logs.stderr[-4000:]}")

    def records(self, user: str | None = None) -> list[dict[str, Any]]:
        """The decision log's records, oldest first; empty when there is no log."""
        directory = Path("/var/log/fhir-hook") if user is None else self.home(user) / ".local/state/fhir-hook"
        log = directory / "decisions.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def proc_status(pid: int | str) -> dict[str, str]:
    """/proc/PID/status by key."""
    return parse_status(Path(f"/proc/{pid}/status").read_text())


def parse_status(text: str) -> dict[str, str]:
    """Text of a /proc/PID/status, or what the probe's status program prints, by key."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {key: " ".join(value.split()) for key, colon, value in pairs if colon}
