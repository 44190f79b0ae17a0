"""What the engines' configurations call the shim."""

from __future__ import annotations

NAME = "fhir-runc"
PROGRAM = "/usr/libexec/fhir-hook/fhir-runc"
CRUN_NAME = "fhir-crun"
CRUN_PROGRAM = "/usr/libexec/fhir-hook/fhir-crun"
