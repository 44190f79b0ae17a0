"""What the kernel enforces on a container now, and which profile that is."""

from __future__ import annotations

import base64
import platform
from typing import Any

from fhir_hook.authoring.containers import Running
from fhir_hook.core import bpf, bpf_classify, capabilities
from fhir_hook.core.bpf_classify import Verdict
from fhir_hook.core.digest import sha256_hex
from fhir_hook.kernel import procfs, readback
from fhir_hook.store import policy

UNKNOWN_CALL = 1000  # no architecture has it: what a filter answers to calls newer than itself
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


class Task:
    """How one thread is confined: everything that can differ between threads of a container."""

    def __init__(self, pid: int, tid: int, status: procfs.Status) -> None:
        self.pid = pid
        self.tid = tid
        self.name = status.name
        self.state = {
            "seccomp": status.seccomp,
            "filters": status.filters,
            "no_new_privs": status.no_new_privs,
            "capabilities": {name: f"{getattr(status.capabilities, name):016x}" for name in SETS},
        }


class Inspection:
    """The confinement of a container's first process, and the tasks that differ from it.

    `programs` are the filters as the kernel has them, or None when they can't be read (`unread` says why);
    `verdicts` what they answer together, by call name.
    """

    def __init__(self, running: Running) -> None:
        self.running = running
        self.architecture = platform.machine()
        self.status = procfs.status(running.init)
        self.first = Task(running.init, running.init, self.status)
        self.programs: list[bytes] | None = None
        self.unread = ""
        try:
            self.programs = readback.filters(running.init)
        except OSError as error:
            self.unread = f"the filters can't be read back: {error} (root of the host can)"
        self.verdicts = _verdicts(self.programs, self.architecture) if self.programs is not None else {}
        self.tasks, self.different = _compare(running, self.first)

    @property
    def counts(self) -> dict[str, int]:
        """How many known calls are allowed, filtered by arguments, logged, denied."""
        counts = {"allowed": 0, "filtered": 0, "logged": 0, "denied": 0}
        for verdict in self.verdicts.values():
            counts[verdict] += 1
        return counts

    def as_object(self) -> dict[str, Any]:
        """All of it, for --json."""
        return {
            "container": {"id": self.running.id, "name": self.running.name},
            "init": self.running.init,
            "processes": len(self.running.pids),
            "tasks": self.tasks,
            **self.first.state,
            "capability_names": {name: capabilities.names(getattr(self.status.capabilities, name)) for name in SETS},
            "programs": None if self.programs is None else [sha256_hex(p) for p in self.programs],
            "unread": self.unread,
            "counts": self.counts if self.verdicts else None,
            "calls": self.verdicts or None,
            "profile": profile_of(self),
            "different": [{"pid": t.pid, "tid": t.tid, "name": t.name, **t.state} for t in self.different],
        }


def _numbers(architecture: str) -> dict[str, int]:
    if architecture == "aarch64":
        from fhir_hook.core.syscalls_aarch64 import NUMBERS
    else:
        from fhir_hook.core.syscalls_x86_64 import NUMBERS
    return NUMBERS


def _verdicts(programs: list[bytes], architecture: str) -> dict[str, str]:
    """What all filters together say to each call: the strictest of them, as the kernel takes it."""
    numbers = _numbers(architecture)
    result = dict.fromkeys(numbers, "allowed")
    order = ("allowed", "logged", "filtered", "denied")
    for program in programs:
        kinds = bpf_classify.classify(bpf.decode(program), bpf.ARCH[architecture], numbers.values())
        for name, number in numbers.items():
            result[name] = max(result[name], kinds[number].kind, key=order.index)
    return result


def _compare(running: Running, first: Task) -> tuple[int, list[Task]]:
    """How many tasks the container has, and those whose confinement is not the first one's."""
    total, different = 0, []
    for pid in running.pids:
        for tid in procfs.tasks(pid):
            try:
                task = Task(pid, tid, procfs.status(pid, tid))
            except (OSError, KeyError):
                continue  # it ended while we looked
            total += 1
            if task.state != first.state:
                different.append(task)
    return total, different


def profile_of(inspection: Inspection) -> dict[str, str]:
    """Which installed profile the filters equal: {"name", "how"}; how is exact, alike, tighter, or "" for none.

    exact: one filter has the very bytes. alike: every call gets the same answers (a runtime compiles for itself).
    tighter: never looser than the profile, as where the engine's own section denied more.
    """
    if not inspection.programs:
        return {"name": "", "how": ""}
    best = {"name": "", "how": ""}
    nearest = len(_numbers(inspection.architecture)) + 1
    for name, program in _policy_filters(inspection.architecture):
        how, distance = _how(inspection.programs, program, inspection.architecture)
        if how and distance < nearest:
            best, nearest = {"name": name, "how": how}, distance
    return best


def _policy_filters(architecture: str) -> list[tuple[str, bytes]]:
    try:
        index = policy.load_index()
        body = policy.Body(index)
    except policy.PolicyError:
        return []
    try:
        return [
            (name, base64.b64decode(body.programs(name, architecture)["enforce"]))
            for name in index.document["profiles"]
        ]
    except (policy.PolicyError, KeyError):
        return []
    finally:
        body.close()


def _how(programs: list[bytes], profile: bytes, architecture: str) -> tuple[str, int]:
    """How the filters relate to a profile's program, and how many calls they answer otherwise."""
    if profile in programs:
        return "exact", -1
    numbers = [*_numbers(architecture).values(), UNKNOWN_CALL]
    wanted = bpf_classify.classify(bpf.decode(profile), bpf.ARCH[architecture], numbers)
    best = ("", len(numbers))
    for program in programs:
        seen = bpf_classify.classify(bpf.decode(program), bpf.ARCH[architecture], numbers)
        differing = sum(seen[n].answers != wanted[n].answers for n in numbers)
        if not differing:
            return "alike", 0
        if all(_no_looser(seen[n], wanted[n]) for n in numbers):
            best = min(best, ("tighter", differing), key=lambda found: found[1])
    return best


def _no_looser(seen: Verdict, wanted: Verdict) -> bool:
    if wanted.kind == "denied":
        return seen.kind == "denied"
    if wanted.kind == "filtered":
        return seen.kind in ("denied", "filtered")
    return True
