"""Writing an export so that a reader sees all of it or none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fhir_hook.store import files


def written_whole(path: Path, pieces: Iterable[bytes], mode: int = 0o640) -> None:
    """Put what `pieces` yield at `path`, in the place of what is there, when it is complete and on the disk.

    Raises OSError; then what was there stays. A device or FIFO is written to as it is.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as out:
            out.writelines(pieces)
        return
    with published(path, pieces, mode):
        pass


@contextmanager
def published(path: Path, pieces: Iterable[bytes], mode: int) -> Iterator[None]:
    """As written_whole; the block is run when the file is complete, before anybody sees it, and stops it by raising."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        with os.fdopen(fd, "wb") as out:
            out.writelines(pieces)
            out.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        yield
        os.rename(name, path)
    except BaseException:
        os.unlink(name)
        raise
    files.sync_directory(str(path.parent))
