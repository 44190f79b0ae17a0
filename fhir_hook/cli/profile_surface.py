"""fhir-hook profile surface: how much of the kernel stays within reach."""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from fhir_hook.cli import profile_shared as shared
from fhir_hook.cli.failure import Failed
from fhir_hook.review import cases, evidence, surface
from fhir_hook.review.subject import SubjectError

SEEN = "serving: seen in recordings' serve phase, not enforced"


@click.command("surface")
@click.argument("names", nargs=-1)
@click.option("--confine", is_flag=True, help="Deny counts beside those that Confine (RAID 2020) published.")
@click.option("--plot", "plot_file", type=click.Path(dir_okay=False, path_type=Path), help="Draw an SVG here.")
@click.option("--markdown", is_flag=True, help="Print a table in Markdown.")
@shared.arch_option
@shared.json_option
@shared.profiles_option
def command(
    names: tuple[str, ...],
    confine: bool,
    plot_file: Path | None,
    markdown: bool,
    arch: str,
    as_json: bool,
    folder: Path | None,
) -> None:
    """Report the attack surface of the engines' defaults and all profiles, or of NAMES (whatever `diff` takes)."""
    profiles = shared.load(folder)
    finder = profiles.finder("x86_64" if confine else arch)
    if confine:
        _confine(surface.confine(finder), as_json, markdown)
        return
    try:
        listed = surface.lines(finder, evidence.load(profiles.shipped), names)
    except (SubjectError, cases.TooMany) as error:
        raise Failed(str(error)) from None
    if plot_file is not None:
        from fhir_hook.review import plot

        try:
            plot.svg(listed, plot_file)
        except plot.PlotError as error:
            raise Failed(str(error)) from None
    if as_json:
        shared.print_json([surface.as_object(entry) for entry in listed])
    elif markdown:
        click.echo(surface.markdown(listed), nl=False)
    else:
        _show(listed)


def _show(listed: list[surface.Line]) -> None:
    console = shared.console()
    first = listed[0]
    table = shared.table("filter")
    for title in (
        f"calls of {first.known}",
        "by arguments",
        "serving",
        "capabilities",
        f"CVEs closed of {first.cves}",
        "serving",
        f"of Docker's {first.docker_leaves}",
    ):
        table.add_column(title, justify="right")
    for entry in listed:
        table.add_row(
            Text(entry.name, style="bold" if entry.kind == "profile" else "dim"),
            str(entry.allowed),
            str(entry.by_arguments),
            _count(entry.serving),
            str(len(entry.capabilities)),
            str(entry.closed),
            _count(entry.serving_closed),
            str(entry.closed_of_docker),
        )
    console.print(table)
    console.print(Text(f"{SEEN}. How CVEs are counted: docs/review-a-profile.md", style="dim"))


def _count(number: int | None) -> str:
    return "" if number is None else str(number)


def _confine(listed: list[surface.Compared], as_json: bool, markdown: bool) -> None:
    if as_json:
        shared.print_json([surface.as_object(entry) for entry in listed])
        return
    if not listed:
        raise Failed("none of the profiles that compare with Confine's images is installed")
    if markdown:
        click.echo(surface.confine_markdown(listed), nl=False)
        return
    console = shared.console()
    table = shared.table("profile", f"denied of {listed[0].universe}", "Confine's image", "denied there")
    for entry in listed:
        style = "green" if entry.denied > entry.theirs else "red"
        table.add_row(entry.profile, Text(str(entry.denied), style=style), entry.image, str(entry.theirs))
    console.print(table)
