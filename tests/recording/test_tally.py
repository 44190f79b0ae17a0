"""Whose calls count: the state machine over trace events."""

from __future__ import annotations

from fhir_hook.recording.tally import CONTAINER, OUTSIDE, RUNTIME, Call, Exec, Exit, Fork, Happening, Join, Tally

NAMES = {0: "read", 1: "write", 39: "getpid", 41: "socket", 101: "ptrace", 317: "seccomp"}
NONE = (0, 0, 0, 0, 0, 0)


def tally(*tasks: int, state: str = RUNTIME) -> Tally:
    """One that knows tasks, in the phase start from time 0 on."""
    made = Tally(NAMES)
    made.add(tasks, state)
    made.begin("start", 0)
    return made


def take(made: Tally, *events: Happening, time: int = 1) -> None:
    """One event after the other."""
    for event in events:
        made.take(time, event)


def test_what_the_runtime_calls_before_the_entry_point_is_listed_apart() -> None:
    made = tally(7, 8)
    take(made, Call(7, 317, NONE), Call(8, 1, NONE), Exec(7, "/proc/self/exe"), Call(7, 0, NONE), Exec(7, "/bin/x"))
    take(made, Call(7, 39, NONE))
    assert made.phases == {"start": {"execve", "getpid"}}
    assert made.runtime_calls == {"seccomp", "write", "read"}
    assert list(made.programs) == ["/bin/x"] and made.joined == [7]


def test_children_are_what_their_parent_is() -> None:
    made = tally(7)
    take(made, Fork(7, 8), Exec(7, "/bin/x"), Fork(7, 9), Call(8, 0, NONE), Call(9, 1, NONE), Fork(9, 10))
    take(made, Call(10, 39, NONE))
    assert made.phases["start"] == {"execve", "write", "getpid"} and made.runtime_calls == {"read"}


def test_a_number_that_is_used_again_is_another_task() -> None:
    made = tally(7, state=CONTAINER)
    take(made, Fork(7, 8), Exit(8), Call(8, 101, NONE))
    made.settle(lossy=False)
    assert made.phases == {"start": frozenset()} and made.runtime_calls == {"ptrace"}


def test_tasks_whose_fork_was_lost_count_when_events_were_lost() -> None:
    made = tally(7, state=CONTAINER)
    take(made, Call(99, 101, NONE))
    made.settle(lossy=True)
    assert made.phases == {"start": {"ptrace"}}


def test_a_process_that_a_runtime_puts_into_the_container_counts_from_its_program_on() -> None:
    made = tally(7, state=CONTAINER)
    made.add([50], OUTSIDE)
    take(made, Call(50, 101, NONE), Fork(50, 51), Call(51, 0, NONE), Join(50, 51), Call(51, 317, NONE))
    take(made, Exec(51, "/bin/sh"), Call(51, 1, NONE), Fork(51, 52), Call(52, 39, NONE))
    assert made.phases["start"] == {"execve", "write", "getpid"}
    assert made.runtime_calls == {"seccomp"} and made.saw_join(51) and not made.saw_join(50)


def test_other_programs_that_a_runtime_starts_do_not_count() -> None:
    made = tally(7, state=CONTAINER)
    made.add([50], OUTSIDE)
    take(made, Fork(50, 51), Exec(51, "/usr/libexec/hook"), Call(51, 101, NONE), Fork(51, 52), Call(52, 101, NONE))
    assert made.phases == {"start": frozenset()} and made.others == [51]


def test_calls_belong_to_the_phase_of_their_moment() -> None:
    made = tally(7, state=CONTAINER)
    made.begin("serve", 100)
    take(made, Call(7, 0, NONE), time=99)
    take(made, Call(7, 1, NONE), time=100)
    assert made.phases == {"start": {"read"}, "serve": {"write"}}


def test_programs_and_numbers_of_other_abis_are_counted_and_left_out() -> None:
    made = tally(7, state=CONTAINER)
    take(made, Call(7, 0x4000_0000, NONE), Call(7, -1, NONE), Exec(7, "/bin/old", "i386"), Call(7, 1, NONE))
    assert made.phases == {"start": frozenset()} and dict(made.foreign) == {"x32": 1, "i386": 1}


def test_a_call_newer_than_the_tables_has_a_name_still() -> None:
    made = tally(7, state=CONTAINER)
    take(made, Call(7, 4000, NONE))
    assert made.phases == {"start": {"syscall_4000"}}


def test_arguments_are_kept_masked_and_by_phase() -> None:
    made = tally(7, state=CONTAINER)
    cloexec = 0x80000
    take(made, Call(7, 41, (0xDEAD_0000_0002, 1 | cloexec, 6, 9, 9, 9)), Call(7, 41, (2, 1, 6, 0, 0, 0)))
    made.begin("serve", 50)
    take(made, Call(7, 41, (2, 1, 6, 0, 0, 0)), time=60)
    (seen,) = made.arguments["socket"]
    assert seen.text == "AF_INET, SOCK_STREAM, IPPROTO_TCP"
    assert seen.values == ((0, 2), (1, 1), (2, 6)) and seen.phases == ("start", "serve")
