"""The policy in force and the log: usable, fresh, and whole."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from fhir_hook.authoring import policy as building
from fhir_hook.authoring import settings as settings_module
from fhir_hook.core import paths
from fhir_hook.core.codes import CODES
from fhir_hook.health.finding import Finding, bad, good, note
from fhir_hook.review import ceiling
from fhir_hook.store import log, log_reader, policy

COMPILE = "fhir-hook policy compile"
LITTLE = 64 << 20  # bytes of free space below which a log of decisions is about to fail


def policy_in_force() -> Iterator[Finding]:
    """What the hook reads at every start."""
    check = "policy.readable"
    try:
        index = policy.load_index()
        body = policy.Body(index)
    except policy.PolicyError as error:
        yield bad(check, f"{error}", "FHIR containers are refused", CODES[error.code].hint or COMPILE)
        return
    try:
        for name in index.document["profiles"]:
            body.summary(name)
        changed = body.changed_sources()
    except policy.PolicyError as error:
        yield bad(check, f"{error}", "containers of the profiles that are damaged are refused", COMPILE)
        return
    finally:
        body.close()
    if index.fallback:
        yield bad(check, index.fallback, "the policy before is used in its place", COMPILE)
    else:
        yield good(check, f"policy {index.digest[:12]}: {len(index.document['profiles'])} profiles")
    yield from _fresh(changed)
    yield from _modes(index)


def _fresh(changed: list[str]) -> Iterator[Finding]:
    check = "policy.fresh"
    if not changed:
        yield good(check, "no profile and no setting changed since it was compiled")
        return
    names = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    try:
        building.build(further=ceiling.refusals)
    except (building.PolicyRefused, settings_module.SettingsError) as error:
        why = "the policy before the edit is in force"
        yield bad(check, f"an edit can't be used: {error}", why, f"repair what is named, then: {COMPILE}")
    else:
        yield bad(check, f"changed since it was compiled: {names}", "the edit is not in force", COMPILE)


def _modes(index: policy.Index) -> Iterator[Finding]:
    settings, document = index.document["settings"], index.document
    loose = [f"profile {name}" for name, profile in document["profiles"].items() if profile["mode"] == "complain"]
    loose += [f"binding {b.get('image') or b.get('id')}" for b in document["bindings"] if b.get("mode") == "complain"]
    if settings["mode"] == "complain":
        loose.insert(0, "this host")
    if loose:
        why = "nothing is denied there; what would be is logged by the kernel"
        yield note("policy.mode", f"in complain mode: {', '.join(loose)}", why, 'set mode = "enforce"')
    else:
        yield good("policy.mode", "every profile is enforced")


def watcher() -> Iterator[Finding]:
    """The systemd unit that compiles the policy after an edit."""
    if not Path("/run/systemd/system").is_dir():
        yield note("policy.watched", "systemd does not run here", "an edit is in force after you compile it", COMPILE)
        return
    unit = "fhir-hook-policy.path"
    state = subprocess.run(["systemctl", "is-active", unit], capture_output=True, text=True, check=False).stdout.strip()
    if state == "active":
        yield good("policy.watched", "edits of profiles and settings are compiled at once")
    else:
        why = "an edit is not in force until somebody compiles it"
        yield bad("policy.watched", f"{unit} is {state or 'not there'}", why, f"systemctl enable --now {unit}")


def log_directory() -> Iterator[Finding]:
    """Whether a decision can be recorded: a FHIR container whose can't be does not start."""
    check, where = "log.writable", Path(log.directory())
    path = where / paths.LOG_NAME
    why = "FHIR containers are refused (FH105): a decision that can't be recorded is not taken"
    if not where.is_dir():
        if log.directory() == paths.LOG_DIRECTORY:
            yield bad(check, f"{where} is missing", why, f"install -d -m 750 {where}")
        return
    status = where.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        repair = f"chown {os.geteuid()} {where}; chmod go-w {where}"
        yield bad(check, f"{where} can be written by others than its owner", "anyone could replace the log", repair)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        yield bad(check, f"{path} is not a regular file", why, f"mv {path} {path}.odd")
        return
    # A read-only file system, an immutable file; for root the mode says nothing.
    if not os.access(path if path.exists() else where, os.W_OK) or _immutable(path):
        yield bad(check, f"{path} can't be written", why, f"chattr -i {path}; mount -o remount,rw {where}")
        return
    free = os.statvfs(where)
    if free.f_bavail * free.f_frsize < LITTLE:
        yield bad(check, f"{where} has {free.f_bavail * free.f_frsize >> 20} MiB left", why, f"df {where}; make room")
        return
    yield good(check, f"{where} takes records")


def _immutable(path: Path) -> bool:
    try:
        with path.open("r+b"):
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


def log_chain() -> Iterator[Finding]:
    """Whether every record follows the one before it."""
    check, where = "log.chain", Path(log.directory())
    count, problems = 0, []
    try:
        for entry in log_reader.entries(where):
            count += 1
            if entry.problem:
                problems.append(f"line {entry.number}: {entry.problem}")
    except FileNotFoundError:
        yield good(check, "nothing is recorded yet")
        return
    except OSError as error:
        yield bad(check, f"{where}: {error.strerror}", "the log can't be read", f"ls -la {where}")
        return
    if problems:
        repair = "fhir-hook log shows where; compare with the copy that is held elsewhere"
        yield bad(check, f"{where}: {problems[0]}", "records were changed, removed or lost", repair)
    else:
        yield good(check, f"{count} records, each follows the one before it")
