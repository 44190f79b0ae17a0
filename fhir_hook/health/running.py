"""FHIR containers that run without what the policy gives them: started around the hook, or while it was off."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from fhir_hook.authoring import containers, inspection
from fhir_hook.core import decide, paths
from fhir_hook.engines.names import NAME
from fhir_hook.health.finding import Finding, bad, good, note
from fhir_hook.kernel import procfs
from fhir_hook.store import containerd_store, docker_store, names, policy
from fhir_hook.store import containers_storage as storage

CHECK = "containers.confined"
DRIVERS = ("overlay", "vfs", "btrfs")
DOCKER = "/var/lib/docker"
CONTAINERD = Path("/run/containerd", paths.CONTAINERD_TASKS)
REPAIRS = {
    "docker": f"start it with docker run --runtime {NAME}",
    "containerd": f"start its pod anew, with a RuntimeClass of the handler {NAME}",
}


def bypassed() -> Iterator[Finding]:
    """Each running container of this host's stores whose image is FHIR, compared with what the kernel enforces."""
    try:
        index = policy.load_index()
    except policy.PolicyError:
        return  # another check says so
    count, problems, unknown = 0, 0, 0
    for graph, driver, id in _stored():
        decision, name = _decided(graph, driver, id, index)
        if decision.decision == decide.UNDETERMINED:
            unknown += 1
        if decision.decision not in (decide.CONFINED, decide.REFUSED):
            continue
        running = _running(driver, id)
        id = id.rpartition("/")[2]
        if running is None:
            continue
        count += 1
        what = _loose(running, decision)
        if what:
            problems += 1
            shown = names.shown(name) if names.wanted(index.document["settings"]) else name
            seen = f"container {shown or id[:12]} ({id[:12]}) runs FHIR and {what}"
            why = "it was started around the hook, or while the hook was not in force; nothing confines it"
            yield bad(CHECK, seen, why, REPAIRS.get(driver, f"podman restart {id[:12]}"))
    if unknown:
        yield note(CHECK, f"of {unknown} containers the image can't be read", "whether they are FHIR is not known")
    if not problems:
        yield good(CHECK, f"{count} FHIR containers run, all of them confined")


def _stored() -> Iterator[tuple[str, str, str]]:
    """(graph root, driver, id) of each container that an image store lists; containerd's id is NAMESPACE/ID."""
    for graph in _graph_roots():
        for driver in DRIVERS:
            ids = set()
            for name in ("containers.json", "volatile-containers.json"):
                try:
                    entries = json.loads(Path(graph, f"{driver}-containers", name).read_text(encoding="utf-8"))
                except (OSError, ValueError):
                    continue
                ids |= {entry.get("id") for entry in entries if isinstance(entry, dict)}
            yield from ((graph, driver, id) for id in sorted(filter(None, ids)))
    try:
        docker = sorted(path.name for path in Path(DOCKER, "containers").iterdir() if storage.is_id(path.name))
    except OSError:
        docker = []
    yield from ((DOCKER, "docker", id) for id in docker)
    yield from ((containerd_store.ROOT, "containerd", f"{one}/{id}") for one, id in containerd_store.listed())


def _graph_roots() -> list[str]:
    """The usual places: of root and, for root, of every user."""
    own = ".local/share/containers/storage"
    if os.geteuid() != 0:
        return [str(Path.home() / own)]
    homes = {str(Path(user.pw_dir) / own) for user in pwd.getpwall() if user.pw_dir.startswith("/")}
    return ["/var/lib/containers/storage", *sorted(home for home in homes if Path(home).is_dir())]


def _decided(graph: str, driver: str, id: str, index: policy.Index) -> tuple[decide.Decision, str]:
    if driver == "containerd":
        namespace, _, own = id.partition("/")
        container = containerd_store.identify_by_id(namespace, own, graph)
        return decide.decide(container, index.document), container.name
    if driver == "docker":
        container = docker_store.identify_by_id(graph, id)
        return decide.decide(container, index.document), container.name
    container = storage.identify_by_id(graph, driver, id)
    if container.image is not None and decide.wants_names(index.document):
        storage.describe(storage.Place(graph, driver, ""), container.image)
    return decide.decide(container, index.document), container.name


def _running(driver: str, id: str) -> containers.Running | None:
    try:
        # An id of containerd's may be any short word: its process is the one that the bundle tells.
        return containers.find((CONTAINERD / id / "init.pid").read_text() if driver == "containerd" else id)
    except (containers.NotFound, OSError, ValueError):
        return None


def _loose(running: containers.Running, decision: decide.Decision) -> str:
    """What is missing of a container's confinement, or ""; in complain mode nothing has to be there."""
    if decision.mode == decide.COMPLAIN:
        return ""
    try:
        status = procfs.status(running.init)
        if not status.no_new_privs:
            return "has no no_new_privs"
        if status.seccomp != 2:
            return "has no seccomp filter"
        if os.geteuid() != 0:
            return ""
        seen = inspection.Inspection(running)
    except (OSError, KeyError):
        return ""  # it ended while we looked
    if seen.programs is not None and not inspection.profile_of(seen)["how"]:
        return "has a filter that is looser than every profile"
    return ""
