"""Fixtures: the installed command with its folders put back when a test ends."""

from __future__ import annotations

from cli.conftest import command

__all__ = ["command"]
