"""fhir-hook log summary: refusals by reason, containers that run without, what changed since."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fhir_hook.audit.selection import Record, Selection
from fhir_hook.cli.log_table import local
from fhir_hook.cli.selecting import selection_options
from fhir_hook.core.record import printable
from fhir_hook.report import naming
from fhir_hook.report.changes import Changes
from fhir_hook.report.collection import Row, Rows
from fhir_hook.report.grouping import BY, Grouping
from fhir_hook.report.tally import Tally
from fhir_hook.store import log, log_reader


class Without:
    """Containers that started without confinement: exempt, undetermined, or in complain mode."""

    def __init__(self) -> None:
        self.rows = Rows(3)

    def add(self, record: Record) -> None:
        """Take a record; what users say of their own containers tells nothing of the host."""
        complain = naming.is_complain(record)
        if naming.sender_of(record) is None and (complain or naming.is_without(record)):
            decision = "complain mode" if complain else str(record["decision"])
            self.rows.add((decision, naming.image_of(record), naming.joined_codes(record)), record)


@click.command("summary")
@selection_options
@click.option("--by", type=click.Choice(BY), help="One table: decisions and denials grouped by this.")
@click.option("--file", "path", type=click.Path(path_type=Path), help="Another log: its directory, or one file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def summary(path: Path | None, by: str | None, as_json: bool, selection: Selection) -> None:
    """Say in a few tables what the log holds: refusals by reason, containers that run without, what changed.

    'log summary --since monday' tells what is new since then: images, profiles, policies, settings, refusals. What
    users sent of their own logs is not in it. Exit code 1: the chain does not hold somewhere; where is said on stderr.
    """
    from fhir_hook.cli.log import problem_said, reading

    source = path or Path(log.directory())
    grouping, without, changes = Grouping(by or "reason"), Without(), Changes(selection.since, selection.until)
    unlimited = dataclasses.replace(selection, since=None, until=None)
    problems, collected = 0, Tally()
    with reading(source):
        for entry in log_reader.entries(source):
            problems += problem_said(entry)
            if not by and unlimited.matches(entry.record):
                changes.add(entry.record)
            if entry.record and selection.matches(entry.record):
                grouping.add(entry.record)
                without.add(entry.record)
                if naming.sender_of(entry.record) is not None:
                    collected.add(entry.record)
    if as_json:
        document: dict[str, Any] = {grouping.by if by else "refusals": [g.document() for g in grouping.groups]}
        if not by:
            document["without"] = [_document(row) for row in without.rows]
            document["changes"] = {"events": [e.document() for e in changes.events], "further": changes.further}
        click.echo(json.dumps({**document, "collected": collected.document()}))
    else:
        _print(grouping, by, without, changes, collected)
    sys.exit(1 if problems else 0)


def _print(grouping: Grouping, by: str | None, without: Without, changes: Changes, collected: Tally) -> None:
    console = Console(highlight=False) if Console().is_terminal else Console(width=160, highlight=False)
    _print_groups(console, grouping, by)
    if not by:
        _print_without(console, list(without.rows))
        _print_changes(console, changes)
    if collected.count:
        said = f"{collected.count:,} records that users sent from their own logs are not counted here"
        console.print(Text(said, "dim"))


def _document(row: Row) -> dict[str, Any]:
    decision, image, codes = row.key
    containers = list(row.containers.found)
    return {"decision": decision, "image": image, "codes": codes.split(), "containers": containers,
            **row.tally.document()}


def _table(console: Console, title: str, columns: str, rows: list[list[str]], nothing: str) -> None:
    console.print(Text(title, style="bold"))
    if not rows:
        console.print(Text(f"  {nothing}\n"))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns.split(","):
        numeric = column in ("count", "confined", "refused", "other", "denied calls")
        table.add_column(column, overflow="fold", justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)
    console.print()


def _print_groups(console: Console, grouping: Grouping, by: str | None) -> None:
    groups = grouping.groups
    if not by or by == "reason":
        rows = [
            [group.key, f"{group.tally.count:,}", group.meaning, group.images.first(2) or group.containers.first(2),
             local(group.tally.first), local(group.tally.last)]
            for group in groups
        ]  # fmt: skip
        _table(console, "Refusals by reason", "code,count,meaning,images,first,last", rows, "nothing was refused")
        return
    rows = [
        [group.key, *(f"{group.kinds[kind]:,}" for kind in ("confined", "refused", "other", "denial")),
         local(group.tally.first), local(group.tally.last)]
        for group in groups
    ]  # fmt: skip
    columns = f"{by},confined,refused,other,denied calls,first,last"
    _table(console, f"Decisions by {by}", columns, rows, "no decision was recorded")


def _print_without(console: Console, rows: list[Row]) -> None:
    cells = [
        [*row.key[:2], f"{row.tally.count:,}", row.containers.first(), row.key[2], local(row.tally.last)]
        for row in rows
    ]  # fmt: skip
    nothing = "every FHIR container on record was confined or refused"
    _table(console, "Containers that run without", "decision,image,count,containers,codes,last", cells, nothing)
    remark = "  A start around the hook leaves no record: 'fhir-hook doctor' looks at what runs now.\n"
    console.print(Text(remark, "dim"))


def _print_changes(console: Console, changes: Changes) -> None:
    rows = [[local(event.time), event.kind, event.what, event.who] for event in changes.events]
    _table(console, "What changed", "time,what,details,by", rows, "nothing")
    if changes.further:
        console.print(Text(f"  and {changes.further:,} more"))
