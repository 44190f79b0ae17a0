"""fhir-hook profile diff: what one filter allows and another does not."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click
from rich.text import Text

from fhir_hook.cli import profile_shared as shared
from fhir_hook.cli.failure import Failed
from fhir_hook.review import cases, difference
from fhir_hook.review.difference import Difference


@click.command("diff")
@click.argument("a")
@click.argument("b")
@shared.arch_option
@shared.json_option
@shared.profiles_option
def command(a: str, b: str, arch: str, as_json: bool, folder: Path | None) -> None:
    """Compare A with B by what they mean; exit code 0 when that is the same, 1 when not.

    Each may be a profile, NAME@policy (as compiled and in force), docker, podman, unconfined, a recording, or a file
    with a profile, a recording, or a seccomp profile of OCI, Docker, Podman or the Security Profiles Operator.
    """
    profiles = shared.load(folder)
    one, two = profiles.find(a, arch), profiles.find(b, arch)
    try:
        found = difference.differences(one, two)
    except cases.TooMany as error:
        raise Failed(str(error)) from None
    if as_json:
        counts = {"a": len(one.allowed()), "b": len(two.allowed())}
        listed = [dataclasses.asdict(entry) for entry in found]
        shared.print_json({"a": a, "b": b, "same": not found, "allowed": counts, "differences": listed})
    else:
        _show(a, b, found, (len(one.allowed()), len(two.allowed())), len(one.calls))
    sys.exit(1 if found else 0)


def _show(a: str, b: str, found: list[Difference], allowed: tuple[int, int], known: int) -> None:
    console = shared.console()
    if not found:
        console.print(f"the same: {a} and {b} answer every call alike ({allowed[0]} of {known} allowed)")
        return
    console.print(f"A = {a}, {allowed[0]} of {known} calls allowed;  B = {b}, {allowed[1]} allowed")
    for kind, title in ((difference.ONLY_A, f"only in A ({a})"), (difference.ONLY_B, f"only in B ({b})")):
        entries = [entry for entry in found if entry.kind == kind]
        if entries:
            console.print(Text(f"\nallowed {title}: {len(entries)}", style="bold"))
            _show_names(entries, kind == difference.ONLY_A)
    _show_arguments([entry for entry in found if entry.kind == difference.ARGUMENTS])
    answers = [entry for entry in found if entry.kind == difference.ANSWER]
    if answers:
        console.print(Text(f"\ndenied in both, with another answer: {len(answers)}", style="bold"))
        for pair in dict.fromkeys((entry.a, entry.b) for entry in answers):
            names = " ".join(entry.call for entry in answers if (entry.a, entry.b) == pair)
            console.print(Text(f"  A {pair[0]}, B {pair[1]}: {names}"))


def _show_names(entries: list[Difference], of_a: bool) -> None:
    console = shared.console()
    plain = [entry.call for entry in entries if (entry.a if of_a else entry.b) == "allowed"]
    if plain:
        console.print(Text(f"  {' '.join(plain)}"))
    for entry in entries:
        if entry.call not in plain:
            console.print(Text(f"  {entry.call}: {entry.a if of_a else entry.b}"))


def _show_arguments(entries: list[Difference]) -> None:
    console = shared.console()
    if entries:
        console.print(Text(f"\nallowed in both, under different arguments: {len(entries)}", style="bold"))
    for entry in entries:
        console.print(Text(f"  {entry.call}", style="bold"))
        console.print(Text(f"    A: {entry.a}"))
        console.print(Text(f"    B: {entry.b}"))
        for title, examples in (("A", entry.only_a), ("B", entry.only_b)):
            if examples:
                console.print(Text(f"    only in {title}: {', '.join(examples)} ...", style="yellow"))
