"""What was seen so far: a state machine over trace events in the order of time, without any effect of its own."""

from __future__ import annotations

import dataclasses
import platform
from collections import Counter
from collections.abc import Iterable, Mapping

from fhir_hook.authoring.expand import NUMBERS
from fhir_hook.recording import arguments
from fhir_hook.recording.recording import PHASES, Seen

X32 = 0x4000_0000
# A runtime that executes itself again is still the runtime.
OWN_EXEC = ("/proc/self/", "/proc/thread-self/", "/dev/fd/", "memfd:")
RUNTIMES = ("runc", "crun", "youki")
# Whose a task is: the container's; the OCI runtime's, in the container but before its program; a runtime's outside of
# it; of a program for another ABI; somebody else's, whom a followed runtime started; not known: its fork is missing.
CONTAINER, RUNTIME, OUTSIDE, FOREIGN, OTHER = "container", "runtime", "outside", "foreign", "other"
UNKNOWN = "unknown"


def is_runtime(program: str) -> bool:
    """Whether a program is one that starts containers."""
    return program.rpartition("/")[2] in RUNTIMES


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A system call was entered."""

    task: int
    number: int
    args: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Fork:
    """A task made another."""

    task: int
    child: int


@dataclasses.dataclass(frozen=True, slots=True)
class Exec:
    """A task runs another program; foreign: the ABI of a program that is not of the machine's own."""

    task: int
    program: str
    foreign: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Join:
    """A task was put into the container's cgroup; child is its number."""

    task: int
    child: int


@dataclasses.dataclass(frozen=True, slots=True)
class Exit:
    """A task ended."""

    task: int


Happening = Call | Fork | Exec | Exit | Join


def call_names(machine: str = "") -> dict[int, str]:
    """Call names by number of a machine; raises KeyError on one that is not supported."""
    return {number: name for name, number in NUMBERS[machine or platform.machine()].items()}


class Tally:
    """Calls by phase, of tasks that belong to the container.

    Tasks that were added as RUNTIME are the OCI runtime's until they execute the container's program; what they start
    before that is the runtime's too. A task whose fork is missing is of a runtime that was followed while it ran
    already, or, when events were lost, perhaps the container's: settle() decides.
    `joined` lists tasks that executed a program of the container, `others` those that proved to be somebody else's.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._state: dict[int, str] = {}
        self._starts: list[tuple[int, str]] = []
        self.counted: dict[str, Counter[str]] = {}
        self.raw: dict[str, dict[str, Counter[tuple[int, ...]]]] = {}
        self._seen: dict[str, dict[tuple[str, arguments.Values], set[str]]] = {}
        self.runtime_calls: set[str] = set()
        self.foreign: Counter[str] = Counter()
        self.programs: dict[str, None] = {}
        self.joined: list[int] = []
        self.others: list[int] = []
        self._joins: set[int] = set()
        self._unknown: dict[str, set[str]] = {}
        self.taken = 0

    def add(self, tasks: Iterable[int], state: str) -> None:
        """Announce tasks: of the runtime, or of the container already. What is known of a task stays."""
        for task in tasks:
            self._state.setdefault(task, state)

    def announce(self, task: int) -> None:
        """A task was put into the container's cgroup, as somebody else saw."""
        self._state.setdefault(task, RUNTIME)

    def saw_join(self, task: int) -> bool:
        """Whether the events themselves said so."""
        return task in self._joins

    def forget(self, task: int) -> None:
        """The number of a task may be another's soon."""
        self._state.pop(task, None)

    def begin(self, phase: str, time: int) -> None:
        """From `time` (ns of the trace clock) on, calls belong to a phase."""
        self._starts.append((time, phase))
        self.counted.setdefault(phase, Counter())
        self.raw[phase] = {}

    def phase_at(self, time: int) -> str:
        """The phase of a moment."""
        for start, phase in reversed(self._starts):
            if time >= start:
                return phase
        return self._starts[0][1]

    def state(self, task: int) -> str:
        """Whose a task is."""
        return self._state.get(task, UNKNOWN)

    def take(self, time: int, event: Happening) -> None:
        """Take one event, in the order of time."""
        self.taken += 1
        if isinstance(event, Call):
            self._call(self.phase_at(time), event)
        elif isinstance(event, Fork):
            self._state[event.child] = self.state(event.task)
        elif isinstance(event, Exit):
            self.forget(event.task)
        elif isinstance(event, Join):
            self._joins.add(event.child)
            if self.state(event.child) in (OUTSIDE, OTHER, UNKNOWN):
                self._state[event.child] = RUNTIME
        else:
            self._exec(self.phase_at(time), event)

    def _exec(self, phase: str, event: Exec) -> None:
        state = self.state(event.task)
        if state in (RUNTIME, OUTSIDE, UNKNOWN) and event.program.startswith(OWN_EXEC):
            return
        if state in (OUTSIDE, OTHER, UNKNOWN):
            if state == OUTSIDE and not is_runtime(event.program):
                self._state[event.task] = OTHER
                self.others.append(event.task)
            return
        if state == RUNTIME:
            # The runtime makes this call, but under the container's filter and for its first program.
            self.counted[phase]["execve"] += 1
            self.joined.append(event.task)
        self._state[event.task] = FOREIGN if event.foreign else CONTAINER
        if event.foreign:
            self.foreign[event.foreign] += 1
        elif len(self.programs) < 64:
            self.programs[event.program] = None

    def _call(self, phase: str, event: Call) -> None:
        state = self.state(event.task)
        number = event.number
        if state in (FOREIGN, OUTSIDE, OTHER) or number < 0:
            return
        if number & X32:
            self.foreign["x32"] += 1
            return
        name = self._names.get(number, f"syscall_{number}")
        if state == RUNTIME:
            self.runtime_calls.add(name)
            return
        if state == UNKNOWN:
            self._unknown.setdefault(phase, set()).add(name)
            return
        self.counted[phase][name] += 1
        if name in arguments.SHAPES:
            self._arguments(phase, name, event.args)

    def _arguments(self, phase: str, name: str, args: tuple[int, ...]) -> None:
        if not arguments.counts(name, args):
            return
        self.raw[phase].setdefault(name, Counter())[arguments.raw(name, args)] += 1
        key = (arguments.SHAPES[name].text(args), arguments.values(name, args))
        self._seen.setdefault(name, {}).setdefault(key, set()).add(phase)

    def settle(self, lossy: bool) -> None:
        """At the end: calls of tasks that nobody knows count when events were lost, otherwise they are a runtime's."""
        for phase, names in self._unknown.items():
            if lossy:
                self.counted[phase].update(names)
            else:
                self.runtime_calls |= names
        self._unknown = {}

    @property
    def phases(self) -> dict[str, frozenset[str]]:
        """Calls by phase."""
        return {phase: frozenset(counted) for phase, counted in self.counted.items()}

    @property
    def arguments(self) -> dict[str, tuple[Seen, ...]]:
        """Argument combinations by call."""
        return {
            call: tuple(
                Seen(text, values, tuple(phase for phase in PHASES if phase in where))
                for (text, values), where in sorted(found.items())
            )
            for call, found in sorted(self._seen.items())
        }
