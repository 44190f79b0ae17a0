"""A vendor's profile: read from a file or out of an image, judged, and kept with its origin once it is approved."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fhir_hook.authoring import checks, schema, signature
from fhir_hook.authoring.finding import ERROR, Finding
from fhir_hook.authoring.schema import MAX_BYTES
from fhir_hook.authoring.source import Source, Sources
from fhir_hook.review import ceiling
from fhir_hook.review.subject import of_profile
from fhir_hook.store import files

IMAGE_PATH = "/usr/share/fhir-hook/profile.json"
ORIGIN_SUFFIX = ".origin"
ENGINE_SECONDS = 300


NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class VendorError(Exception):
    """A vendor's profile can't be read or kept; str() is one line."""


@dataclasses.dataclass(frozen=True)
class Offer:
    """A document as it was offered: its exact bytes, where it came from, what it says, and a signature beside it."""

    data: bytes
    origin: dict[str, str]
    document: dict[str, Any]
    signature: bytes | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the exact bytes: what an administrator approves."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def name(self) -> str:
        """The profile's name, which the schema has checked."""
        name: str = self.document["name"]
        return name

    @property
    def profile(self) -> Source:
        """The offer as a profile beside the installed ones."""
        return Source(self.name, Path(f"{self.name}.json"), self.document, True)


def is_name(text: str) -> bool:
    """Whether the text can be a profile's name (profile.schema.json), and so is no path."""
    return len(text) <= 64 and NAME.fullmatch(text) is not None


def from_file(path: Path, shipped: Path) -> Offer:
    """Read an offer from a regular file. Raises VendorError."""
    try:
        data = files.read(str(path), MAX_BYTES)
    except (OSError, files.FileError) as error:
        raise VendorError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    beside = None
    with contextlib.suppress(OSError, files.FileError):
        beside = files.read(f"{path}{signature.SUFFIX}", MAX_BYTES)
    return _offer(data, {"kind": "file", "source": str(path.absolute())}, shipped, beside)


def from_image(image: str, path: str, shipped: Path) -> Offer:
    """Read an offer out of an image of Podman's store, without running it and without pulling it. Raises VendorError.

    The image is mounted read-only; symbolic links are followed nowhere, so that nothing outside of it can be read.
    """
    inspected = _podman("image", "inspect", "--format", "{{.Id}} {{.Digest}}", "--", image).split()
    if not inspected or len(inspected[0]) != 64:
        raise VendorError(f"podman does not say which image {image!r} is")
    id, digest = inspected[0], inspected[1] if len(inspected) > 1 else ""
    root = _podman("image", "mount", id).strip()
    beside = None
    try:
        data = read_beneath(root, path)
        with contextlib.suppress(VendorError):
            beside = read_beneath(root, path + signature.SUFFIX)
    finally:
        _podman("image", "unmount", id)
    origin = {"kind": "image", "source": image, "path": path, "image": id, "image_digest": digest}
    return _offer(data, origin, shipped, beside)


