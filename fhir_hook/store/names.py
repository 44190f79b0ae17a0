"""Names of containers as tokens, where the setting log.names = "hashed" asks for it: people may call a container after
a patient.

A token is HMAC-SHA-256 (RFC 2104, cut to 128 bits by its section 5) under a key of this host: the same name has the
same token, so that records can still be grouped, and nobody without the key can try names. An id that an engine has
drawn is kept; one that a person has chosen, as with runc by hand, is a name too. Ordinary users who run containers
rootless can't read the host's key, and have one of their own beside their log.
"""

from __future__ import annotations

import posix

from fhir_hook.core import paths
from fhir_hook.store import files, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fhir_hook.core.image import Container

PLAIN, HASHED = "plain", "hashed"
MARK = "name-"
KEY = "names.key"
HIDDEN = MARK + "hidden"
"""Stands for a name when there is no key to be had: a setting that protects does not end in a plain name."""
_SIZE, _DIGITS = 32, 32
_HEX = frozenset("0123456789abcdef")


class NamesError(Exception):
    """There is no usable key; str() is one line that says what to do."""


def wanted(settings: dict[str, Any]) -> bool:
    """Whether the compiled settings ask for tokens."""
    return bool(settings.get("names", PLAIN) == HASHED)


def hide(container: Container) -> None:
    """Replace what a person may have chosen to call the container; never raises."""
    container.name = shown(container.name)
    container.id = shown_id(container.id)


def shown(name: str) -> str:
    """The token for a name, HIDDEN when that can't be made; "" and what is a token already stay."""
    if not name or is_token(name):
        return name
    try:
        return token(name)
    except (NamesError, OSError):
        return HIDDEN


def shown_id(id: str) -> str:
    """An engine's id as it is, anything else as a token."""
    return id if len(id) >= 12 and _HEX.issuperset(id) else shown(id)


def is_token(name: str) -> bool:
    """Whether it looks like one of ours; a container that somebody calls so shows nothing but that."""
    digits = name.removeprefix(MARK)
    return name == HIDDEN or (name.startswith(MARK) and len(digits) == _DIGITS and _HEX.issuperset(digits))


def token(name: str) -> str:
    """The token for a name; raises NamesError and OSError when there is no key and none can be made."""
    from _hashlib import hmac_digest  # what hmac.digest() calls; importing hmac doubles the time of a hook

    digest: bytes = hmac_digest(_key(), name.encode("utf-8", "surrogatepass"), "sha256")
    return MARK + digest.hex()[:_DIGITS]


def key_path() -> str:
    """Where the key of this process's log lies."""
    where = log.directory()
    return f"{paths.STATE if where == paths.LOG_DIRECTORY else where}/{KEY}"


def exists() -> bool:
    """Whether there is a key, so that names have been hidden before."""
    try:
        posix.lstat(key_path())
    except OSError:
        return False
    return True


def by_policy() -> bool:
    """Whether the policy in force asks for tokens; without a policy, whether there ever were any."""
    from fhir_hook.store import policy

    try:
        return wanted(policy.load_index().document["settings"])
    except policy.PolicyError:
        return exists()


def _key() -> bytes:
    path = key_path()
    try:
        return _read(path)
    except FileNotFoundError:
        _make(path)
        return _read(path)


def _read(path: str) -> bytes:
    try:
        fd, status = files.open_regular(path)
    except files.FileError as error:
        raise NamesError(str(error)) from None
    try:
        if status.st_uid != posix.geteuid() or status.st_mode & 0o077:
            raise NamesError(f"{path} is not this user's alone: chown and chmod 600, if nobody has read it")
        key = files.read_all(fd, _SIZE)
    except files.FileError as error:
        raise NamesError(f"{path}: {error}") from None
    finally:
        posix.close(fd)
    if len(key) != _SIZE:
        raise NamesError(f"{path} has {len(key)} bytes, not {_SIZE}: restore it from a backup, or remove it")
    return key


def _make(path: str) -> None:
    """Make the key; of several at once the first wins, and no reader sees a part of it."""
    directory = path.rpartition("/")[0]
    log.make_directories(directory)
    temporary = f"{path}.{posix.getpid()}{files.TEMPORARY}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC | posix.O_NOFOLLOW
    fd = posix.open(temporary, flags, 0o600)
    try:
        files.write_all(fd, posix.urandom(_SIZE))
        posix.fsync(fd)
        try:
            posix.link(temporary, path)
        except FileExistsError:
            return
    finally:
        posix.close(fd)
        posix.unlink(temporary)
    files.sync_directory(directory)
