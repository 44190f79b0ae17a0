"""Trying a profile on an image: what it denies, first when nothing is denied and all is logged, then in earnest.

The container runs as the installed product would have it (core.tighten on its config.json), by a hook that only the
containers of the trial see: neither the policy in force nor the host's settings are touched. Records of the kernel are
told apart by the audit session that the trial's processes get (sessionid, proc(5)).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fhir_hook.core.oci_seccomp import ENOSYS, ERRNO, Meaning
from fhir_hook.kernel import seccomp_log
from fhir_hook.recording import canary, listening
from fhir_hook.recording.podman import Podman, PodmanError

COMPLAIN, ENFORCE = "complain", "enforce"
ENOTSUP = 95
CANARY_SECONDS = 8.0
STOP_SECONDS = 60
UNSET = 4294967295


class TrialError(Exception):
    """The trial could not be made; str() is one line."""


class Unobservable(TrialError):
    """Denials can't be seen here, so that none would prove nothing."""


@dataclasses.dataclass(frozen=True)
class Denied:
    """Calls that were (or would be) denied: `fall_back` when the errno makes callers do without."""

    call: str
    comm: str
    exe: str
    count: int
    fall_back: bool


@dataclasses.dataclass(frozen=True)
class Run:
    """One run: what was denied; the workload's exit code (None: there was none), the container's, what went wrong."""

    mode: str
    denied: tuple[Denied, ...]
    workload: int | None
    exit_code: int | None
    failure: str = ""

    @property
    def real(self) -> tuple[Denied, ...]:
        """Denials without a fall-back."""
        return tuple(denied for denied in self.denied if not denied.fall_back)

    @property
    def good(self) -> bool:
        """Nothing was denied that matters, and nothing failed."""
        return not self.real and not self.failure and not self.workload


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to run: an image with options for podman create and a command instead of its own, and what uses it."""

    image: str
    options: Sequence[str] = ()
    command: Sequence[str] = ()
    workload: Sequence[str] = ()
    mark: str = ""
    patience: float = 300.0


class Observer:
    """A context that collects the records of this trial's audit session, from now on."""

    def __init__(self) -> None:
        """Raises Unobservable."""
        self.session = _own_session()
        self.records: list[seccomp_log.Denial] = []
        try:
            self.reader = seccomp_log.Reader()
        except OSError as error:
            raise Unobservable(f"denials can't be observed here: {error.strerror}; run it as root") from None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.reader.close()

    def _follow(self) -> None:
        while not self._stop.is_set():
            self.records += [record for record in self.reader.read(0.1) if record.session == self.session]

    def saw(self, exe: str, since: int) -> bool:
        """Whether a record of a program has come, among those after the first `since`."""
        return any(record.exe == exe for record in self.records[since:])


def _own_session() -> int:
    """Give this process, and what it starts, an audit session of its own; returns its number. Raises Unobservable."""
    try:
        number = int(Path("/proc/self/loginuid").read_text())
        # Setting it, to what it is, begins a session; root is who does this when nobody has logged in.
        Path("/proc/self/loginuid").write_text(str(0 if number == UNSET else number))
        return int(Path("/proc/self/sessionid").read_text())
    except OSError as error:
        raise Unobservable(
            f"denials can't be observed here: the trial's processes can't get an audit session of their own "
            f"({error.strerror}); run it as root of the host, with an audit login that may be changed"
        ) from None


