"""What a watcher had counted and not told when it was killed is told by the next one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from fhir_hook.denials.counting import OTHERS, UNMAPPED, Count, Kind, Place
from fhir_hook.denials.stand import MOST_KEPT, Stand
from support.sandbox import Sandbox

ID = "a" * 64
KIND = Kind("keyctl", "log", "java", "/opt/java")
WATCH = """
import sys, time
from pathlib import Path
from fhir_hook.denials import watch
from fhir_hook.denials.counting import Kind, Limits, Place
from fhir_hook.denials.stand import Stand
from fhir_hook.store import log
once = sys.argv[1] == "once"
stand = Stand(Path("/var/lib/fhir-hook/denials"))
log.append({"event": "watch", "what": "watching"})
watcher = watch.Watcher(Path(log.directory()), stand, Limits(settle=0.2), earlier=once)
"""
COUNT = WATCH + """
for second in range(5):
    kind = Kind("keyctl", "log", "java", "/opt/java")
    watcher._tally.add(Place("a" * 64, 0), kind, second, "cgroup", time.monotonic())
    time.sleep(0.3)
    watcher.step(0.01)
    watcher._followed = 0.0
print(flush=True)
time.sleep(60)
"""


def told(sandbox: Sandbox) -> list[tuple[int, int, str, str]]:
    """What the log says of that kind."""
    found = [record for record in sandbox.records if record.get("exe") == KIND.exe]
    return [(record["count"], record["total"], record["first"][17:19], record["last"][17:19]) for record in found]


def test_a_watcher_that_is_killed_loses_nothing_that_it_counted(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    watching = sandbox.start(COUNT, "on")
    assert watching.stdout is not None and watching.stdout.readline() == b"\n"
    watching.send_signal(signal.SIGKILL)
    watching.communicate(timeout=30)
    (first,) = told(sandbox)
    assert first[0] < 5
    sandbox.python(WATCH + "watcher.once()", "once")
    assert told(sandbox) == [first], "who reads once tells nothing of another watcher's"
    sandbox.python(WATCH + "watcher.step(0.01)\nwatcher.finish()", "on")
    _, second = told(sandbox)
    assert first[0] + second[0] == second[1] == 5 and second[3] == "04"
    sandbox.python(WATCH + "watcher.step(0.01)\nwatcher.finish()", "on")
    assert len(told(sandbox)) == 2


def test_what_is_kept_is_read_again_after_a_boot_but_for_the_kernels_numbers(tmp_path: Path) -> None:
    path = tmp_path / "denials"
    stand = Stand(path)
    stand.serial = 77
    kept = [(Place(ID, 0), KIND, Count(0.0, "cgroup", 1.5, 2.5, 3, 9)), (UNMAPPED, OTHERS, Count(0.0, "", 1, 1, 1, 1))]
    stand.keep(kept)
    assert (Stand(path).serial, Stand(path).untold) == (77, kept)
    path.write_text(path.read_text().replace('"boot": "', '"boot": "another'))
    assert (Stand(path).serial, Stand(path).untold) == (0, kept)


def test_attack_more_kinds_than_are_kept_and_names_as_long_as_can_be(tmp_path: Path) -> None:
    path = tmp_path / "denials"
    kinds = [Kind("keyctl", "log", "\x01" * 16, f"/{number}" + "\U0001f4a9" * 1024) for number in range(3000)]
    stand = Stand(path)
    counts = [(Place(ID, 1000), kind, Count(0.0, "", 1, 1, 1, 1)) for kind in kinds]
    stand.keep([*counts, (Place(ID, 0), KIND, Count(0.0, "cgroup", 1, 1, 1, 1))])
    found = Stand(path).untold
    assert path.stat().st_size < 1 << 20
    assert len(found) == MOST_KEPT and found[0][:2] == (Place(ID, 0), KIND)


UNTOLD = '{{"boot":"","serial":1,"untold":{}}}'
DAMAGED = ["", "[]", "{", '{"serial":1}', *(UNTOLD.format(each) for each in ("[1]", "[[1]]", "7", "null"))]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_file_that_is_damaged_is_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "denials").write_text(text)
    stand = Stand(tmp_path / "denials")
    assert (stand.serial, stand.untold) == (0, [])
