"""The files of the product: there, root's, writable by nobody else, and of one version."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from fhir_hook.core import paths
from fhir_hook.core.codes import CODES
from fhir_hook.health.finding import Finding, bad, good, note

REINSTALL = "apt-get install --reinstall fhir-hook (dnf reinstall fhir-hook; make install)"
_PLACE = re.compile(r'sys\.path\.insert\(0, "([^"]+)"\)')
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
# No image store has it and no label is in it: it has to come back byte for byte.
SAMPLE = json.dumps({"ociVersion": "1.0.2", "root": {"path": "/nowhere"}, "process": {"args": ["x"]}}).encode()


def code_directory(launcher: Path = Path(paths.HOOK)) -> Path | None:
    """The directory of modules that a launcher names; None when it names none. Raises OSError."""
    found = _PLACE.search(launcher.read_text(encoding="utf-8", errors="replace"))
    return Path(found[1]) if found else None


def launcher() -> Iterator[Finding]:
    """The program that every engine starts."""
    check, path = "files.launcher", Path(paths.HOOK)
    try:
        status = path.lstat()
        first = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        code = code_directory(path)
    except OSError as error:
        why = "Podman skips a hook whose file is missing: FHIR containers start unconfined and leave no record"
        yield bad(check, f"{path}: {error.strerror}", why, REINSTALL)
        return
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
        yield bad(check, f"{path} can't be executed", "no container can start, FHIR or not", f"chmod 755 {path}")
    if first != "#!/usr/bin/python3 -IS":
        why = "without -IS an environment or a site directory could bring code of its own into the hook"
        yield bad(check, f"{path} begins with {first!r}", why, REINSTALL)
    elif code is None or not (code / "fhir_hook/hook/main.py").is_file():
        yield bad(check, f"{path} names {code}, which holds no hook", "no container can start, FHIR or not", REINSTALL)
    else:
        yield good(check, f"{path} starts the code in {code}")


def ownership() -> Iterator[Finding]:
    """Nobody but root may write what the hook runs or believes, nor the directories on the way to it."""
    check, problems = "files.owner", []
    for path in _trusted():
        try:
            status = path.stat()
        except OSError:
            continue  # other checks say what is missing
        if status.st_uid != 0:
            problems.append((path, f"belongs to user {status.st_uid}", f"chown root:root {path}"))
        elif status.st_mode & 0o022 and not (status.st_mode & stat.S_ISVTX):
            problems.append((path, f"can be written by others ({stat.filemode(status.st_mode)})", f"chmod go-w {path}"))
    for path, what, repair in problems[:10]:
        yield bad(check, f"{path} {what}", "whoever may write it decides what FHIR containers may do", repair)
    if not problems:
        yield good(check, "all files and their directories are root's, and nobody else may write them")


def _trusted() -> list[Path]:
    roots = [Path(p) for p in (paths.LIBRARY, "/usr/libexec/fhir-hook", paths.SHARE, "/etc/fhir-hook", paths.STATE)]
    files = [Path(p) for p in (paths.OCI_HOOK, paths.PODMAN_DROPIN, "/usr/bin/fhir-hook", "/usr/bin/python3")]
    found = [*files, *roots]
    for root in roots:
        for directory, names, inside in os.walk(root):
            found += [Path(directory, name) for name in (*names, *inside)]
    parents = {parent for path in (*files, *roots) for parent in path.parents}
    return [path for path in (*sorted(parents), *found) if not path.is_symlink() or path.exists()]


def refusals() -> Iterator[Finding]:
    """The links whose names crun shows when a container is refused."""
    check, missing = "files.refused", []
    for code, entry in CODES.items():
        link = Path(paths.REFUSED, f"{code}-{entry.slug}")
        if code.startswith("FH1") and link.resolve() != Path(paths.HOOK).resolve():
            missing.append(link.name)
    if missing:
        why = "a refused container then fails with an error of the runtime that does not say why"
        yield bad(check, f"{paths.REFUSED} lacks {', '.join(missing)}", why, REINSTALL)
    else:
        yield good(check, "every refusal has its name")


def starts() -> Iterator[Finding]:
    """The hook itself, as Podman calls it, on a container that is not FHIR."""
    check = "hook.starts"
    try:
        done = subprocess.run(
            [paths.HOOK, "precreate"], input=SAMPLE, capture_output=True, timeout=20, check=False, env=ENVIRONMENT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield bad(check, f"{paths.HOOK} can't be run: {error}", "no container can start, FHIR or not", REINSTALL)
        return
    if done.returncode or done.stdout != SAMPLE:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it answered something else"]
        yield bad(check, f"{paths.HOOK} fails: {said[0][:300]}", "no container can start, FHIR or not", REINSTALL)
    else:
        yield good(check, "the hook runs, and gives back the config of a container that is not FHIR byte for byte")


def bytecode() -> Iterator[Finding]:
    """Compiled modules, without which every start compiles them anew."""
    check = "files.bytecode"
    try:
        code = code_directory()
    except OSError:
        return
    if code is None or not code.is_dir():
        return
    stale = [path for path in code.rglob("*.py") if not list(path.parent.glob(f"__pycache__/{path.stem}.*.pyc"))]
    if stale:
        why = "every start of a container compiles them anew, and takes longer"
        yield note(check, f"{len(stale)} modules in {code} are not compiled", why, f"py3compile {code}")
    else:
        yield good(check, "all modules are compiled")


def others() -> Iterator[Finding]:
    """Code of other versions beside the one in use."""
    check = "files.versions"
    try:
        used = code_directory()
        found = sorted(path for path in Path(paths.LIBRARY).iterdir() if path.is_dir() and path != used)
    except OSError:
        return
    if found:
        names = ", ".join(str(path) for path in found)
        remove = f"rm -r {' '.join(map(str, found))}"
        yield note(check, f"left behind by another version: {names}", "it is not used", remove)
    else:
        yield good(check, "one version is installed")
