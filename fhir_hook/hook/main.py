"""The OCI hook's entry point: `hook STAGE`, called by an engine or a runtime and by nobody else.

    precreate   Podman: config.json on stdin, the edited one on stdout
    prestart    any engine or runtime: the container's state on stdin (runtime-spec config.md, POSIX-platform Hooks)
    gate        the createRuntime entry that precreate adds to a confined container's own config
    refuse      the createRuntime entry of a refused one; argv[2] is the code, argv[3] the line to show

Exit codes: 0 go on; 1 the container is refused, and one line on stderr says why; 2 called wrongly.
"""

from __future__ import annotations

import gc
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(argv: list[str]) -> NoReturn:
    """Run one stage and leave; the interpreter's own tidying up is skipped, which saves a millisecond."""
    stage = argv[1] if len(argv) > 1 else ""
    gc.disable()  # a hook is over before anything would be worth collecting; 0.6 ms
    posix.chdir("/")
    if stage == "precreate":
        from fhir_hook.hook import precreate

        code = precreate.run()
    elif stage == "prestart":
        from fhir_hook.hook import prestart

        code = prestart.run()
    elif stage in ("gate", "refuse"):
        from fhir_hook.hook import gate

        code = gate.run(argv)
    else:
        say("fhir-hook: called by hand? An engine calls it as: hook precreate|prestart; see 'fhir-hook --help'")
        code = 2
    posix._exit(code)


def say(line: str) -> None:
    """Write one line to stderr, where runc shows it; a reader that has gone away is no reason to fail."""
    try:
        posix.write(2, (line.replace("\n", " ") + "\n").encode("utf-8", "backslashreplace"))
    except OSError:
        sys.exc_info()
