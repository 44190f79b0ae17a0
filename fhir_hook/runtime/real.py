"""The real runtime that the shim stands in front of, and becoming it.

Which one it is the administrator says: a link below /var/lib/fhir-hook/runtime that `fhir-hook policy compile` makes
from the setting [runtime], else the usual places in a fixed order. Never $PATH, which belongs to the caller.
"""

from __future__ import annotations

import posix

KINDS = ("runc", "crun")
FRONT = "/usr/libexec/fhir-hook/fhir-runc"
LINKS = "/var/lib/fhir-hook/runtime"
# The order of systemd's own $PATH (systemd.exec(5)), which dockerd and containerd look through for runc.
PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")
_OVERFLOW_UID = 65534


class RealError(Exception):
    """There is no real runtime to become; str() is one line."""


def find(kind: str, shim: str) -> str:
    """The path of the real runtime of this `kind` (runc or crun). Raises RealError.

    `shim` is the shim's own path: it and the front before it would only start it again.
    """
    own = [_file(path) for path in (shim, FRONT)]
    configured, itself = named(kind), ""
    for path in [configured] if configured else usual(kind):
        found = _file(path)
        if found is not None and found not in own:
            return path
        if found is not None:
            itself = itself or path
    setting = f"set {kind} below [runtime] in /etc/fhir-hook/config.toml"
    if itself:
        raise RealError(f"{itself} is fhir-{kind} itself: {setting}")
    # What was configured and is gone is an error, not a reason to take another one.
    if configured:
        raise RealError(f"{configured}, which [runtime] names, is not there: install it, or {setting}")
    raise RealError(f"no {kind} is installed: install it, or {setting}")


def usual(kind: str) -> list[str]:
    """The usual paths of a runtime, whether it is there or not."""
    return [f"{place}/{kind}" for place in PLACES]


def named(kind: str) -> str:
    """The path that the settings name; "" when they name none."""
    link = f"{LINKS}/{kind}"
    try:
        target = posix.readlink(link)
        owner = posix.lstat(link).st_uid
    except OSError:
        return ""
    return target if owner in (0, _OVERFLOW_UID) and target.startswith("/") else ""


def _file(path: str) -> tuple[int, int] | None:
    """Which file a path leads to; None where it leads nowhere."""
    try:
        status = posix.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def check(settings: dict[str, str]) -> None:
    """Raise RealError when a setting runtime.KIND names what can't be a runtime: no executable file, or the shim."""
    own = [_file(f"/usr/libexec/fhir-hook/{place}fhir-runc") for place in ("", "shim/")]
    for kind in KINDS:
        path = settings.get(f"runtime.{kind}", "")
        if not path:
            continue
        found = _file(path)
        if found is None:
            problem = "there is no such file"
        elif posix.stat(path).st_mode & 0o170000 != 0o100000 or not posix.access(path, posix.X_OK):
            problem = "that is no file that can be executed"
        elif found in own:
            problem = f"that is fhir-{kind} itself"
        else:
            continue
        raise RealError(f"[runtime] {kind} = {path!r}: {problem}; without its runtime no container could be stopped")


def configure(settings: dict[str, str]) -> None:
    """Make the links to the runtimes that `settings` name as runtime.KIND, and remove others; raises OSError."""
    try:
        posix.mkdir(LINKS, 0o755)
    except FileExistsError:
        pass
    for kind in KINDS:
        link, target = f"{LINKS}/{kind}", settings.get(f"runtime.{kind}", "")
        try:
            posix.unlink(f"{link}.new")
        except FileNotFoundError:
            pass
        if target:
            posix.symlink(target, f"{link}.new")
            posix.rename(f"{link}.new", link)
            continue
        try:
            posix.unlink(link)
        except FileNotFoundError:
            pass


def become(path: str, argv: list[str]) -> None:
    """Replace this process by the program at `path`: same pid, same descriptors, the environment that was given.

    Returns never; raises OSError when it can't be executed.
    """
    import _signal  # type: ignore[import-not-found, unused-ignore]

    # Python ignores both, and what is ignored stays so in the program that follows (signal(7), execve(2)).
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
    posix.execve(path, [path, *argv[1:]], _environment())


def _environment() -> dict[bytes, bytes]:
    """The environment as execve(2) gave it: Python adds LC_CTYPE in the locale C (PEP 538)."""
    try:
        fd = posix.open("/proc/self/environ", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return posix.environ
    try:
        data = b""
        while chunk := posix.read(fd, 1 << 17):
            data += chunk
    finally:
        posix.close(fd)
    pairs = [entry.partition(b"=") for entry in data.split(b"\0") if b"=" in entry[1:]]
    return {name: value for name, _, value in pairs}
