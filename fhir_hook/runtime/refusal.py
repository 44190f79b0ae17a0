"""A refusal on its way to people: stderr, and the log file that the engine reads a runtime's last error from."""

from __future__ import annotations

import posix
import time

from fhir_hook.core import jsonio
from fhir_hook.hook import main
from fhir_hook.runtime.arguments import Call

_FLAGS = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK


def tell(call: Call, line: str) -> None:
    """Say `line` on stderr and in the file of --log, in the format of --log-format, as runc and crun write it."""
    main.say(line)
    scheme, colon, rest = call.log.partition(":")
    path = rest if colon and scheme == "file" else call.log  # crun knows file:PATH, journald:ID and syslog:ID
    if not path or (colon and scheme in ("journald", "syslog")):
        return
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if call.log_format == "json":
        entry = jsonio.text({"level": "error", "msg": line, "time": now})
    else:
        entry = f'time="{now}" level=error msg={jsonio.text(line)}'
    try:
        fd = posix.open(path, _FLAGS, 0o644)
        try:
            posix.write(fd, entry.encode("ascii", "backslashreplace") + b"\n")
        finally:
            posix.close(fd)
    except (OSError, ValueError):
        return  # stderr has it, and the decision log
