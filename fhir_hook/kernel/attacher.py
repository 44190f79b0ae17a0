"""The small detached process that traces a container's init until it runs its program."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found, unused-ignore]
import gc
import posix

from fhir_hook.core.plan import LivePlan
from fhir_hook.kernel import attach, hardening, late, procfs
from fhir_hook.kernel.failure import AttachError, NeverStarted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_READY = b"\0"
_LONGEST_ERROR = 4096


def start(
    identity: procfs.Identity,
    plan: LivePlan,
    record: Callable[[late.Outcome], None],
    failed: Callable[[AttachError], None],
    keep: tuple[int, ...] = (),
) -> int:
    """Fork the attacher; its pid once every task of the container's init is seized and the early stage is in force.

    In the attacher, record is called with the outcome before the program runs, and failed when it won't run (after the
    kill; NeverStarted means that nothing was there to run). keep are descriptors that the callbacks need; all others
    are closed, the hook's own pipes first of all: a runtime waits until nobody holds them.
    Raises AttachError with the attacher's own reason; the container's init is dead or dying then.
    """
    reading, writing = posix.pipe2(posix.O_CLOEXEC)
    child = posix.fork()
    if child == 0:
        code = 1
        try:
            posix.close(reading)
            code = _attach(writing, identity, plan, record, failed, keep)
        finally:
            # Nothing of the hook may run in the attacher, not even its exit handlers.
            posix._exit(code)
    posix.close(writing)
    try:
        _heard(_everything(reading))
    finally:
        posix.close(reading)
    return child


def _everything(reading: int) -> bytes:
    message = b""
    # The attacher closes its end after the first byte, or dies.
    while part := posix.read(reading, _LONGEST_ERROR):
        message += part
    return message


def _heard(message: bytes) -> None:
    if message == _READY:
        return
    reason, separator, text = message.decode("utf-8", "replace").partition("\n")
    if not separator:
        raise AttachError("attacher-died", "the attaching process ended without a word")
    raise NeverStarted(text) if reason == "never-started" else AttachError(reason, text)


def _attach(
    writing: int,
    identity: procfs.Identity,
    plan: LivePlan,
    record: Callable[[late.Outcome], None],
    failed: Callable[[AttachError], None],
    keep: tuple[int, ...],
) -> int:
    try:
        _detach_self({writing, identity.pidfd, *keep})
        seizure = attach.Seizure.of(identity.pid, plan, identity)
    except (AttachError, OSError) as error:
        _tell(writing, error)
        return 1
    try:
        seizure.prepare()
        posix.write(writing, _READY)
        posix.close(writing)
    except (AttachError, OSError) as error:
        seizure.kill()
        _tell(writing, error)
        return 1
    try:
        _settle(seizure)
        attach.confine(seizure, record)
    except AttachError as error:
        failed(error)
        return 1
    return 0


def _settle(seizure: attach.Seizure) -> None:
    """Make ready to wait for as long as the container isn't started; after the hook's end, which it would delay."""
    try:
        hardening.attacher()
    except (OSError, ImportError) as error:
        seizure.kill()
        raise AttachError("not-hardened", str(error)) from error
    gc.collect()
    gc.disable()


def _tell(writing: int, error: Exception) -> None:
    reason, text = (error.reason, error.text) if isinstance(error, AttachError) else ("attacher-failed", str(error))
    posix.write(writing, f"{reason}\n{text}".encode("utf-8", "replace")[:_LONGEST_ERROR])


def _detach_self(kept: set[int]) -> None:
    # A signal between two stops would end the container with the attacher; SIGKILL still does, as it should.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    posix.setsid()
    posix.chdir("/")
    nowhere = posix.open("/dev/null", posix.O_RDWR)
    for descriptor in (0, 1, 2):
        posix.dup2(nowhere, descriptor)
    for name in posix.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor not in kept:
            try:
                posix.close(descriptor)
            except OSError:
                continue  # listdir's own descriptor
