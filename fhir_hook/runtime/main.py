"""fhir-runc, fhir-crun: what an engine calls in place of runc or crun (decision 6).

create, run and restore go through the same decision as the hook, written into the bundle's config.json; exec into a
confined container loses the capabilities that the container has lost. Then, and at once for every other verb, this
process becomes the real runtime: its pid, its descriptors, its exit code, its signals.
"""

from __future__ import annotations

import posix
import sys

from fhir_hook.runtime import arguments, real

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(argv: list[str]) -> NoReturn:
    """Become the real runtime, or leave with 1 when the container is refused, with 127 when there is no runtime."""
    kind = argv[0].rpartition("/")[2].removeprefix("fhir-")
    kind = kind if kind in (arguments.RUNC, arguments.CRUN) else arguments.RUNC
    call = arguments.parse(kind, argv[1:])
    code = 1
    try:
        path = real.find(kind, argv[0])
        if call.verb in arguments.EDITED:
            from fhir_hook.runtime import create

            refused = create.run(call)
        elif call.verb == arguments.EXEC and call.process:
            from fhir_hook.runtime import execute

            refused = execute.run(call)
        else:
            refused = ""
        if not refused:
            real.become(path, argv)
    except real.RealError as error:
        refused, code = f"fhir-hook: {error}", 127
    except OSError as error:
        refused, code = f"fhir-hook: the real runtime can't be executed: {error}", 127
    except Exception as error:  # noqa: BLE001 - whether it is FHIR is not known: nothing may start past the decision
        refused = f"fhir-hook itself failed ({type(error).__name__}: {error}): install the package again. FH113"
    _tell(call, refused)
    posix._exit(code)


def _tell(call: arguments.Call, line: str) -> None:
    try:
        from fhir_hook.runtime import refusal

        refusal.tell(call, line)
    except Exception:  # noqa: BLE001 - what the refusal needs is broken, too
        sys.stderr.write(f"{ascii(line)[1:-1]}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv)
