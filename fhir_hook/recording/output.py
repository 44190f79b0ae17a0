"""What a container prints, read while it runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time

from fhir_hook.recording.podman import Podman

KEPT = 65536  # bytes
SILENT = 2.0  # seconds


class Output:
    """A context in which lines() has the newest 64 KiB of a container's standard output and error.

    `podman logs -f` can be deaf: it never sees what was written while it set up its watch of the log, and it ends at
    once when it takes the container for one that has not begun. After SILENT seconds without a word it is begun anew.
    """

    def __init__(self, podman: Podman, container: str) -> None:
        self._podman = podman
        self._container = container
        self._text = b""

    def __enter__(self) -> Output:
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def lines(self) -> list[str]:
        """Every whole line so far, and the one that is being written; does not wait."""
        new = b""
        with contextlib.suppress(BlockingIOError):
            while read := os.read(self._descriptor, KEPT):
                new += read
        if new:
            self._text = (self._text + new)[-KEPT:]
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > SILENT:
            self._end()
            self._begin()
        return self._text.decode(errors="replace").splitlines()

    def _begin(self) -> None:
        self._reader: subprocess.Popen[str] = self._podman.begin("logs", "-f", self._container)
        assert self._reader.stdout is not None
        self._descriptor = self._reader.stdout.fileno()
        os.set_blocking(self._descriptor, False)
        self._heard = time.monotonic()
        self._text = b""

    def _end(self) -> None:
        self._reader.kill()
        self._reader.wait()
        assert self._reader.stdout is not None
        self._reader.stdout.close()
