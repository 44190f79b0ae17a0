"""The fhir-hook command.

Exit codes: 0 done; 1 the answer is no (a check failed, nothing was found); 2 called wrongly; 3 it could not be done.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from fhir_hook.cli import lazily
from fhir_hook.core.version import VERSION

MEMBERS = {
    **{name: f"{name}:command" for name in ("bundle", "doctor", "engine", "host", "inspect", "log", "policy")},
    **{name: f"{name}:command" for name in ("profile", "report")},
    **{"explain": "codes:explain", "codes": "codes:listing"},
}


@click.group(
    cls=lazily.Group,
    members=MEMBERS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name=None, version=VERSION, prog_name="fhir-hook")
def command() -> None:
    """Confine FHIR server containers at their start, and keep a record of every decision."""


def main() -> NoReturn:
    """Run the command; a defect ends in one line as well, with the traceback where FHIR_HOOK_DEBUG is set."""
    import os

    try:
        command.main(prog_name="fhir-hook", standalone_mode=True)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(3)
    except Exception as error:
        if os.environ.get("FHIR_HOOK_DEBUG"):
            raise
        click.echo(
            f"fhir-hook: {type(error).__name__}: {error} (a defect; set FHIR_HOOK_DEBUG=1 to see where)", err=True
        )
        sys.exit(3)
    sys.exit(0)


if __name__ == "__main__":
    main()
