"""Starting a container that is FHIR and one that is not, and looking at what became of them.

The image is empty but for links into /usr, which the container sees read-only; a label alone makes it FHIR.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator

from fhir_hook.core.image import PROFILE_LABEL
from fhir_hook.health.finding import Finding, bad, good
from fhir_hook.store import policy

LINKS = ("bin", "sbin", "lib", "lib64")
NAME = "localhost/fhir-hook-probe"
OPTIONS = ("--rm", "--network", "none", "--security-opt", "label=disable", "-v", "/usr:/usr:ro")
_FIELD = re.compile(r"^NoNewPrivs:\s*(\d)", re.M)


def containers() -> Iterator[Finding]:
    """Start both kinds on each runtime that is here."""
    runtimes = [name for name in ("runc", "crun") if shutil.which(name)]
    profile = _profile()
    if shutil.which("podman") is None or not runtimes or not profile:
        why = "podman, a runtime and a policy with a profile that images may name are needed"
        yield bad("probe", "no container could be tried", why, "see the other findings")
        return
    problem = _import("fhir", [f"LABEL {PROFILE_LABEL}={profile}"]) or _import("other", [])
    try:
        if problem:
            yield bad("probe", f"podman import failed: {problem}", "podman itself does not work here", "podman info")
            return
        for runtime in runtimes:
            yield from _tried(runtime, profile)
    finally:
        _podman("rmi", "-f", f"{NAME}:fhir", f"{NAME}:other")


def _tried(runtime: str, profile: str) -> Iterator[Finding]:
    code, said = _run(runtime, "fhir")
    check = f"probe.{runtime}.fhir"
    if code == 0 and _no_new_privs(said) == "1":
        yield good(check, f"a FHIR container on {runtime} ran confined with the profile {profile}")
    elif code == 0:
        why = "FHIR containers start unconfined"
        yield bad(check, f"a FHIR container on {runtime} ran unconfined", why, "repair what the other checks name")
    else:
        seen = f"a FHIR container on {runtime} did not run: {said}"
        yield bad(check, seen, "no FHIR server starts", "fhir-hook log -n 3")
    code, said = _run(runtime, "other")
    check = f"probe.{runtime}.other"
    if code == 0 and _no_new_privs(said) == "0":
        yield good(check, f"another container on {runtime} ran as if the hook were not there")
    elif code == 0:
        seen = f"another container on {runtime} was confined"
        yield bad(check, seen, "the hook changes containers that are not FHIR", "fhir-hook log -n 3")
    else:
        yield bad(check, f"another container on {runtime} did not run: {said}", "nothing starts", "fhir-hook doctor")


def _profile() -> str:
    """A profile that an image may name: the generic one for JVMs where it is there, which lets a shell command run."""
    try:
        profiles = policy.load_index().document["profiles"]
    except policy.PolicyError:
        return ""
    names = [name for name, profile in profiles.items() if profile["nameable"]]
    return "fhir-jvm" if "fhir-jvm" in names else next(iter(names), "")


def _import(tag: str, changes: list[str]) -> str:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name in LINKS:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            archive.addfile(link)
        for name in ("proc", "sys", "dev", "usr", "tmp", "etc", "run"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(directory)
    options = [word for change in changes for word in ("--change", change)]
    done = _podman("import", "-q", *options, "-", f"{NAME}:{tag}", data=data.getvalue())
    return "" if done.returncode == 0 else _last(done.stderr)


def _run(runtime: str, tag: str) -> tuple[int, str]:
    words = ("--runtime", runtime, "run", *OPTIONS, f"{NAME}:{tag}", "/usr/bin/cat", "/proc/self/status")
    done = _podman(*words)
    return done.returncode, done.stdout.decode("utf-8", "replace") if done.returncode == 0 else _last(done.stderr)


def _podman(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["podman", *words], input=data, capture_output=True, timeout=120, check=False)


def _last(text: bytes) -> str:
    return (text.decode("utf-8", "replace").strip().splitlines() or ["no reason given"])[-1][:400]


def _no_new_privs(status: str) -> str:
    found = _FIELD.search(status)
    return found[1] if found else ""
