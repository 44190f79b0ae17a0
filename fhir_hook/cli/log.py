"""fhir-hook log: what was decided, newest last."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fhir_hook.cli import log_archive, log_checkpoint, log_forward, log_verify, log_witness
from fhir_hook.cli.failure import Failed
from fhir_hook.store import log, log_reader

COLOURS = {"confined": "green", "refused": "red", "exempt": "yellow", "undetermined": "yellow", "ignored": "dim"}
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_time(text: str) -> datetime:
    """Read a time as people give it: 2h, 3d (ago), 2026-11-21, 2026-11-21T10:00 (local unless a zone is given)."""
    match = re.fullmatch(r"(\d+)([smhdw])", text)
    if match:
        return datetime.now(UTC) - timedelta(**{UNITS[match[2]]: int(match[1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time: write 2h, 3d or 2026-11-21T10:00") from None


def matches(record: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a record meets every filter that was given."""
    container, image = record.get("container") or {}, record.get("image") or {}
    name = wanted["container"]
    if name and name != container.get("name") and not str(container.get("id", "")).startswith(name):
        return False
    name = wanted["image"]
    if name and not (str(image.get("id", "")).startswith(name) or any(name in n for n in image.get("names", []))):
        return False
    if wanted["decision"] and record.get("decision") != wanted["decision"]:
        return False
    if wanted["code"] and wanted["code"].upper() not in codes_of(record):
        return False
    when = datetime.fromisoformat(record.get("time", "1970-01-01T00:00:00Z"))
    if wanted["since"] and when < wanted["since"]:
        return False
    return not (wanted["until"] and when > wanted["until"])


def codes_of(record: dict[str, Any]) -> list[str]:
    """The codes of a record's reasons and findings."""
    return [item.get("code", "") for item in [*record.get("reasons", []), *record.get("findings", [])]]


@click.group("log", invoke_without_command=True)
@click.option("--container", help="Only this container: its name, or the start of its id.")
@click.option("--image", help="Only this image: a part of its name, or the start of its id.")
@click.option("--decision", type=click.Choice(list(COLOURS)), help="Only this decision.")
@click.option("--code", help="Only records with this reason or finding.")
@click.option("--since", help="Only from this time on: 2h, 3d, 2026-11-21T10:00.")
@click.option("--until", help="Only up to this time.")
@click.option("-n", "--lines", type=int, default=0, help="Only the last N that match.")
@click.option("--file", "path", type=click.Path(path_type=Path), help="Another log file.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as they are, one a line.")
@click.pass_context
def command(context: click.Context, path: Path | None, lines: int, as_json: bool, **wanted: Any) -> None:
    """Show what was decided about containers, newest last; verify it, sign it, keep it."""
    if context.invoked_subcommand:
        return
    for name in ("since", "until"):
        wanted[name] = parse_time(wanted[name]) if wanted[name] else None
    source = path or Path(log.directory())
    try:
        found = [entry for entry in log_reader.entries(source) if entry.problem or matches(entry.record, wanted)]
    except FileNotFoundError:
        found = []
        click.echo(f"{source} does not exist: nothing was decided yet", err=True)
    except OSError as error:
        raise Failed(
            f"{source}: {error.strerror}. The host's log is read by root and the group of its directory"
        ) from None
    for entry in found:
        if entry.problem:
            click.echo(f"{entry.path}:{entry.number}: {entry.problem}", err=True)
    records = [entry.record for entry in found if entry.record and matches(entry.record, wanted)]
    records = records[-lines:] if lines else records
    if as_json:
        for record in records:
            click.echo(json.dumps(record, ensure_ascii=True, separators=(",", ":")))
    else:
        show(records)
    if any(entry.problem for entry in found):
        sys.exit(1)


def show(records: list[dict[str, Any]]) -> None:
    """Print records as a table for people."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("time", "what", "container", "image", "by", "details"):
        table.add_column(column, overflow="fold", no_wrap=column == "time")
    for record in records:
        what = record.get("decision") or record.get("event", "")
        if record.get("event") == "outcome" and "decision" not in record:
            what = "in force"
        container, names = record.get("container") or {}, (record.get("image") or {}).get("names") or []
        table.add_row(
            _local(record.get("time", "")),
            Text(what, style=COLOURS.get(what, "cyan")),
            Text(container.get("name") or str(container.get("id", ""))[:12]),
            Text(names[0] if names else str((record.get("image") or {}).get("id", ""))[:12]),
            Text(" ".join(filter(None, (record.get("path", ""), record.get("stage", ""))))),
            Text(details(record)),
        )
    console.print(table)


def _local(time: str) -> str:
    try:
        return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return time


def details(record: dict[str, Any]) -> str:
    """What a record says besides its columns, in one line."""
    parts = [f"{p['name']} {p['version']}" for p in record.get("profile", [])]
    seccomp = record.get("seccomp", {})
    if "allowed" in seccomp:
        parts.append(f"calls {seccomp['allowed_before']} -> {seccomp['allowed']}")
    if "filters_after" in seccomp:
        read = "read back" if record.get("seen") == "kernel" else "not read back"
        parts.append(f"filters {seccomp['filters_before']} -> {seccomp['filters_after']}, {read}")
    if record.get("seen") == "config":
        parts.append("config.json on disk carries the plan")
    if record.get("capabilities", {}).get("dropped"):
        parts.append(f"{len(record['capabilities']['dropped'])} capabilities dropped")
    parts += [f"{item.get('code')} {item.get('text')}" for item in record.get("reasons", [])]
    parts += [item.get("code", "") for item in record.get("findings", [])]
    if record.get("event") in ("policy", "settings", "mode", "hook", "log", "recovery"):
        parts += [f"{key}={record[key]}" for key in ("result", "old", "new", "what", "torn", "closed") if key in record]
    return "; ".join(str(part) for part in parts)


for subcommand in (
    *(log_checkpoint.checkpoint, log_checkpoint.rotate, log_checkpoint.key),
    *(log_verify.verify, log_verify.prove, log_verify.verify_proof),
    *(log_archive.save, log_archive.remove, log_archive.restore, log_archive.publish),
    *(log_witness.ask, log_witness.serve, log_forward.forward),
):
    command.add_command(subcommand)
