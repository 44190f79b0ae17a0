"""Whether the log is held elsewhere, too: what is on this host only, whoever is root on it can write anew."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from fhir_hook.audit import retention, standing
from fhir_hook.audit.places import Places
from fhir_hook.audit.standing import Way
from fhir_hook.core import paths
from fhir_hook.health.finding import Finding, bad, good, note
from fhir_hook.store import log

CHECK = "log.off-host"
# A receiver may be away for a restart; what makes its way by a timer of a day is late after two.
PATIENCE = 3600.0
WITNESS_PATIENCE = 2 * 86400.0


def held_elsewhere() -> Iterator[Finding]:
    """Each way by which records and checkpoints leave this host: whether there is one, and how far it has come."""
    if os.geteuid() != 0 or log.directory() != paths.LOG_DIRECTORY:
        return
    ways = standing.ways(Places.default())
    for way in ways:
        yield _of(way)
    if not [way for way in ways if not way.here]:
        seen = "records and checkpoints are in this host's own journal only" if ways else "nothing leaves this host"
        why = "whoever is root here can write the log anew with the key that signs it, and a lost disk loses it"
        repair = "fhir-hook log forward --syslog HOST:6514 --follow, or log deliver, or log witness"
        yield note(CHECK, f"{seen}: no forwarding, no delivery, no witness was ever tried", why, repair)


def archived() -> Iterator[Finding]:
    """Whether closed segments of the log are in an archive, and whether some are old enough to go."""
    check = "log.archived"
    if os.geteuid() != 0 or log.directory() != paths.LOG_DIRECTORY:
        return
    keep = retention.setting("keep", retention.KEEP)
    found = retention.due(Places.default(), retention.age_of(keep))
    if found.missing:
        why = "they are on this disk only, and none can be removed that no archive has"
        seen = f"{_counted(found.missing)} in no archive"
        yield note(check, seen, why, f"fhir-hook log archive --to {shlex.quote(found.to) if found.to else 'DIRECTORY'}")
    if found.old:
        why = f"they are older than {keep} (log.keep), and in the archive"
        repair = f"fhir-hook log remove --archive {shlex.quote(found.to)}"
        yield note(check, f"{_counted(found.old)} due to go", why, repair)
    if not found.missing and not found.old:
        yield good(check, f"closed segments are archived, and none is older than {keep}")


def _counted(names: list[str]) -> str:
    if len(names) == 1:
        return f"1 closed segment ({names[0]}) is"
    return f"{len(names)} closed segments ({names[0]} to {names[-1]}) are"


def _of(way: Way) -> Finding:
    if way.broken:
        why = "the log was cut off, replaced or restored since it was delivered there: one of the two is false"
        return bad(CHECK, f"{way.to}: {way.problem}", why, "fhir-hook log verify; compare with what is held there")
    if not way.waits and not way.problem:
        return good(CHECK, f"{way.to} has everything")
    waiting = f"waiting {_age(way.since)}: {way.waits}" if way.waits else ""
    said = f"{way.to}: " + "; ".join(filter(None, (waiting, way.problem)))
    why = "they are on this host only, where root can change them"
    witness = way.command.startswith("fhir-hook log witness")
    if way.waits and way.since > (WITNESS_PATIENCE if witness else PATIENCE):
        return bad(CHECK, said, why, way.command)
    if way.problem:
        return note(CHECK, said, why, way.command)
    return good(CHECK, f"{way.to} is asked, and has all but the newest")


def _age(seconds: float) -> str:
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit:
            count = int(seconds // unit)
            return f"for {count} {name}{'s' if count > 1 else ''}"
    return "for seconds"
