"""create, run and restore: the decision, written into the bundle's config.json before the runtime reads it."""

from __future__ import annotations

import posix

from fhir_hook.core import decide, paths, spec
from fhir_hook.hook import identify
from fhir_hook.store import files, policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fhir_hook.core.decide import Decision
    from fhir_hook.core.image import Container
    from fhir_hook.runtime.arguments import Call

# A link in the place of config.json is followed, as the runtimes do.
_FLAGS = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK


def run(call: Call) -> str:
    """Decide on the container of `call`, edit its config.json if need be; returns the line that refuses it, or ""."""
    data, bundle = b"", ""
    if _disabled():
        return ""
    try:
        try:
            bundle = absolute(call.bundle or ".")
            # crun takes the name config.json for the file in the bundle, any other for one in the working directory.
            path = absolute(call.config) if call.config not in ("", "config.json") else f"{bundle}/config.json"
            data, status = read(path, spec.MAX_CONFIG)
        except (FileNotFoundError, NotADirectoryError):
            return ""  # the runtime says so itself
        except (OSError, files.FileError) as error:
            raise spec.SpecError(f"config.json: {error}") from None
        return _run(call, bundle, path, data, status)
    except Exception as error:  # noqa: BLE001 - whatever fails, containers that are not FHIR must start
        from fhir_hook.hook import fallback

        return fallback.create(data, bundle, call.id, error)


def _disabled() -> bool:
    """Whether 'fhir-hook host disable' is in force, which has no file of an engine's to remove here."""
    try:
        posix.lstat(paths.DISABLED)
    except OSError:
        return False
    return True


def absolute(path: str) -> str:
    """The path from the root on; raises OSError when the working directory is gone."""
    return path if path.startswith("/") else f"{posix.getcwd()}/{path}".removesuffix("/.")


def read(path: str, limit: int) -> tuple[bytes, posix.stat_result]:
    """A regular file's bytes, at most `limit`, and its status; raises OSError or FileError."""
    fd, status = files.open_regular(path, _FLAGS)
    try:
        return files.read_all(fd, limit), status
    finally:
        posix.close(fd)


def _run(call: Call, bundle: str, path: str, data: bytes, status: posix.stat_result) -> str:
    index = policy.load_index()
    config = spec.parse(data)
    container, decision = identify.decided(config, index.document, call.id, {}, bundle)
    if decision.decision == decide.IGNORED and index.document["settings"]["log"] != "all":
        return ""
    from fhir_hook.hook import native, planning

    answer = native.answer(data, config, container, decision, index, "create")
    if decision.decision != decide.REFUSED and answer is not data:
        _write(path, answer, status, container, decision)
    return planning.refusal(*decision.reasons[0], container) if decision.decision == decide.REFUSED else ""


def _write(path: str, data: bytes, status: posix.stat_result, container: Container, decision: Decision) -> None:
    """Put the edited config in the place of the other; when it can't be, `decision` becomes a refusal, on record."""
    try:
        replace(path, data, status)
        return
    except (OSError, ValueError) as error:
        # Without its path: a bundle may be called after a person.
        text = f"config.json: {getattr(error, 'strerror', None) or error}"
    from fhir_hook.core import record
    from fhir_hook.hook import main
    from fhir_hook.store import log

    decision.refuse("FH115", text)
    try:
        log.append(record.refusal(container, "create", "FH115", text))
    except log.LogError as error:
        main.say(f"fhir-hook: the refusal is not in the log: {error}")


def replace(path: str, data: bytes, status: posix.stat_result) -> None:
    """Put `data` in the place of a file that had this `status`: its mode, and its owner where that is another one.

    It is not durable: a container does not outlive a power cut, and its engine writes its files anew.
    """
    own = (posix.geteuid(), posix.getegid())
    owner = (status.st_uid, status.st_gid)
    files.replace(path, data, status.st_mode & 0o777, owner if owner != own else None, durable=False)
