"""The version, in its one place: setup.cfg, the packages, the command and the SBOM read it from here."""

from __future__ import annotations

VERSION = "0.1.0"
