"""A change of one configuration file of an engine: shown, made in one step, and taken back exactly.

What a file was before our change is kept below /var/lib/fhir-hook/engines. While the file is still as we left it,
taking the change back restores it byte for byte; when somebody has edited it since, only what is ours is taken out.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from pathlib import Path

from fhir_hook.core import paths
from fhir_hook.core.digest import sha256_hex
from fhir_hook.store import files

KEPT = Path(paths.STATE, "engines")
MOST = 16 << 20


class EngineError(Exception):
    """An engine's configuration can't be changed; str() is one line with the file, the reason and what to do."""


@dataclasses.dataclass(frozen=True)
class Change:
    """`before` and `after` are the text of the file at `path`; None where there is no file."""

    path: Path
    before: str | None
    after: str | None

    @property
    def diff(self) -> str:
        """The change as a unified diff; "" when there is none."""
        old, new = ((text or "").splitlines(keepends=True) for text in (self.before, self.after))
        source, target = (str(self.path) if text is not None else "/dev/null" for text in (self.before, self.after))
        lines = difflib.unified_diff(old, new, source, target)
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)

    def make(self) -> None:
        """Put `after` in the place of `before`; raises EngineError when that can't be done, or the file is another."""
        if read(self.path) != self.before:
            raise EngineError(f"{self.path} was edited by somebody else meanwhile: look at it and try again")
        try:
            if self.after is None:
                self.path.unlink()
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            status = self.path.stat() if self.before is not None else None
            owner = (status.st_uid, status.st_gid) if status else None
            mode = (status.st_mode if status else 0o644) & 0o777
            files.replace(str(self.path.resolve()), _encoded(self.after), mode, owner)
        except OSError as error:
            raise EngineError(f"{self.path}: {error.strerror or error}") from None


def read(path: Path) -> str | None:
    """The text of a configuration file, None where there is none; raises EngineError when it can't be read."""
    try:
        # A link is followed: /etc/docker may be one. A FIFO is not waited for.
        fd, _ = files.open_regular(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except files.FileError as error:
        raise EngineError(str(error)) from None
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror or error}") from None
    try:
        return files.read_all(fd, MOST).decode("utf-8", "surrogateescape")
    except files.FileError as error:
        raise EngineError(f"{path} has {error}: that is no configuration") from None
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror or error}") from None
    finally:
        os.close(fd)


def keep(change: Change) -> None:
    """Keep what the file was before; raises EngineError. A second change keeps what was before the first."""
    earlier = kept(change.path)
    before = earlier[0] if earlier is not None and earlier[1] == change.before else change.before
    try:
        KEPT.mkdir(mode=0o700, parents=True, exist_ok=True)
        document = {"path": str(change.path), "before": before, "after": change.after}
        files.replace(str(_place(change.path)), json.dumps(document).encode("ascii"), 0o600)
    except OSError as error:
        raise EngineError(f"{KEPT}: {error.strerror or error}") from None


def kept(path: Path) -> tuple[str | None, str | None] | None:
    """What was kept of a file: its text before our change and after it; None when nothing was."""
    try:
        document = json.loads(files.read_trusted(str(_place(path)), 4 * MOST))
        return document["before"], document["after"]
    except (OSError, ValueError, KeyError, TypeError, files.FileError):
        return None


def forget(path: Path) -> None:
    """Forget what was kept."""
    _place(path).unlink(missing_ok=True)


def _place(path: Path) -> Path:
    return KEPT / f"{sha256_hex(str(path).encode('utf-8', 'surrogateescape'))[:16]}.json"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
