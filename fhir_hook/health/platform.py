"""What the hook stands on: Python, its packages, libseccomp, the kernel, engines and runtimes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from fhir_hook.health.finding import Finding, bad, good, note

PYTHON = "/usr/bin/python3"
# module -> (Debian package, what fails without it)
MODULES = {
    "prctl": ("python3-prctl", "FHIR containers are refused"),
    "seccomp": ("python3-seccomp", "no policy can be compiled"),
    "jsonschema": ("python3-jsonschema", "no policy can be compiled"),
    "psutil": ("python3-psutil", "containers can't be looked at"),
    "click": ("python3-click", "the command does not start"),
    "rich": ("python3-rich", "the command does not start"),
}
ACTIONS = ("kill_process", "kill_thread", "errno", "log", "allow")
OLDEST_PODMAN, OLDEST_KERNEL, OLDEST_LIBSECCOMP = (4, 1), (5, 9), (2, 5)
_NUMBERS = re.compile(r"(\d+)\.(\d+)(?:\.\d+)?")


def python() -> Iterator[Finding]:
    """The interpreter of the launcher and the packages that it finds."""
    check = "python.version"
    code = "import sys; print(*sys.version_info[:3], sep='.')"
    said = _said([PYTHON, "-I", "-c", code])
    if said is None or version(said) < (3, 11):
        why = "no container can start, FHIR or not: the hook is written for Python 3.11"
        yield bad(check, f"{PYTHON} is {said or 'missing'}", why, "apt-get install python3")
        return
    yield good(check, f"{PYTHON} is {said}")
    for name, (package, why) in MODULES.items():
        if _said([PYTHON, "-I", "-c", f"import {name}"]) is None:
            yield bad(f"python.{name}", f"{PYTHON} can't import {name}", why, f"apt-get install --reinstall {package}")
    if os.path.realpath(sys.executable) != os.path.realpath(PYTHON):
        why = "what is said about packages is about that one"
        yield note("python.running", f"this command runs on {sys.executable}", why)


def libseccomp() -> Iterator[Finding]:
    """The library that compiles filters, here and in the runtimes."""
    code = (
        "import ctypes; lib = ctypes.CDLL('libseccomp.so.2'); lib.seccomp_version.restype = "
        "ctypes.POINTER(ctypes.c_uint); v = lib.seccomp_version(); print(v[0], v[1], v[2], sep='.')"
    )
    said = _said([PYTHON, "-I", "-c", code])
    if said is None or version(said) < OLDEST_LIBSECCOMP:
        why = "it knows no calls of newer kernels, and no policy can be compiled"
        yield bad("libseccomp.version", f"libseccomp is {said or 'missing'}", why, "apt-get install libseccomp2")
    else:
        yield good("libseccomp.version", f"libseccomp {said}")


def kernel() -> Iterator[Finding]:
    """What filters and the live path need of the kernel."""
    release = os.uname().release
    actions = _first_line("/proc/sys/kernel/seccomp/actions_avail").split()
    missing = [action for action in ACTIONS if action not in actions]
    if missing:
        seen = f"the kernel lacks {', '.join(missing)}"
        yield bad("kernel.seccomp", seen, "filters can't be loaded", "boot another kernel")
    else:
        yield good("kernel.seccomp", f"Linux {release} with seccomp filters")
    if version(release) < OLDEST_KERNEL:
        why = "it does not count filters: engines other than Podman can't start FHIR containers"
        yield bad("kernel.version", f"Linux {release}", why, "boot a kernel from 5.9 on")
    if _first_line("/proc/sys/kernel/yama/ptrace_scope") == "3":
        why = "nothing can be traced: engines other than Podman can't start FHIR containers"
        repair = "set it to 2 in /etc/sysctl.d and reboot: the kernel does not take 3 back"
        yield bad("kernel.ptrace", "kernel.yama.ptrace_scope is 3", why, repair)
    else:
        yield good("kernel.ptrace", "processes can be traced, as the live path needs")
    if "log" not in _first_line("/proc/sys/kernel/seccomp/actions_logged").split():
        why = "complain mode leaves no trace of what it would deny"
        repair = "sysctl kernel.seccomp.actions_logged='kill_process kill_thread trap errno user_notif trace log'"
        yield note("kernel.logged", "the kernel does not log the action 'log'", why, repair)
    if any(line.split()[-1:] == ["tracefs"] for line in _lines("/proc/filesystems")):
        yield good("kernel.tracefs", "the kernel has tracefs: root can record profiles")
    else:
        yield note("kernel.tracefs", "the kernel has no tracefs", "profiles can't be recorded here", "use another host")


def engines() -> Iterator[Finding]:
    """Engines and runtimes with their versions."""
    podman = _said(["podman", "--version"])
    if podman is None:
        yield note("engine.podman", "podman is not here", "the native path is Podman's", "apt-get install podman")
    elif version(podman) < OLDEST_PODMAN:
        why = "it has no precreate hooks as the native path uses them"
        yield bad("engine.podman", podman, why, "install Podman from 4.1 on")
    else:
        yield good("engine.podman", podman)
    found = {name: _said([name, "--version"]) for name in ("runc", "crun") if shutil.which(name)}
    for name, said in found.items():
        yield good(f"runtime.{name}", (said or f"{name} does not run").splitlines()[0])
    if not found:
        why = "the profiles hold what these two need, and are tested on them"
        yield note("runtime.none", "neither runc nor crun is here", why, "apt-get install crun")
    for name in ("runsc", "krun", "kata-runtime", "youki"):
        if shutil.which(name):
            why = "what it makes of linux.seccomp is not what the log says of a container's config"
            yield note(f"runtime.{name}", f"{name} is installed", why, "run FHIR servers on runc or crun")


def rootless() -> Iterator[Finding]:
    """What users other than root need to run containers at all."""
    for program in ("newuidmap", "newgidmap"):
        path = shutil.which(program)
        if path is None:
            why = "ordinary users can't run containers"
            yield note("rootless.maps", f"{program} is not here", why, "apt-get install uidmap")
            return
    limit = _first_line("/proc/sys/user/max_user_namespaces")
    if limit == "0":
        why = "ordinary users can't run containers"
        yield note("rootless.maps", "user.max_user_namespaces is 0", why, "sysctl user.max_user_namespaces=15000")
    else:
        users = sum(1 for line in _lines("/etc/subuid") if line.count(":") == 2)
        yield good("rootless.maps", f"{users} users have ids of their own in /etc/subuid")


def version(text: str) -> tuple[int, int]:
    """The first two numbers of a version in a text; (0, 0) when there is none."""
    found = _NUMBERS.search(text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _said(words: list[str]) -> str | None:
    """What a program printed, or None when it is not there or failed."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _first_line(path: str) -> str:
    return next(iter(_lines(path)), "")
