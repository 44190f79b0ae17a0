"""The denials of one container, as fhir_hook.kernel.seccomp_log reads them, for tests.

The rate limit of the kernel log is lifted meanwhile. The records have process ids of the machine, not of this host's
namespace, so a container is told by a user id of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType

from fhir_hook.kernel.seccomp_log import ERRNO, LOG, Denial, Reader

RATE_LIMIT = Path("/proc/sys/kernel/printk_ratelimit")
USUAL_LIMIT = "5\n"
__all__ = ["ERRNO", "LOG", "RATE_LIMIT", "KernelLog", "unlimited"]


@contextlib.contextmanager
def unlimited() -> Iterator[None]:
    """The kernel logs every denial meanwhile: its limit is the machine's, so only one private host lifts it."""
    with open("/dev/kmsg") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        before = RATE_LIMIT.read_text()
        RATE_LIMIT.write_text("0")
        try:
            yield
        finally:
            # whoever was killed meanwhile has left it lifted
            RATE_LIMIT.write_text(USUAL_LIMIT if before.strip() == "0" else before)


class KernelLog:
    """The denials that the kernel logs while this context is open.

    `uid` tells the container; `denied` counts call names by program file, of the container's own user; `by_runtime`
    those of runc and crun before they change user; `codes` what the kernel did (LOG or ERRNO); `lost` what got lost.
    """

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.denied: Counter[tuple[str, str]] = Counter()
        self.by_runtime: Counter[tuple[str, str]] = Counter()
        self.codes: Counter[int] = Counter()
        self._stop = threading.Event()

    def __enter__(self) -> KernelLog:
        self._unlimited = unlimited()
        self._unlimited.__enter__()
        self._reader = Reader()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        time.sleep(0.3)
        self._stop.set()
        self._thread.join()
        self._reader.close()
        self._unlimited.__exit__(None, None, None)

    @property
    def lost(self) -> list[str]:
        """What the kernel lost."""
        return self._reader.lost

    def _follow(self) -> None:
        while not self._stop.is_set():
            for denial in self._reader.read(0.1):
                self._take(denial)

    def _take(self, denial: Denial) -> None:
        if denial.uid == self.uid:
            self.denied[(denial.exe, denial.call)] += 1
            self.codes[denial.code] += 1
        elif denial.comm.startswith(("runc", "crun")):
            self.by_runtime[(denial.comm, denial.call)] += 1

    def beyond(self, expected: Collection[str], *canaries: str) -> dict[tuple[str, str], int]:
        """Denials that are not among the expected calls, but for those of programs that provoke them."""
        assert self.lost == [], f"the kernel lost records: {self.lost[:3]}"
        return {key: n for key, n in self.denied.items() if key[1] not in expected and key[0] not in canaries}

    def calls(self, program: str) -> set[str]:
        """Names of the calls that the program file was denied."""
        return {name for exe, name in self.denied if exe == program}

    def wait_for(self, program: str, call: str, seconds: float = 10) -> None:
        """Wait until a denial that was provoked has been seen: what came before it has been seen too."""
        end = time.monotonic() + seconds
        while call not in self.calls(program):
            assert time.monotonic() < end, f"{program} was denied {call}, and the kernel log doesn't say so"
            time.sleep(0.05)
