"""Processes that join a container from outside (podman exec, health checks), followed before they run its programs.

The OCI runtime puts such a process into the container's cgroup and executes the program milliseconds later. So the
runtime is followed from its own start: a second trace instance reports programs that are executed on the machine, and
this thread has the recorder follow runtimes whose command line names the container. The recorder then sees for itself
which of their children is put into the container's cgroup, and leaves the others alone. Processes that an unknown
program puts there are followed from then on. `executed` lists those that went on to run a program: when the recorder
has not seen it, it was too late.

To follow one more process takes the kernel some 20 ms, in which no other can be: so nothing is followed needlessly.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable

import psutil

from fhir_hook.kernel import procfs, tracefs
from fhir_hook.recording.tally import OUTSIDE, RUNTIME, is_runtime

ATTACH, EXEC = "cgroup/cgroup_attach_task", "sched/sched_process_exec"
DOUBT = 0.15  # seconds after which the recorder would know a process that it follows already
MOST_URGENT = -20  # this thread sleeps nearly always, and is in a race when it does not
LONGEST_PATH = 200  # a string in an event filter has less than 256 characters


def cgroup_filter(init: int) -> str:
    """The event filter for processes put into a container's cgroups; "" when it has none of its own."""
    own = set(procfs.cgroups(1).values()) | {"/"}
    paths = {path[-LONGEST_PATH:] for path in procfs.cgroups(init).values() if path not in own}
    safe = [path for path in sorted(paths) if not set(path) & set('"\\*?[')]
    return " || ".join(f'dst_path ~ "*{path}" || dst_path ~ "*{path}/*"' for path in safe)


class Joined:
    """A context: while it lasts, `follow` is called with the first namespace's number and the state of processes.

    `announce` tells the recorder of a process in the container's cgroup, `knows` asks whether it saw it come;
    `container` is the container's id ("" if it has none), `outermost` whether numbers here are the first namespace's.
    """

    def __init__(
        self,
        instance: tracefs.Instance,
        container: str,
        outermost: bool,
        follow: Callable[[int, str], None],
        announce: Callable[[int], None],
        knows: Callable[[int], bool],
    ) -> None:
        self._container = container.encode()
        self._outermost = outermost
        self._follow = follow
        self._announce = announce
        self._knows = knows
        self._inside: set[int] = set()
        self._doubtful: list[tuple[float, int]] = []
        self.executed: list[int] = []
        self._stop = threading.Event()
        self._instance = instance
        self._attach = instance.format(ATTACH)
        self._exec = instance.format(EXEC)
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Joined:
        self._instance.write("buffer_percent", "0")
        self._instance.enable(EXEC)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), MOST_URGENT)
        while not self._stop.is_set():
            self._instance.wait(0.05)
            for _, id, task, page, at in sorted(self._instance.drain(), key=lambda event: event[0]):
                if id == self._attach.id:
                    self._join(self._attach.number("pid", page, at))
                elif task in self._inside:
                    self._inside.discard(task)
                    self.executed.append(task)
                elif is_runtime(self._exec.text("filename", page, at)) and self._concerns(task):
                    self._follow(task, OUTSIDE)
            while self._doubtful and self._doubtful[0][0] < time.monotonic():
                task = self._doubtful.pop(0)[1]
                if not self._knows(task):
                    self._follow(task, RUNTIME)

    def _join(self, task: int) -> None:
        if task not in self._inside:
            self._inside.add(task)
            self._announce(task)
            self._doubtful.append((time.monotonic() + DOUBT, task))

    def _concerns(self, task: int) -> bool:
        """Whether the command line of a runtime names the container."""
        if not self._container:
            return False
        # In another pid namespace the number says nothing: any runtime that is at work on the container will do.
        for pid in [task] if self._outermost else reversed(psutil.pids()):
            try:
                words = procfs.read(f"/proc/{pid}/cmdline").split(b"\0")
            except OSError:
                continue
            if is_runtime(words[0].decode(errors="replace")) and self._container in b" ".join(words[1:]):
                return True
        return False
