"""The annotation io.containers.trace-syscall of oci-seccomp-bpf-hook: "if:INPUT;of:OUTPUT".

OUTPUT gets a seccomp profile in the engines' format made of what was recorded, INPUT (optional) is such a profile
that it extends. Anybody who starts a container may write annotations, and Podman takes those of the image's manifest
along; the recorder runs as root. So: an annotation that the image brings does not count, paths must be absolute, and
only a file that is a seccomp profile already is ever replaced.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from fhir_hook.core.oci_seccomp import ALLOW, ARCH_TOKENS, ERRNO
from fhir_hook.store import files

NAME = "io.containers.trace-syscall"
LARGEST = 1 << 20


class AnnotationError(Exception):
    """The annotation can't be honoured; str() is one line."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the annotation asks for: `output` and `input` paths, or a `problem` why it is not followed."""

    output: str = ""
    input: str = ""
    problem: str = ""


def wanted(container: Mapping[str, str], image: Mapping[str, str]) -> Wanted:
    """Read the annotation of a container; `image` are the annotations of its image."""
    text = container.get(NAME)
    if text is None:
        return Wanted()
    if image.get(NAME) == text:
        return Wanted(problem=f"the annotation {NAME} comes from the image and is not followed")
    found = {"if": "", "of": ""}
    for part in text.split(";"):
        key, colon, path = part.strip().partition(":")
        if not colon or key not in found:
            hint = "write of:/out or if:/in;of:/out"
            return Wanted(problem=f"the annotation {NAME} is not understood: {text!r}; {hint}")
        found[key] = path
    if not found["of"].startswith("/") or (found["if"] and not found["if"].startswith("/")):
        return Wanted(problem=f"the annotation {NAME} needs absolute paths: {text!r}")
    return Wanted(found["of"], found["if"])


def write(asked: Wanted, calls: Iterable[str], architecture: str) -> None:
    """Write the seccomp profile that the annotation asks for. Raises AnnotationError."""
    section: dict[str, Any] = {
        "defaultAction": ERRNO,
        "architectures": [ARCH_TOKENS[architecture]],
        "syscalls": [],
    }
    if asked.input:
        section = _profile(asked.input) or {}
        if not section:
            raise AnnotationError(f"{asked.input} (if: of {NAME}) is not a seccomp profile")
        section.setdefault("syscalls", [])
    known = {name for rule in section["syscalls"] for name in rule.get("names", ()) if rule.get("action") == ALLOW}
    names = sorted(set(calls) - known)
    if names:
        section["syscalls"].append({"names": names, "action": ALLOW, "args": []})
    if os.path.lexists(asked.output) and _profile(asked.output) is None:
        raise AnnotationError(f"{asked.output} (of: of {NAME}) is there and is no seccomp profile: it was left alone")
    try:
        files.replace(asked.output, json.dumps(section, indent=2).encode() + b"\n")
    except OSError as error:
        raise AnnotationError(f"{asked.output} (of: of {NAME}): {error.strerror}") from None


def _profile(path: str) -> dict[str, Any] | None:
    try:
        document = json.loads(files.read(path, LARGEST))
    except (OSError, ValueError, files.FileError):
        return None
    return document if isinstance(document, dict) and "defaultAction" in document else None
