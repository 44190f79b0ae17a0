"""At every moment of an upgrade a FHIR container is either confined or refused, and every other container starts.

dpkg is stopped at each system call that renames, removes or links a file or starts a program, in its own process and in
everything that it starts; at each stop both kinds of container are tried. The versions can't be mixed: a function that
modules share has another name in the newer one.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging_root import FHIR, OTHER_FORMAT, PLAIN, RENAMED, Packages, Root, confined, untouched

RENAMES = "rename,renameat,renameat2"
OTHERS = "unlink,unlinkat,rmdir,symlink,symlinkat,link,execve"
# Of a process's renames every second one, of its other steps every ninth; FHIR_HOOK_EVERY=1 stops at each.
EVERY = os.environ.get("FHIR_HOOK_EVERY", "")
STOPPED = re.compile(r"^(\d+) .*--- stopped by SIGSTOP ---", re.M)
EDITS = {"same-policy-format": RENAMED, "other-policy-format": OTHER_FORMAT}


class Stepper:
    """A command in a root that stops after such a step, and every process that it starts as well."""

    def __init__(self, root: Root, argv: list[str]) -> None:
        self.trace = root.directory / "shared/trace"
        self.trace.unlink(missing_ok=True)
        inject = []
        for steps, every in ((RENAMES, EVERY or 2), (OTHERS, EVERY or 9)):
            inject += ["-e", f"inject={steps}:signal=STOP:when=1+{every}"]
        traced = ["-e", f"trace={RENAMES},{OTHERS}"]
        strace = ["strace", "-f", "-q", "-o", "/srv/shared/trace", *traced, *inject, *argv]
        self.process = subprocess.Popen(
            root.words(strace), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.seen = 0

    def stops(self) -> Iterator[str]:
        """The call at which a process has stopped, again and again; it goes on when the next one is asked for."""
        while True:
            stopped = self._next()
            if stopped is None:
                return
            pid, line = stopped
            yield line
            os.kill(pid, signal.SIGCONT)

    def _next(self) -> tuple[int, str] | None:
        while True:
            text = self.trace.read_text(errors="replace") if self.trace.exists() else ""
            found = list(STOPPED.finditer(text))
            if len(found) > self.seen:
                match = found[self.seen]
                self.seen += 1
                calls = [line for line in text[: match.start()].splitlines() if line.startswith(match[1] + " ")]
                return int(match[1]), next(line for line in reversed(calls) if "(" in line)
            if self.process.poll() is not None:
                return None
            time.sleep(0.002)

    def kill(self) -> None:
        """End it as a power cut would."""
        for pid in set(re.findall(r"^(\d+) ", self.trace.read_text(errors="replace"), re.M)):
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def promise(root: Root, where: str) -> str:
    """What both kinds of container show now; AssertionError unless it is what was promised."""
    words = ["podman", "run", "--rm", "--network", "none"]
    both = [
        subprocess.Popen(root.words([*words, tag, "status"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for tag in (FHIR, PLAIN)
    ]
    said = [process.communicate(timeout=60) for process in both]
    states = [
        None if process.returncode else dict(line.partition(":")[::2] for line in out.splitlines())
        for process, (out, _) in zip(both, said, strict=True)
    ]
    fhir, plain = ({k: v.strip() for k, v in state.items()} if state else None for state in states)
    assert untouched(plain), f"{where}: another container: {plain} {said[1][1]}"
    assert fhir is None or confined(fhir), f"{where}: a FHIR container ran unconfined: {fhir}"
    assert fhir is not None or "Seccomp" not in said[0][0]
    return "confined" if fhir else "refused"


@pytest.fixture
def running(installed: Root) -> Iterator[list[str]]:
    """A FHIR container and another one that run through it all."""
    names = ["kept-fhir", "kept-other"]
    for name, tag in zip(names, (FHIR, PLAIN), strict=True):
        installed.podman("run", "-d", "--network", "none", "--name", name, tag, "sleeper", check=True)
    yield names
    installed.podman("rm", "-f", "-t", "0", *names, check=True)


def still(root: Root, names: list[str]) -> None:
    """The containers that ran before run, are as they were, and can be entered."""
    fhir = root.podman("exec", names[0], "status", check=True).stdout
    assert "CapBnd:\t0000000000000000" in fhir
    assert "CapBnd:\t00000000800405fb" in root.podman("exec", names[1], "status", check=True).stdout


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("change", EDITS)
def test_at_every_step_of_an_upgrade_fhir_is_confined_or_refused_and_others_start(
    installed: Root, packages: Packages, running: list[str], change: str
) -> None:
    old, new = packages.deb(), packages.deb("0.2.0", EDITS[change])
    installed.dpkg("-i", installed.share(old))
    stepper = Stepper(installed, ["dpkg", "-i", installed.share(new)])
    seen: dict[str, int] = {}
    for line in stepper.stops():
        answer = promise(installed, line)
        seen[answer] = seen.get(answer, 0) + 1
    assert stepper.process.wait() == 0, stepper.process.stderr.read()  # type: ignore[union-attr]
    print(f"{installed.suite}, {change}: {stepper.seen} stops, {seen}")
    assert stepper.seen > 100
    assert seen["confined"] > 0
    assert "refused" not in seen or change == "other-policy-format"
    assert installed.dpkg("-s", "fhir-hook").stdout.count("Version: 0.2.0\n") == 1
    assert confined(installed.state(FHIR)) and untouched(installed.state(PLAIN))
    still(installed, running)
    codes = list((installed.path / "usr/lib/fhir-hook").iterdir())
    assert [path.name.partition("-")[0] for path in codes] == ["0.2.0"]
    events = [r for r in installed.records() if r["event"] == "hook"]
    assert events[-1]["what"] == "upgraded" and events[-1]["reason"].endswith(" to 0.2.0")


@pytest.mark.timeout(900)
def test_an_upgrade_that_is_killed_keeps_the_promise_and_is_finished_later(
    installed: Root, packages: Packages, running: list[str]
) -> None:
    old, new = packages.deb(), packages.deb("0.2.0", RENAMED)
    for last in (20, 80, 160, 240):
        installed.dpkg("-i", installed.share(old))
        stepper = Stepper(installed, ["dpkg", "-i", installed.share(new)])
        where = "its end"
        for line in stepper.stops():
            if stepper.seen == last:
                where = line
                stepper.kill()
                break
        promise(installed, f"killed at {where}")
        installed.run(["dpkg", "--configure", "-a"], check=False)
        installed.dpkg("-i", installed.share(new))
        assert confined(installed.state(FHIR)) and untouched(installed.state(PLAIN)), where
    still(installed, running)


def test_a_downgrade_compiles_the_older_ones_policy(installed: Root, packages: Packages, running: list[str]) -> None:
    installed.dpkg("-i", installed.share(packages.deb("0.2.0", OTHER_FORMAT)))
    installed.apt("install", "--allow-downgrades", installed.share(packages.deb()))
    assert confined(installed.state(FHIR)) and untouched(installed.state(PLAIN))
    still(installed, running)
    events = [r for r in installed.records() if r["event"] == "hook"]
    assert events[-1]["what"] == "upgraded" and events[-1]["reason"].startswith("deb 0.2.0 to ")


def test_a_wrong_setting_does_not_block_an_upgrade(installed: Root, packages: Packages) -> None:
    installed.dpkg("-i", installed.share(packages.deb()))
    installed.write("/etc/fhir-hook/config.d/50-wrong.toml", 'mode = "lenient"\n')
    try:
        done = installed.dpkg("-i", installed.share(packages.deb("0.2.0", RENAMED)))
        assert "50-wrong.toml" in done.stderr and "lenient" in done.stderr
        assert confined(installed.state(FHIR)) and untouched(installed.state(PLAIN))
    finally:
        Path(f"{installed.path}/etc/fhir-hook/config.d/50-wrong.toml").unlink()
        installed.run(["fhir-hook", "policy", "compile"])


def test_a_host_whose_hook_is_disabled_stays_so_through_an_upgrade(installed: Root, packages: Packages) -> None:
    installed.dpkg("-i", installed.share(packages.deb()))
    installed.run(["fhir-hook", "host", "disable", "--reason", "a test"])
    try:
        done = installed.dpkg("-i", installed.share(packages.deb("0.2.0", RENAMED)))
        assert "stays disabled (a test)" in done.stdout
        assert untouched(installed.state(FHIR))
    finally:
        installed.run(["fhir-hook", "host", "enable"])
    assert confined(installed.state(FHIR))
