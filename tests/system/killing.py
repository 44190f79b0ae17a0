"""A launcher in the hook's place that dies at a chosen system call: what a crash or an OOM kill at that step does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from system.support import HOOK

# The kernel kills the process (and its forked attacher) at the call, before the call does anything. ARGUMENT is
# (index, value) or None. The real launcher then runs in the same process.
LAUNCHER = """#!/usr/bin/python3 -IS
import sys
if sys.argv[1] == {stage!r} or (sys.argv[1] == "refuse" and {stage!r} == "gate"):
    sys.path.append("/usr/lib/python3/dist-packages")
    import seccomp
    filter = seccomp.SyscallFilter(seccomp.ALLOW)
    argument = {argument!r}
    rule = [] if argument is None else [seccomp.Arg(argument[0], seccomp.EQ, argument[1])]
    filter.add_rule(seccomp.KILL_PROCESS, {call!r}, *rule)
    import posix
    posix.write(posix.open("/run/fhir-hook-killing", posix.O_WRONLY | posix.O_APPEND), b"x")
    filter.load()
    posix.execv("/usr/libexec/fhir-hook/hook.real", sys.argv)
import posix
posix.execv("/usr/libexec/fhir-hook/hook.real", sys.argv)
"""
REACHED = Path("/run/fhir-hook-killing")


@contextlib.contextmanager
def killed_at(stage: str, call: str, argument: tuple[int, int] | None = None) -> Iterator[None]:
    """Let the hook die at its first such call in this stage (precreate, gate, prestart); REACHED then has text."""
    real = HOOK.with_name("hook.real")
    REACHED.write_text("")
    REACHED.chmod(0o666)
    HOOK.rename(real)
    try:
        HOOK.write_text(LAUNCHER.format(stage=stage, call=call, argument=argument))
        HOOK.chmod(0o755)
        yield
    finally:
        real.replace(HOOK)
        reached = REACHED.read_text()
        REACHED.unlink()
    assert reached, "the hook was never called: the test showed nothing"
