"""Records the system calls of tasks through a trace instance, and narrows what the kernel reports as calls get known.

raw_syscalls/sys_enter reports every call, at a price of some 250 ns each. When there are many of them, it is replaced
by the calls' own events (syscalls/sys_enter_NAME): those of known calls stay switched off, which costs a look at an
array, so that a busy server pays for what is new. The event of a frequent call whose arguments matter gets a filter
that leaves out known arguments. Every phase begins with raw_syscalls again.
"""

from __future__ import annotations

import os
import struct
import time
from collections import Counter
from pathlib import Path

from fhir_hook.kernel import tracefs
from fhir_hook.recording import arguments, listening
from fhir_hook.recording.tally import CONTAINER, OWN_EXEC, RUNTIME, Call, Exec, Exit, Fork, Happening, Join, Tally

ENTER = "raw_syscalls/sys_enter"
FORK, EXEC, EXIT = "sched/sched_process_fork", "sched/sched_process_exec", "sched/sched_process_exit"
ATTACH = "cgroup/cgroup_attach_task"
OWN = "syscalls/sys_enter_"
# Calls whose event has another name than the call.
RENAMED = {
    **{"newfstat": "fstat", "newstat": "stat", "newlstat": "lstat", "newuname": "uname"},
    **{"sendfile64": "sendfile", "umount": "umount2"},
}
BUSY = 400  # events in one round from which on it pays to narrow
FREQUENT = 50  # uses of one call in one round from which on its arguments are filtered by the kernel
FILTERS_APART = 0.02  # seconds
PAGES = 64  # of each processor in one round: about 3,500 calls
SETTLE_NS = 2_000_000  # an event may become visible so much later than one that is younger
_NUMBER = struct.Struct("=q6Q")
_ELF_32 = {3: "i386", 40: "arm"}  # e_machine of elf(5)


