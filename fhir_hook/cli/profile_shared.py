"""What the commands of `fhir-hook profile` share: where the profiles are, finding what is named, printing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fhir_hook.authoring.source import Sources, load_sources
from fhir_hook.cli.failure import Failed
from fhir_hook.core import paths
from fhir_hook.core.record import printable
from fhir_hook.review.subject import Finder, Subject, SubjectError

ARCHITECTURES = ("x86_64", "aarch64")


@dataclasses.dataclass(frozen=True)
class Profiles:
    """The profiles of this host, or of another folder: `shipped` holds them with schemas, tables and recordings."""

    shipped: Path
    local: Path | None
    sources: Sources

    def finder(self, arch: str = "x86_64") -> Finder:
        """What finds profiles, defaults of engines, recordings and files by name."""
        return Finder(self.sources, self.shipped, arch)

    def find(self, name: str, arch: str = "x86_64") -> Subject:
        """The subject of a name; raises Failed."""
        try:
            return self.finder(arch).find(name)
        except SubjectError as error:
            raise Failed(str(error)) from None

    def profile(self, name: str, arch: str = "x86_64") -> Subject:
        """As `find`, for what must be a profile; raises Failed."""
        try:
            return self.finder(arch).profile(name)
        except SubjectError as error:
            raise Failed(str(error)) from None


def load(folder: Path | None) -> Profiles:
    """The installed profiles, or those of a folder laid out like profiles/; raises Failed when there are none."""
    shipped = folder or Path(paths.SHIPPED_PROFILES)
    local = None if folder else Path(paths.LOCAL_PROFILES)
    if not shipped.is_dir():
        raise Failed(f"{shipped} is not there: install fhir-hook, or name a folder of profiles with --profiles")
    return Profiles(shipped, local, load_sources(shipped, local))


def profiles_option(command: Callable[..., None]) -> Callable[..., None]:
    """--profiles DIR: review another folder than the installed one."""
    return click.option(
        "--profiles",
        "folder",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Profiles of this folder instead of the installed ones.",
    )(command)


def json_option(command: Callable[..., None]) -> Callable[..., None]:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def arch_option(command: Callable[..., None]) -> Callable[..., None]:
    """--arch."""
    kinds = click.Choice(ARCHITECTURES)
    return click.option("--arch", type=kinds, default="x86_64", help="Architecture.", show_default=True)(command)


def console() -> Console:
    """A console that keeps lines whole enough to be read where the output is no terminal."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=160)


def table(*columns: str, fixed: int = 1) -> Table:
    """A plain table; the first `fixed` columns are not broken into lines."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        found.add_column(column, overflow="fold", no_wrap=place < fixed)
    return found


def print_json(value: Any) -> None:
    """One JSON value on one line."""
    click.echo(json.dumps(value, ensure_ascii=True))


def safe(value: str, keep: str = "") -> str:
    """Text of strangers for a terminal: characters that are not printable (but for `keep`) are written as escapes."""
    return "".join(c if c in keep else printable(c) for c in value)


def text(value: str, style: str = "") -> Text:
    """As `safe`, for a rich console; markup in it means nothing."""
    return Text(safe(value), style=style)
