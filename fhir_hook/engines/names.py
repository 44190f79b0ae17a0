"""What the engines' configurations call the shim."""

from __future__ import annotations

NAME = "fhir-runc"
PROGRAM = "/usr/libexec/fhir-hook/fhir-runc"
CRUN_NAME = "fhir-crun"
CRUN_PROGRAM = "/usr/libexec/fhir-hook/fhir-crun"


def replaced(setting: str, runtime: object) -> str:
    """Why the shim is not made the default in the place of another runtime than runc or crun, and what to do."""
    hint = "name its program as runc below [runtime] in /etc/fhir-hook/config.toml, take the setting out, and try again"
    return f"{setting} is {str(runtime)!r}, which runc behind {NAME} would replace without a word: {hint}"