def _podman(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["podman", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ENGINE_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise VendorError("podman is not installed: give the profile as a file") from None
    except subprocess.TimeoutExpired:
        raise VendorError(f"podman {arguments[0]} {arguments[1]} did not end in {ENGINE_SECONDS} s") from None
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise VendorError(f"podman {arguments[0]} {arguments[1]}: {reason.removeprefix('Error: ')[:300]}")
    return done.stdout


def read_beneath(root: str, path: str) -> bytes:
    """The content of a regular file of at most 1 MiB below `root`; no component may be a symbolic link.

    Raises VendorError.
    """
    parts = path.strip("/").split("/")
    if not path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise VendorError(f"{path!r} is no plain absolute path in an image")
    descriptor = -1
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            kind = os.O_NONBLOCK | os.O_NOCTTY if last else os.O_DIRECTORY
            inner = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        return _read_regular(descriptor, path)
    except OSError as error:
        link = error.errno in (40, 20)  # ELOOP; ENOTDIR for a link where a folder must be
        reason = "a symbolic link is in the way, or no folder" if link else error.strerror or str(error)
        raise VendorError(f"{path} of the image: {reason}") from None
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _read_regular(descriptor: int, path: str) -> bytes:
    import stat

    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise VendorError(f"{path} of the image is no regular file")
    try:
        return files.read_all(descriptor, MAX_BYTES)
    except files.FileError as error:
        raise VendorError(f"{path} of the image: {error}") from None


def _offer(data: bytes, origin: dict[str, str], shipped: Path, beside: bytes | None) -> Offer:
    """Parse and check against the schema; everything later relies on that."""
    with tempfile.TemporaryDirectory(prefix="fhir-hook-") as folder:
        path = Path(folder) / "profile.json"
        path.write_bytes(data)
        document, findings = schema.read_json(path)
    checker, problems = schema.load(shipped, "profile")
    if not findings:
        findings = problems or (checker.check(document, "") if checker else [])
    if findings:
        first = findings[0]
        where = f"#{first.pointer}" if first.pointer else ""
        raise VendorError(f"{origin['source']}{where}: {first.code}: {first.message}")
    if not is_name(document["name"]):
        # The schema's pattern ends in $, which also holds before a newline at the end.
        raise VendorError(f"{origin['source']}#/name: P103: {document['name'][:64]!r} can't name a profile")
    return Offer(data, origin, document, beside)


def judge(offer: Offer, sources: Sources, shipped: Path) -> list[Finding]:
    """What speaks against an offer: errors refuse it, warnings are for the administrator to weigh."""
    source = offer.profile
    found = checks.check_profile(sources, source)
    if not any(finding.severity == ERROR for finding in found):
        for arch in ceiling.ARCHITECTURES:
            found += ceiling.check_subject(of_profile(sources, source, arch), shipped)
    found += _only_administrators(offer)
    return list(dict.fromkeys(found))


def _only_administrators(offer: Offer) -> list[Finding]:
    """What a vendor may not decide for a host."""
    file = f"{offer.name}.json"
    found = []
    if offer.document.get("mode") == "complain":
        message = "in complain mode nothing is denied: that is the administrator's to choose"
        found.append(Finding("P607", ERROR, file, "/mode", message, "ask the vendor for a profile that enforces"))
    if offer.document.get("generic"):
        message = "it would become the profile of every FHIR image without one of its own"
        hint = "ask the vendor for a profile of its own images"
        found.append(Finding("P607", ERROR, file, "/generic", message, hint))
    return found


@dataclasses.dataclass(frozen=True)
class Store:
    """The administrator's folder of profiles, with an origin beside each that was installed."""

    local: Path

    def path(self, name: str) -> Path:
        """Where a profile is kept."""
        return self.local / f"{name}.json"

    def origin_path(self, name: str) -> Path:
        """Where its origin is kept."""
        return self.local / f"{name}{ORIGIN_SUFFIX}"

    def signature_path(self, name: str) -> Path:
        """Where the signature on it is kept."""
        return Path(f"{self.path(name)}{signature.SUFFIX}")

    def origin(self, name: str) -> dict[str, str]:
        """The origin of an installed profile, {} for one that was written here or whose origin can't be read."""
        try:
            document = json.loads(files.read(str(self.origin_path(name)), 1 << 16))
        except (OSError, ValueError, files.FileError):
            return {}
        return {k: v for k, v in document.items() if isinstance(v, str)} if isinstance(document, dict) else {}

    def digest(self, path: Path) -> str:
        """SHA-256 of a profile's file as it is now, "" when it can't be read."""
        try:
            return hashlib.sha256(files.read(str(path), MAX_BYTES)).hexdigest()
        except (OSError, files.FileError):
            return ""

    def taken(self, offer: Offer, sources: Sources) -> str:
        """Why the name is not free: what the profile would replace, in words; "" when it is free or an update."""
        path = self.path(offer.name)
        before = sources.profiles.get(offer.name)
        if path.exists():
            origin = self.origin(offer.name)
            if not origin:
                return f"{path}, which was written on this host"
            same = all(origin.get(member) == offer.origin.get(member) for member in ("kind", "source"))
            return "" if same else f"{path}, which came from {origin['source']}"
        return f"the profile {offer.name} that fhir-hook ships" if before is not None and not before.local else ""

    def install(self, offer: Offer, compile_policy: Callable[[], str]) -> str:
        """Keep the exact bytes and the origin, and compile; everything is put back when that fails.

        compile_policy puts the policy in force and returns its digest; what it raises is raised here. OSError also.
        """
        origin = {**offer.origin, "digest": offer.digest, "version": offer.document["version"], "installed": _now()}
        text = json.dumps(origin, indent=2) + "\n"
        new: dict[Path, bytes | None] = {self.path(offer.name): offer.data, self.origin_path(offer.name): text.encode()}
        return self._change({**new, self.signature_path(offer.name): offer.signature}, compile_policy)

    def remove(self, name: str, compile_policy: Callable[[], str]) -> str:
        """Take a profile and its origin away, and compile; both are put back when that fails."""
        gone = (self.path(name), self.origin_path(name), self.signature_path(name))
        return self._change(dict.fromkeys(gone), compile_policy)

    def _change(self, new: dict[Path, bytes | None], compile_policy: Callable[[], str]) -> str:
        old = {path: path.read_bytes() if path.exists() else None for path in new}
        try:
            _put(new)
            return compile_policy()
        except BaseException:
            _put(old)
            raise


def _put(contents: dict[Path, bytes | None]) -> None:
    for path, data in contents.items():
        if data is None:
            path.unlink(missing_ok=True)
        elif not path.exists() or path.read_bytes() != data:
            files.replace(str(path), data)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
