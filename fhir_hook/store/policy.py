"""The compiled policy on disk, and the only thing of it that the hook reads.

    selectors.json           small: settings, bindings, selectors, and where each profile lies in the body
    policy-<sha256>.jsonl    the body: a header line, then each compiled profile in a few lines, of which the hook
                             reads the two or three that it needs
    selectors.previous.json  the last good one, used when selectors.json can't be read

The body's name is its digest, so the two always fit; a new body is complete before selectors.json, the commit
point, is replaced. A damaged body still leaves FHIR images known, and refused.
"""

from __future__ import annotations

import fcntl
import posix

from fhir_hook.core import jsonio, paths
from fhir_hook.core.digest import sha256_hex
from fhir_hook.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 1
MAX_INDEX = 64 << 20
MAX_PROFILE = 16 << 20


class PolicyError(Exception):
    """The policy can't be used: `code` is the stable reason, str() one line."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Index:
    """selectors.json as read: `document`, and `fallback`, why the previous one had to be used (or "")."""

    __slots__ = ("document", "fallback")

    def __init__(self, document: dict[str, Any], fallback: str = "") -> None:
        self.document = document
        self.fallback = fallback

    @property
    def digest(self) -> str:
        """SHA-256 of the policy's body, 64 hexadecimal digits; every record names it."""
        value: str = self.document["policy"]
        return value


def load_index() -> Index:
    """Read selectors.json, or the last good one; raises PolicyError FH103 or FH104 when neither can be used."""
    try:
        return Index(_index(paths.SELECTORS))
    except PolicyError as error:
        first = error
    try:
        return Index(_index(paths.SELECTORS_PREVIOUS), str(first))
    except PolicyError:
        raise first from None


def _index(path: str) -> dict[str, Any]:
    try:
        document = jsonio.parse(_trusted(path, MAX_INDEX), MAX_INDEX)
    except (OSError, files.FileError, jsonio.JsonError) as error:
        raise PolicyError("FH103", f"{path}: {_reason(error, path)}") from None
    members = {"policy": str, "body": str, "settings": dict, "bindings": list, "profiles": dict, "selectors": list}
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise PolicyError("FH103", f"{path} is not of format {FORMAT}")
    for name, kind in members.items():
        if not isinstance(document.get(name), kind):
            raise PolicyError("FH103", f"{path} has no {name}")
    return document


def _trusted(path: str, limit: int) -> bytes:
    fd, status = files.open_regular(path)
    try:
        # Who may write the directory could put an older policy of root's in this one's place.
        problem = files.untrusted(path, status) or files.untrusted(paths.STATE, posix.stat(paths.STATE))
        if problem:
            raise PolicyError("FH104", problem)
        return files.read_all(fd, limit)
    finally:
        posix.close(fd)


def _reason(error: Exception, path: str) -> str:
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return text.removeprefix(path).lstrip(": ")


class Body:
    """The opened body of the policy that an Index belongs to; reads one line at a time, each checked by digest."""

    __slots__ = ("index", "path", "fd")

    def __init__(self, index: Index) -> None:
        self.index = index
        self.path = f"{paths.STATE}/{index.document['body'].rpartition('/')[2]}"
        try:
            self.fd, status = files.open_regular(self.path)
        except (OSError, files.FileError) as error:
            raise PolicyError("FH103", f"{self.path}: {_reason(error, self.path)}") from None
        problem = files.untrusted(self.path, status)
        if problem:
            self.close()
            raise PolicyError("FH104", problem)

    def close(self) -> None:
        posix.close(self.fd)

    def summary(self, name: str) -> dict[str, Any]:
        """Return the compiled profile `name` without its filters; raises PolicyError FH103 when it is damaged."""
        return self._part(name, "summary")

    def profile(self, name: str, architecture: str) -> dict[str, Any]:
        """Return the compiled profile `name` with the section of one architecture; raises PolicyError FH103."""
        return {**self.summary(name), "seccomp": {architecture: self._part(name, f"seccomp {architecture}")}}

    def programs(self, name: str, architecture: str) -> dict[str, str]:
        """Return the filters of profile `name` for one architecture, base64 by mode; raises PolicyError FH103."""
        return self._part(name, f"bpf {architecture}")

    def _part(self, name: str, part: str) -> dict[str, Any]:
        try:
            where = self.index.document["profiles"][name]["parts"][part]
        except (KeyError, TypeError):
            raise PolicyError("FH103", f"{paths.SELECTORS} has no {part} of the profile {name}") from None
        return self._line(where)

    def changed_sources(self) -> list[str]:
        """Paths of profiles and settings that are not as they were when the policy was compiled."""
        header = self._line(self.index.document["header"])
        changed = []
        for path, mtime_ns, size in header["sources"]:
            try:
                status = posix.stat(path)
            except OSError:
                changed.append(path)
                continue
            if (status.st_mtime_ns, status.st_size if size >= 0 else -1) != (mtime_ns, size):
                changed.append(path)
        return changed

    def _line(self, where: Any) -> dict[str, Any]:
        try:
            offset, length = where["at"]
            data = posix.pread(self.fd, min(length, MAX_PROFILE), offset)
            if len(data) != length or sha256_hex(data) != where["sha256"]:
                raise PolicyError("FH103", f"{self.path} is damaged at byte {offset}")
            line = jsonio.parse(data, MAX_PROFILE)
        except (OSError, KeyError, TypeError, ValueError, jsonio.JsonError) as error:
            raise PolicyError("FH103", f"{self.path}: {error}") from None
        if not isinstance(line, dict):
            raise PolicyError("FH103", f"{self.path} is damaged at byte {offset}")
        return line


