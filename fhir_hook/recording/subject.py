"""What is recorded: a container made from an image for the purpose, a running container, or a process."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

from fhir_hook.authoring import containers
from fhir_hook.kernel import procfs
from fhir_hook.recording import annotation, listening
from fhir_hook.recording.podman import Podman, PodmanError

STOP_SECONDS = 60


class Subject:
    """A container or process: its first process `init`, and what is known about it for the record.

    `container` is its id where an engine knows it; `made` whether it was made for the recording, so that it is started,
    stopped and removed.
    """

    def __init__(self, init: int, made: bool = False) -> None:
        self.init = init
        self.made = made
        self.container = ""
        self.title = f"process {init}"
        self.version = ""
        self.runtime = ""
        self.image: dict[str, Any] = {}
        self.labels: dict[str, str] = {}
        self.command: list[str] = []
        self.trace_to = annotation.Wanted()

    def tasks(self) -> list[int]:
        """All threads of all its processes."""
        return [task for pid in listening.processes(self.init) for task in procfs.tasks(pid)]

    def confined(self) -> str:
        """Whether a seccomp filter hides calls from the recording: those that it denies are not reported."""
        status = procfs.status(self.init)
        return f"{status.filters or 1} seccomp filter(s)" if status.seccomp == 2 else ""

    def alive(self) -> bool:
        """Whether its first process still runs."""
        try:
            return procfs.status(self.init).state not in "ZX"
        except (OSError, KeyError):
            return False


def of_process(pid: int) -> Subject:
    """A process and its children. Raises containers.NotFound."""
    subject = Subject(pid)
    if not subject.alive():
        raise containers.NotFound(f"there is no process {pid}")
    return subject


def of_container(podman: Podman, name: str) -> Subject:
    """A running container. Raises containers.NotFound."""
    running = containers.find(name)
    subject = Subject(running.init)
    subject.container = running.id
    subject.title = running.name or running.id or name
    with contextlib.suppress(PodmanError):
        _describe(podman, subject)
    return subject


@contextlib.contextmanager
def of_image(podman: Podman, image: str, options: Sequence[str], command: Sequence[str]) -> Iterator[Subject]:
    """A new container of an image, set up and not started yet; it is removed in the end. Raises PodmanError."""
    container = podman.create(options, image, command)
    try:
        subject = Subject(podman.initialize(container), made=True)
        subject.container = container
        _describe(podman, subject)
        yield subject
    finally:
        podman.remove(container)


def start(podman: Podman, subject: Subject) -> subprocess.Popen[str]:
    """Start the container that was set up."""
    return podman.begin("start", subject.container)


def stop(podman: Podman, subject: Subject) -> subprocess.Popen[str]:
    """Ask the container to stop, with SIGTERM or what its image asks for."""
    return podman.begin("stop", "-t", str(STOP_SECONDS), subject.container)


def _describe(podman: Podman, subject: Subject) -> None:
    seen = podman.inspect("container", subject.container)
    image = podman.inspect("image", seen["Image"])
    subject.labels = image.get("Labels") or {}
    subject.image = {"id": "sha256:" + image["Id"], "names": sorted(image.get("RepoTags") or [])}
    if re.fullmatch("sha256:[0-9a-f]{64}", image.get("Digest") or ""):
        subject.image["digest"] = image["Digest"]
    subject.title = seen.get("ImageName") or subject.title
    subject.version = subject.labels.get("org.opencontainers.image.version", "")
    subject.runtime = runtime_version(seen.get("OCIRuntime") or "")
    subject.command = [seen.get("Path") or "", *(seen.get("Args") or [])]
    own = (seen.get("Config") or {}).get("Annotations") or {}
    subject.trace_to = annotation.wanted(own, image.get("Annotations") or {})


def runtime_version(name: str) -> str:
    """runc 1.1.5."""
    try:
        done = subprocess.run([name, "--version"], capture_output=True, text=True, timeout=10, check=False)
        version = re.search(r"version (\S+)", done.stdout)
    except (OSError, subprocess.TimeoutExpired):
        return name
    short = name.rpartition("/")[2]
    return f"{short} {version[1]}" if version else short
