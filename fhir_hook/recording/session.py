"""One recording from start to end: phases, the workload, progress, and what became of it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import platform
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from fhir_hook.kernel import tracefs
from fhir_hook.recording import joined, listening, subject
from fhir_hook.recording.output import Output
from fhir_hook.recording.podman import Podman
from fhir_hook.recording.recorder import Recorder
from fhir_hook.recording.recording import SERVE, START, STOP, Recording
from fhir_hook.recording.subject import Subject
from fhir_hook.recording.tally import CONTAINER, RUNTIME, Tally, call_names

ROUND = 0.05
METHOD = "tracefs raw_syscalls"


class SessionError(Exception):
    """The recording could not be made; str() is one line."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What was asked for: the `workload` command, a `mark` in the container's output, `patience` until it listens."""

    workload: Sequence[str] = ()
    mark: str = ""
    patience: float = 300.0
    buffer_kib: int = 0


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a recording is."""

    phase: str
    calls: int
    rate: float
    lost: int
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A recording, with the workload's exit code (None: it did not run) and notes.

    `failed`: a workload was asked for, and it did not run or did not succeed.
    """

    recording: Recording
    workload: int | None
    failed: bool
    notes: tuple[str, ...]


class Session:
    """Records one subject; `tell` hears of progress, about ten times a second at most."""

    def __init__(self, what: Subject, plan: Plan, podman: Podman | None, tell: Callable[[Progress], None]) -> None:
        self._what = what
        self._plan = plan
        self._podman = podman
        self._tell = tell
        self._names = call_names()
        self._tally = Tally(self._names)
        self._phase = START
        self._interrupted = False
        self._marked = False
        self._notes: list[str] = []
        self._limits = ["one run: rare paths are missing"]
        self._told = (0.0, 0)
        self._workload: int | None = None
        self._libc = ""
        self._cgroups = joined.cgroup_filter(what.init)

    def run(self, name: str) -> Outcome:
        """Record until the workload, the container or the user ends it. Raises SessionError, TracefsError."""
        with Recorder(self._tally, self._names, self._plan.buffer_kib) as self._recorder, self._signals():
            with self._joining() as others:
                self._attach()
                if self._what.made:
                    self._started()
                else:
                    self._served()
                executed = Counter(others.executed) if others is not None else Counter()
            self._recorder.finish()
            self._tally.settle(self._recorder.lost > 0)
            lost, late = self._recorder.lost, (executed - Counter(self._tally.joined)).total()
            self._note_gaps(lost, late)
        failed = bool(self._plan.workload) and self._workload != 0
        recording = self._recording(name, lost, late)
        return Outcome(recording, self._workload, failed, tuple(self._notes))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the recording as if the workload had ended, SIGUSR1 is the mark."""

        def end(*_: object) -> None:
            self._interrupted = True

        def mark(*_: object) -> None:
            self._marked = True

        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, mark)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def _joining(self) -> Iterator[joined.Joined | None]:
        if not self._cgroups:
            self._notes.append("no control group of its own: processes that join it from outside are not recorded")
            yield None
            return

        def follow(task: int, state: str) -> None:
            self._recorder.follow_outermost([task], state)

        recorder, what = self._recorder, self._what
        with tracefs.Instance(recorder.tracefs, f"{os.getpid()}-joined", 256) as instance:
            instance.filter(joined.ATTACH, self._cgroups)
            instance.enable(joined.ATTACH)
            outermost = tracefs.is_outermost(instance)
            tell = (follow, self._tally.announce, self._tally.saw_join)
            with joined.Joined(instance, what.container, outermost, *tell) as others:
                yield others

    def _attach(self) -> None:
        """Follow what is there, again until nothing new has come meanwhile."""
        state = RUNTIME if self._what.made else CONTAINER
        self._phase = START if self._what.made else SERVE
        seen: set[int] = set()
        for _ in range(100):
            new = sorted(set(self._what.tasks()) - seen)
            if not new:
                break
            self._recorder.follow(new, state)
            seen |= set(new)
            if len(seen) == len(new):
                self._recorder.start(self._phase, f"/proc/{self._what.init}/root", self._cgroups)
        if not seen:
            raise SessionError(f"{self._what.title} ended before it could be recorded")
        if not self._what.made:
            self._limits.append("it ran already: what it does at its start is missing")
            self._libc = listening.libc(self._what.init)
            hidden = self._what.confined()
            if hidden:
                self._notes.append(f"it is under {hidden}: calls that these deny are not seen")

    def _started(self) -> None:
        """The whole life of a container that was made for this."""
        assert self._podman is not None
        starting = subject.start(self._podman, self._what)
        try:
            self._until_ready(starting)
            if not self._interrupted and self._what.alive():
                self._begin(SERVE)
                self._served()
            self._interrupted = False
            if self._what.alive():
                self._begin(STOP)
                stopping = subject.stop(self._podman, self._what)
                self._pump_until(lambda: stopping.poll() is not None)
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                starting.communicate(timeout=30)

    def _until_ready(self, starting: subprocess.Popen[str]) -> None:
        end = time.monotonic() + self._plan.patience
        with self._output() as marked:
            while not (self._marked or self._interrupted or marked()):
                if not self._what.alive():
                    self._failed(starting)
                    return
                if not self._plan.mark and listening.ports(self._what.init):
                    break
                if time.monotonic() > end:
                    raise SessionError(
                        f"{self._what.title} did not listen within {self._plan.patience:.0f} s; if it does not listen "
                        f"on TCP, tell when it is ready with --mark REGEX or by SIGUSR1"
                    )
                self._pump(ROUND)
        with contextlib.suppress(OSError, KeyError):
            self._libc = self._libc or listening.libc(self._what.init)
            if self._what.confined():
                self._limits.append("calls that the engine's own filter denied are not seen")

    def _failed(self, starting: subprocess.Popen[str]) -> None:
        """The container is gone: an error of the engine, or a program that just ended."""
        said, _ = starting.communicate(timeout=60)
        if starting.returncode != 0:
            raise SessionError(f"podman start: {said.strip().splitlines()[-1] if said.strip() else 'it failed'}")
        self._notes.append("the container ended by itself before it listened")

    @contextlib.contextmanager
    def _output(self) -> Iterator[Callable[[], bool]]:
        """Whether a line of the container's output has matched the mark."""
        if not self._plan.mark or self._podman is None or not self._what.container:
            yield lambda: False
            return
        pattern = re.compile(self._plan.mark)
        with Output(self._podman, self._what.container) as output:
            yield lambda: any(pattern.search(line) for line in output.lines())

    def _served(self) -> None:
        """The workload if there is one, else until the subject or the user ends it."""
        if not self._plan.workload:
            self._pump_until(lambda: not self._what.alive())
            return
        environment = {**os.environ, "FHIR_HOOK_PID": str(self._what.init), "FHIR_HOOK_CONTAINER": self._what.container}
        try:
            # Standard output is for the result.
            running = subprocess.Popen(list(self._plan.workload), env=environment, stdin=subprocess.DEVNULL, stdout=2)
        except OSError as error:
            raise SessionError(f"the workload {self._plan.workload[0]!r} can't be run: {error.strerror}") from None
        try:
            self._pump_until(lambda: running.poll() is not None)
        finally:
            if running.poll() is None:
                running.terminate()
            self._workload = running.wait()
        if self._workload:
            self._notes.append(f"the workload ended with exit code {self._workload}")

    def _pump_until(self, done: Callable[[], bool]) -> None:
        while not done() and not self._interrupted:
            self._pump(ROUND)

    def _begin(self, phase: str) -> None:
        self._recorder.begin(phase)
        self._phase = phase

    def _pump(self, seconds: float) -> None:
        self._recorder.pump(seconds)
        then, taken = self._told
        now = time.monotonic()
        if now - then >= 0.2:
            calls = len(self._tally.counted[self._phase])
            rate = (self._tally.taken - taken) / (now - then) if then else 0.0
            self._tell(Progress(self._phase, calls, rate, self._recorder.lost))
            self._told = (now, self._tally.taken)

    def _note_gaps(self, lost: int, late: int) -> None:
        if lost:
            size = self._recorder.buffer_kib
            self._notes.append(f"the kernel dropped {lost} events: record again with --buffer {size * 4}, not {size}")
        if late:
            self._notes.append(f"{late} processes that joined were followed too late: their first calls are missing")
        if self._tally.foreign:
            kinds = ", ".join(f"{name} ({count})" for name, count in sorted(self._tally.foreign.items()))
            self._notes.append(f"programs or calls of another ABI, which no profile allows: {kinds}")
        if self._recorder.unread:
            programs = ", ".join(sorted(self._recorder.unread)[:5])
            self._limits.append(f"whether these are programs of another ABI could not be seen: {programs}")
        if self._recorder.dropped_arguments:
            names = ", ".join(sorted(self._recorder.dropped_arguments))
            self._notes.append(f"called too often with too many arguments for all of them to be seen: {names}")

    def _recording(self, name: str, lost: int, late: int) -> Recording:
        what = self._what
        about = {
            "server": " ".join([what.title, *([f"({' '.join(what.command)[:200]})"] if what.command else [])]),
            "version": what.version,
            "method": METHOD,
            "date": datetime.date.today().isoformat(),
            "architecture": platform.machine(),
            "kernel": platform.release(),
            "libc": self._libc,
            "runtime": what.runtime,
            "workload": " ".join(self._plan.workload) or "none given",
            "limits": "; ".join([*self._limits, *self._notes]),
        }
        return Recording(
            name=name,
            about={key: _printable(text) for key, text in about.items() if text},
            phases=self._tally.phases,
            arguments=self._tally.arguments,
            lost={"events": lost, **({"late_processes": late} if late else {})},
            image=what.image,
            runtime_calls=frozenset(self._tally.runtime_calls),
            foreign=dict(self._tally.foreign),
            programs=tuple(dict.fromkeys(_printable(program) for program in self._tally.programs)),
        )


def _printable(text: str) -> str:
    """Text that came from an image or its programs, without what terminals act on."""
    return "".join(char if char.isprintable() else "?" for char in text)