def write(header: dict[str, Any], profiles: list[dict[str, Any]], index: dict[str, Any]) -> str:
    """Write a new policy and make it the one in force; returns its digest.

    `header` is {"sources": [[path, mtime_ns, size or -1 for a directory]]}, `profiles` the compiled ones,
    `index` what selectors.json holds besides what this adds. Raises OSError; the old policy stays until the last step.
    """
    lines: list[bytes] = []
    first = _add(lines, header)
    parts = {p["name"]: {part: _add(lines, value) for part, value in _parts(p).items()} for p in profiles}
    body = b"".join(lines)
    digest = sha256_hex(body)
    document = {
        **index,
        "format": FORMAT,
        "policy": digest,
        "body": f"policy-{digest}.jsonl",
        "header": first,
        "profiles": {
            profile["name"]: {
                "parts": parts[profile["name"]],
                "nameable": profile["nameable"],
                "generic": profile["generic"],
                "mode": profile["mode"],
                "version": profile["version"],
                "digest": profile["digest"],
            }
            for profile in profiles
        },
    }
    data = jsonio.text(document).encode("ascii") + b"\n"
    # One writer at a time: another one's tidying up could remove this one's body before the selectors name it.
    lock = posix.open(paths.STATE, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_unfinished()
        files.replace(f"{paths.STATE}/{document['body']}", body)
        _keep_previous(data)
        files.replace(paths.SELECTORS, data)
        _remove_old(digest)
    finally:
        posix.close(lock)
    return digest


def _remove_unfinished() -> None:
    """Remove what writers that were killed have left: only the one that holds the lock has temporary files in use."""
    for name in posix.listdir(paths.STATE):
        if name.endswith(files.TEMPORARY):
            posix.unlink(f"{paths.STATE}/{name}")


def _add(lines: list[bytes], value: Any) -> dict[str, Any]:
    """Append one line to the body, and say where it is and what it must be."""
    data = jsonio.canonical(value) + b"\n"
    where = {"at": [sum(map(len, lines)), len(data)], "sha256": sha256_hex(data)}
    lines.append(data)
    return where


def _parts(profile: dict[str, Any]) -> dict[str, Any]:
    """A compiled profile in pieces that are read together: a start needs one architecture, mostly without programs."""
    parts: dict[str, Any] = {"summary": {k: v for k, v in profile.items() if k not in ("seccomp", "bpf")}}
    parts.update({f"seccomp {architecture}": section for architecture, section in profile["seccomp"].items()})
    parts.update({f"bpf {architecture}": programs for architecture, programs in profile["bpf"].items()})
    return parts


def _keep_previous(new: bytes) -> None:
    try:
        old = files.read(paths.SELECTORS, MAX_INDEX)
        jsonio.parse(old, MAX_INDEX)
    except (OSError, files.FileError, jsonio.JsonError):
        old = new
    files.replace(paths.SELECTORS_PREVIOUS, old)


def _remove_old(digest: str) -> None:
    """Remove bodies that neither the new nor the previous selectors name."""
    keep = {f"policy-{digest}.jsonl"}
    try:
        previous = jsonio.parse(files.read(paths.SELECTORS_PREVIOUS, MAX_INDEX), MAX_INDEX)
        keep.add(previous["body"])
    except (OSError, files.FileError, jsonio.JsonError, KeyError, TypeError):
        return
    for name in posix.listdir(paths.STATE):
        if name.startswith("policy-") and name.endswith(".jsonl") and name not in keep:
            posix.unlink(f"{paths.STATE}/{name}")
