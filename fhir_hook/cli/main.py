"""The fhir-hook command.

Exit codes: 0 done; 1 the answer is no (a check failed, nothing was found); 2 called wrongly; 3 it could not be done.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from fhir_hook.cli import bundle, codes, doctor, engine, host, inspect, log, policy, profile, report
from fhir_hook.core.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name=None, version=VERSION, prog_name="fhir-hook")
def command() -> None:
    """Confine FHIR server containers at their start, and keep a record of every decision."""


command.add_command(policy.command)
command.add_command(profile.command)
command.add_command(log.command)
command.add_command(report.command)
command.add_command(inspect.command)
command.add_command(codes.explain)
command.add_command(codes.listing)
command.add_command(bundle.command)
command.add_command(host.command)
command.add_command(engine.command)
command.add_command(doctor.command)


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