class Trial:
    """A compiled profile on trial. Not reentrant."""

    def __init__(
        self, profile: Mapping[str, Any], plan: Plan, podman: Podman, runtime: str, observer: Observer
    ) -> None:
        """profile: what authoring.compile made. runtime: its name and version, as "crun 1.8.1". Raises TrialError."""
        self._profile = profile
        self._plan = plan
        self._podman = podman
        self._runtime = runtime
        self._observer = observer
        self._arch = platform.machine()
        self._meaning = Meaning(profile["seccomp"][self._arch])
        self._call = canary.choose(self._meaning)
        if not self._call:
            raise TrialError(f"{profile['name']} denies none of {', '.join(canary.CALLS)}: it is no profile")

    def run(self, mode: str, tell: Callable[[str], None]) -> Run:
        """One run in complain or enforce mode. Raises Unobservable, PodmanError, TrialError."""
        self._prepare(mode)
        tell(f"{mode}: provoking a denial that must be seen")
        first = len(self._observer.records)
        self._see_canary(mode, first)
        begins = len(self._observer.records)
        tell(f"{mode}: running {self._plan.image}")
        failure, workload, exit_code = self._container(tell)
        # What happened before a second denial is seen has been seen too.
        self._see_canary(mode, len(self._observer.records))
        if self._observer.reader.lost and self._observer.reader.ways == ["kernel log"]:
            lost = self._observer.reader.lost[0]
            raise Unobservable(f"denials can't all be observed here: the kernel dropped records ({lost})")
        records = [record for record in self._observer.records[begins:] if record.exe != canary.PATH]
        return Run(mode, self._summed(records), workload, exit_code, failure)

    def _prepare(self, mode: str) -> None:
        plan = {
            "profile": dict(self._profile),
            "complain": mode == COMPLAIN,
            "log": mode == ENFORCE and logs_errno(self._runtime),
        }
        file = self._podman.folder / "plan"
        file.write_text(json.dumps(plan))
        program = self._podman.folder / "canary"
        program.write_bytes(canary.program(self._call, self._arch))
        program.chmod(0o755)
        self._podman.folder.chmod(0o755)
        package = str(Path(__file__).resolve().parents[2])
        words = [sys.executable, "-P", "-s", "-B", "-m", "fhir_hook.recording.apply", str(file)]
        self._podman.hook(words, ["PATH=/usr/bin:/bin", f"PYTHONPATH={package}"])

    def _see_canary(self, mode: str, since: int) -> None:
        volume = f"{self._podman.folder / 'canary'}:{canary.PATH}:ro"
        options = ["--network", "none", "-v", volume, "--entrypoint", canary.PATH, "--security-opt", "label=disable"]
        self._podman.run("run", "--rm", *options, self._plan.image)
        end = time.monotonic() + CANARY_SECONDS
        while not self._observer.saw(canary.PATH, since):
            if time.monotonic() > end:
                raise Unobservable(f"denials can't be observed here in {mode} mode: {self._why_not(mode)}")
            time.sleep(0.05)

    def _why_not(self, mode: str) -> str:
        action = "log" if mode == COMPLAIN else "errno"
        if action not in seccomp_log.actions_logged():
            return f"{seccomp_log.ACTIONS_LOGGED} lacks {action}"
        if mode == ENFORCE and not logs_errno(self._runtime):
            return f"{self._runtime} can't have denials logged; install crun, or leave it out (--mode complain)"
        if self._observer.reader.lost:
            return f"the kernel dropped records ({self._observer.reader.lost[-1]})"
        return "the kernel's records don't get here (another network namespace, and an audit daemon or the rate limit)"

    def _container(self, tell: Callable[[str], None]) -> tuple[str, int | None, int | None]:
        """Run the image and the workload; returns what failed, the workload's exit code, the container's."""
        plan = self._plan
        try:
            container = self._podman.create(plan.options, plan.image, plan.command)
        except PodmanError as error:
            raise TrialError(str(error)) from None
        try:
            try:
                self._podman.run("start", container)
            except PodmanError as error:
                return f"the container does not start: {error}", None, None
            failure, workload = self._use(container, tell)
            with contextlib.suppress(PodmanError):
                self._podman.run("stop", "-t", str(STOP_SECONDS), container, timeout=STOP_SECONDS + 60)
            state = self._podman.inspect("container", container)["State"]
            return failure, workload, state.get("ExitCode")
        finally:
            self._podman.remove(container)

    def _use(self, container: str, tell: Callable[[str], None]) -> tuple[str, int | None]:
        end = time.monotonic() + self._plan.patience
        while not self._ready(container):
            state = self._podman.inspect("container", container)["State"]
            if not state["Running"]:
                if not self._plan.workload and state["ExitCode"] == 0:
                    return "", None
                return f"it ended with exit code {state['ExitCode']} before it listened: {self._said(container)}", None
            if time.monotonic() > end:
                return f"it did not listen within {self._plan.patience:.0f} s: {self._said(container)}", None
            time.sleep(0.2)
        if not self._plan.workload:
            return "", None
        tell("the server listens: workload")
        pid = self._podman.inspect("container", container)["State"]["Pid"]
        environment = {**os.environ, "FHIR_HOOK_PID": str(pid), "FHIR_HOOK_CONTAINER": container}
        try:
            done = subprocess.run(
                list(self._plan.workload), env=environment, stdin=subprocess.DEVNULL, stdout=2, check=False
            )
        except OSError as error:
            raise TrialError(f"the workload {self._plan.workload[0]!r} can't be run: {error.strerror}") from None
        return (f"the workload ended with exit code {done.returncode}" if done.returncode else ""), done.returncode

    def _ready(self, container: str) -> bool:
        if self._plan.mark:
            text = self._podman.run("logs", "--tail", "2000", container)
            return any(re.search(self._plan.mark, line) for line in text.splitlines())
        pid = self._podman.inspect("container", container)["State"]["Pid"]
        return bool(pid) and bool(listening.ports(pid))

    def _said(self, container: str) -> str:
        """The last line that the container printed, on stdout or stderr."""
        done = subprocess.run(
            self._podman.words("logs", "--tail", "5", container),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        return printable(lines[-1][:200]) if lines else "it said nothing"

    def _summed(self, records: Sequence[seccomp_log.Denial]) -> tuple[Denied, ...]:
        counts = Counter((record.call, record.comm, record.exe) for record in records)
        return tuple(
            Denied(call, printable(comm), printable(exe), count, self._falls_back(call))
            for (call, comm, exe), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        )

    def _falls_back(self, call: str) -> bool:
        """Whether the profile answers the call, whatever its arguments, with an errno on which callers fall back."""
        answers = {rule.answer for rule in self._meaning.rules.get(call, ())} or {self._meaning.default}
        return answers <= {(ERRNO, ENOSYS), (ERRNO, ENOTSUP)}


def logs_errno(runtime: str) -> bool:
    """Whether a runtime can set SECCOMP_FILTER_FLAG_LOG: crun, and runc from 1.2 on."""
    name, _, version = runtime.partition(" ")
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    return name == "crun" or (name == "runc" and numbers >= [1, 2])


def printable(text: str) -> str:
    """What a process calls itself, without what terminals act on."""
    return "".join(char if char.isprintable() else "?" for char in text)