def default_buffer() -> int:
    """KiB per processor: 64 MiB in all, between 1 and 8 MiB each."""
    return max(1024, min(8192, 65536 // (os.cpu_count() or 1)))


class Recorder:
    """A context in which the calls of followed tasks are tallied; pump() it often."""

    def __init__(self, tally: Tally, names: dict[int, str], buffer_kib: int = 0) -> None:
        """Raises TracefsError."""
        self.tally = tally
        self._names = names
        self._root = -1
        self.unread: set[str] = set()
        self.tracefs = tracefs.find()
        self.removed = tracefs.remove_stale(self.tracefs)
        name = f"{os.getpid()}-{time.monotonic_ns()}"
        self.buffer_kib = buffer_kib or default_buffer()
        self.instance = tracefs.Instance(self.tracefs, name, self.buffer_kib)
        try:
            self._formats = {event: self.instance.format(event) for event in (ENTER, FORK, EXEC, EXIT, ATTACH)}
        except tracefs.TracefsError:
            self.instance.close()
            raise
        self._kinds = {layout.id: event for event, layout in self._formats.items()}
        self._own: dict[int, str] = {}
        self._off: set[str] = set()
        self._sparse = False
        self._pending: list[tracefs.Event] = []
        self._narrowed_at = 0.0
        self._arguments_of: dict[str, list[str]] = {}
        self.dropped_arguments: set[str] = set()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.instance.close()
        if self._root >= 0:
            os.close(self._root)

    def follow(self, tasks: list[int], state: str) -> list[int]:
        """Follow tasks (numbers of this pid namespace) and all that they start; returns those that are there still."""
        numbers = tracefs.outermost(self.instance, tasks)
        self.follow_outermost(list(numbers.values()), state)
        return list(numbers)

    def follow_outermost(self, numbers: list[int], state: str) -> None:
        """As follow, with numbers of the machine's first pid namespace."""
        self.tally.add(numbers, state)
        self.instance.follow(numbers)

    def start(self, phase: str, root: str = "/", cgroups: str = "") -> None:
        """Switch recording on; `root` is the container's root directory as seen from here, `cgroups` a filter for
        processes that are put into its cgroups."""
        # Held open: the programs of a container that has ended can be looked at still.
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if cgroups:
            self.instance.filter(ATTACH, cgroups)
            self.instance.enable(ATTACH)
        self.tally.begin(phase, time.monotonic_ns())
        self.instance.write("options/event-fork", "1")
        for event in (FORK, EXIT, EXEC, ENTER):
            self.instance.enable(event)

    def begin(self, phase: str) -> None:
        """From now on calls belong to another phase, and every one of them is reported anew."""
        self.instance.enable(ENTER)
        if self._sparse:
            self.instance.write("events/syscalls/enable", "0")
            for call in self._off & set(arguments.SHAPES):
                self.instance.filter(OWN + call, "")
        self._sparse, self._off = False, set()
        self.tally.begin(phase, time.monotonic_ns())

    def pump(self, seconds: float) -> int:
        """Wait for events, at most so long, and tally them; returns how many there were."""
        self.instance.wait(seconds)
        return self._round(time.monotonic_ns() - SETTLE_NS)

    def finish(self) -> None:
        """Switch recording off and tally what is left."""
        for event in (ENTER, FORK, EXEC, EXIT, ATTACH):
            self.instance.enable(event, False)
        if self._sparse:
            self.instance.write("events/syscalls/enable", "0")
        while self._round(1 << 62) or self._pending:
            pass

    @property
    def lost(self) -> int:
        """Events that the kernel dropped."""
        return self.instance.lost()

    def _round(self, until: int) -> int:
        # Not everything at once while all calls are reported: the sooner it is narrowed the better.
        waiting = self._pending + self.instance.drain(PAGES)
        waiting.sort(key=lambda event: event[0])
        until = min(until, self.instance.horizon)
        kept = next((index for index, event in enumerate(waiting) if event[0] > until), len(waiting))
        self._pending = waiting[kept:]
        uses: Counter[str] = Counter()
        for when, id, task, page, at in waiting[:kept]:
            happening = self._happening(id, task, page, at)
            if happening is not None:
                self.tally.take(when, happening)
                if type(happening) is Call:
                    uses[self._names.get(happening.number, "")] += 1
        if self.tally.others:
            self.instance.ignore(self.tally.others)
            self.tally.others = []
        if kept >= BUSY and time.monotonic() - self._narrowed_at >= FILTERS_APART:
            self._narrow(uses)
            self._narrowed_at = time.monotonic()
        return kept

    def _happening(self, id: int, task: int, page: bytes, at: int) -> Happening | None:
        kind = self._kinds.get(id)
        if kind == ENTER:
            number, *args = _NUMBER.unpack_from(page, at + 8)
            return Call(task, number, tuple(args))
        if kind == FORK:
            return Fork(task, self._formats[FORK].number("child_pid", page, at))
        if kind == EXIT:
            return Exit(task)
        if kind == ATTACH:
            return Join(task, self._formats[ATTACH].number("pid", page, at))
        if kind == EXEC:
            program = self._formats[EXEC].text("filename", page, at)
            inside = self.tally.state(task) in (RUNTIME, CONTAINER) and not program.startswith(OWN_EXEC)
            return Exec(task, program, self._foreign(program) if inside else "")
        call = self._own.get(id)
        if call is None:
            return None
        number = self._own_number.number("__syscall_nr", page, at)
        fields = len(self._fields(call)) if call in arguments.SHAPES else 0
        args = [int.from_bytes(page[at + 16 + 8 * i : at + 24 + 8 * i], "little") for i in range(fields)]
        return Call(task, number, (*args, 0, 0, 0, 0, 0, 0)[:6])

    def _foreign(self, program: str) -> str:
        """The ABI of a program that is not for this machine's own, as far as its file can be read."""
        head = listening.head(f"/proc/self/fd/{self._root}{program}", 20)
        if not head:
            self.unread.add(program)
        if head[:4] != b"\x7fELF" or head[4] == 2:
            return ""
        machine = int.from_bytes(head[18:20], "little")
        return "x32" if machine == 62 else _ELF_32.get(machine, f"machine{machine}")

    def _narrow(self, uses: Counter[str]) -> None:
        """Have the kernel report what is new in this phase only."""
        phase = next(reversed(self.tally.counted))
        counted = self.tally.counted[phase]
        known = {name for name in counted if name not in arguments.SHAPES} | (self.dropped_arguments & set(counted))
        if not self._sparse and not self._sparsely(known):
            return
        for call in known - self._off:
            self._switch_off(call)
        for call in [name for name, count in uses.items() if name in arguments.SHAPES and count >= FREQUENT]:
            self._leave_out(call, list(self.tally.raw[phase].get(call, ())))

    def _sparsely(self, known: set[str]) -> bool:
        """Replace raw_syscalls by the own events of all calls that are not known."""
        if not self._own:
            for path in Path(self.instance.path, "events/syscalls").glob("sys_enter_*"):
                call = path.name.removeprefix("sys_enter_")
                self._own[int((path / "id").read_text())] = call
        if not self._own:
            return False
        self._own_number = self.instance.format(OWN + next(iter(self._own.values())))
        for call in self._own.values():
            if RENAMED.get(call, call) not in known:
                self.instance.enable(OWN + call)
        self.instance.enable(ENTER, False)
        self._off = set(known)
        self._sparse = True
        return True

    def _switch_off(self, call: str) -> None:
        event = next((event for event, name in RENAMED.items() if name == call), call)
        if self.instance.has(OWN + event):
            self.instance.enable(OWN + event, False)
        self._off.add(call)

    def _fields(self, call: str) -> list[str]:
        """Names of a call's arguments in its own event."""
        if call not in self._arguments_of:
            fields = list(self.instance.format(OWN + call).fields)
            self._arguments_of[call] = fields[fields.index("__syscall_nr") + 1 :][:6]
        return self._arguments_of[call]

    def _leave_out(self, call: str, known: list[tuple[int, ...]]) -> None:
        """Filter known arguments of a call; when there are too many of them, the call's event is switched off."""
        if call in self.dropped_arguments or not self.instance.has(OWN + call):
            return
        text = arguments.kernel_filter(call, self._fields(call), known)
        if text is None:
            self.dropped_arguments.add(call)
            self._switch_off(call)
            return
        self.instance.filter(OWN + call, text)
        self._off.add(call)
