"""Finding a container's processes on this host, by name, id or process number, without asking an engine."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import psutil

from fhir_hook.kernel import procfs
from fhir_hook.store import log, log_reader

_ID = re.compile(r"[0-9a-f]{64}")
RUNTIME_STATES = (("runc", "state.json", "init_process_pid"), ("crun", "status", "pid"))


class NotFound(Exception):
    """No running process belongs to what was named; str() is one line."""


class Running:
    """A running container: its `init` process, `id` and `name` where known, and all `pids` it has now."""

    def __init__(self, init: int, pids: list[int], id: str = "", name: str = "") -> None:
        self.init = init
        self.pids = pids
        self.id = id
        self.name = name


def find(target: str) -> Running:
    """Find a container by its name, the start of its id, or the number of one of its processes. Raises NotFound."""
    if target.isdigit() and psutil.pid_exists(int(target)):
        return _around(int(target))
    for id, name in _known_as(target):
        pids = _in_cgroup_of(id)
        if pids:
            return Running(_first(pids), pids, id, name)
        pid = _from_runtime(id)
        if pid:
            running = _around(pid)
            running.id, running.name = id, name
            return running
    raise NotFound(
        f"no running container is called {target!r}; name it as 'podman ps' does, by its id, or give a process number"
    )


def _known_as(target: str) -> Iterator[tuple[str, str]]:
    """(id, name) pairs that the target may mean: from the image stores, itself as an id, then from the log, which is
    read only when it has to be."""
    for id, name in _stored():
        if target == name or (len(target) >= 4 and id.startswith(target)):
            yield id, name
    yield target, ""
    if not _ID.fullmatch(target):
        yield from _logged(target)


def _stored() -> list[tuple[str, str]]:
    pairs = []
    for graph in _graph_roots():
        for path in graph.glob("*-containers/*containers.json"):
            try:
                entries = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            for entry in entries:
                names = entry.get("names") or [""]
                pairs += [(entry.get("id", ""), name) for name in names]
    return pairs


def _graph_roots() -> list[Path]:
    roots = [Path("/var/lib/containers/storage")]
    if os.geteuid() != 0:
        roots.insert(0, Path.home() / ".local/share/containers/storage")
    return roots


def _logged(target: str) -> list[tuple[str, str]]:
    """The containers of that name or id, the newest first; what users say of theirs names none of the host's."""
    pairs: dict[tuple[str, str], None] = {}
    try:
        for entry in log_reader.entries(Path(log.directory())):
            container = entry.record.get("container")
            if not isinstance(container, dict) or "from" in entry.record or entry.record.get("owner"):
                continue
            pair = (str(container.get("id", "")), str(container.get("name", "")))
            if pair[0] and target in pair:
                pairs.pop(pair, None)
                pairs[pair] = None
    except OSError:
        return []
    return [*reversed(pairs)]


def _in_cgroup_of(id: str) -> list[int]:
    """Processes in a cgroup that is named after the container; its monitor (conmon) has one of its own."""
    pids = []
    for process in psutil.process_iter():
        try:
            groups = procfs.cgroups(process.pid).values()
        except OSError:
            continue
        parts = [part for group in groups for part in group.split("/") if id and id in part]
        if parts and not any("conmon" in part for part in parts):
            pids.append(process.pid)
    return pids


def _from_runtime(id: str) -> int:
    if "/" in id:
        return 0
    for runtime, name, member in RUNTIME_STATES:
        for run in (Path("/run"), *_user_runs()):
            try:
                value = json.loads((run / runtime / id / name).read_text()).get(member, 0)
            except (OSError, ValueError, AttributeError):
                continue
            if isinstance(value, int) and psutil.pid_exists(value):
                return value
    return 0


def _user_runs() -> list[Path]:
    """Where the runtimes of ordinary users keep their state: of all of them for root, of oneself otherwise."""
    users = Path("/run/user")
    try:
        return sorted(users.iterdir()) if os.geteuid() == 0 else [users / str(os.geteuid())]
    except OSError:
        return []


def _around(pid: int) -> Running:
    """The container around one process: all processes below the first one of its pid namespace."""
    try:
        first = psutil.Process(pid)
        namespace = procfs.pid_namespace(pid)
        parent = first.parent()
        while parent is not None and procfs.pid_namespace(parent.pid) == namespace:
            first, parent = parent, parent.parent()
        pids = [first.pid, *(child.pid for child in first.children(recursive=True))]
    except (psutil.Error, OSError) as error:
        raise NotFound(f"process {pid} can't be looked at: {error}") from None
    if namespace == procfs.pid_namespace(os.getpid()):
        pids = [pid]
        first = psutil.Process(pid)
    return Running(first.pid, pids)


def _first(pids: list[int]) -> int:
    """The process that is number 1 in its innermost pid namespace, else the oldest."""

    def order(pid: int) -> tuple[bool, int]:
        try:
            return procfs.status(pid).nspid[-1:] != (1,), procfs.start_time(pid)
        except OSError:
            return True, 1 << 62

    return min(pids, key=order)
