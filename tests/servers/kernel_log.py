"""Calls that seccomp denied or would deny, as the kernel logs them (audit records of type 1326, AUDIT_SECCOMP).

Without an audit daemon the records go to the kernel log, where two things can lose them: the rate limit of printk,
which is lifted meanwhile, and the queue of audit, which says so. The log has process ids of the machine, not of this
host's namespace, so a container is told by a user id of its own.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import threading
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

from fhir_hook.core.syscalls_x86_64 import NUMBERS

NAMES = {number: name for name, number in NUMBERS.items()}
RATE_LIMIT = Path("/proc/sys/kernel/printk_ratelimit")
RECORD = re.compile(
    r"type=1326 .* uid=(?P<uid>\d+) .* comm=(?P<comm>\S+) exe=(?P<exe>\S+) .* "
    r"syscall=(?P<nr>\d+) .* code=0x(?P<code>[0-9a-f]+)"
)
LOST = re.compile(
    r"audit_lost=|audit: backlog limit exceeded|hold queue overflow|callbacks suppressed.*audit|audit.*suppressed"
)
LOG, ERRNO = 0x7FFC0000, 0x00050000


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
        self.lost: list[str] = []
        self._stop = threading.Event()

    def __enter__(self) -> KernelLog:
        self._file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        # the limit is the machine's: another private host may be at the same
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._limit = RATE_LIMIT.read_text()
        RATE_LIMIT.write_text("0")
        os.lseek(self._file, 0, os.SEEK_END)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        time.sleep(0.3)
        self._stop.set()
        self._thread.join()
        RATE_LIMIT.write_text(self._limit)
        os.close(self._file)

    def _follow(self) -> None:
        while True:
            if not select.select([self._file], [], [], 0.1)[0]:
                if self._stop.is_set():
                    return
                continue
            try:
                text = os.read(self._file, 8192).decode(errors="replace")
            except BlockingIOError:
                continue
            except BrokenPipeError:
                self.lost.append("the kernel log was overwritten before it was read")
                continue
            self._take(text)

    def _take(self, text: str) -> None:
        if LOST.search(text):
            self.lost.append(text)
        found = RECORD.search(text)
        if not found:
            return
        name = NAMES.get(int(found["nr"]), found["nr"])
        if int(found["uid"]) == self.uid:
            self.denied[(found["exe"].strip('"'), name)] += 1
            self.codes[int(found["code"], 16) & 0xFFFF0000] += 1
        elif found["comm"].strip('"').startswith(("runc", "crun")):
            self.by_runtime[(found["comm"].strip('"'), name)] += 1

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
