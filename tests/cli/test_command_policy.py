"""fhir-hook policy: compile, check, show, on the installed product."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cli.conftest import Command, records
from host.machine import Host

CONFIG = Path("/etc/fhir-hook/config.toml")
LOCAL = Path("/etc/fhir-hook/profiles")
SELECTORS = Path("/var/lib/fhir-hook/selectors.json")


def in_force() -> str:
    digest: str = json.loads(SELECTORS.read_text())["policy"]
    return digest


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (CONFIG, 'mode = "off"', ("config.toml", "mode", "enforce")),
        (CONFIG, "mode = maybe", ("config.toml", "line 1")),
        (CONFIG, 'colour = "red"', ("config.toml", "colour")),
        (CONFIG, '[[bind]]\nimage = "a"\nid = "b"\nprofile = "hapi"', ("config.toml", "bind.0")),
        (CONFIG, '[[bind]]\nimage = "x"\nprofile = "nothere"', ("[[bind]] x", "nothere", "installed:", "hapi")),
        (CONFIG, '[runtime]\nrunc = "/nowhere/runc"', ("/nowhere/runc", "[runtime]", "no such file")),
        (CONFIG, '[runtime]\nrunc = "/etc/passwd"', ("/etc/passwd", "[runtime]")),
        (LOCAL / "mine.json", "{", ("mine.json", "P102")),
        (LOCAL / "mine.json", '{"name": "mine"}', ("mine.json", "P103")),
        (LOCAL / "mine.json", '{"name": "mine", "name": "mine"}', ("mine.json", "P102")),
    ],
)
def test_a_broken_edit_is_refused_by_file_and_place_and_the_policy_in_force_stays(
    command: Command, file: Path, text: str, said: tuple[str, ...]
) -> None:
    before, kept = in_force(), SELECTORS.read_bytes()
    file.write_text(text)
    checked = command("policy", "check")
    assert checked.returncode == 1
    done = command("policy", "compile")
    assert done.returncode == 3
    assert all(word in done.stderr for word in said), done.stderr
    assert "Traceback" not in done.stderr
    assert SELECTORS.read_bytes() == kept
    last = records(command)[-1]
    assert (last["event"], last["result"], last["old"]) == ("policy", "refused", before)


def test_an_edit_that_is_refused_is_on_record_once_however_often_somebody_looks_for_edits(command: Command) -> None:
    CONFIG.write_text("mode = maybe\n")
    assert command("policy", "compile", "--if-changed").returncode == 3
    told = len(records(command))
    again = command("policy", "compile", "--if-changed")
    assert again.returncode == 3 and "config.toml" in again.stderr
    assert len(records(command)) == told
    CONFIG.write_text("mode = perhaps\n")
    assert command("policy", "compile", "--if-changed").returncode == 3
    assert len(records(command)) == told + 1
    CONFIG.write_text('mode = "complain"\n')
    command("policy", "compile", "--if-changed", check=True)
    assert records(command)[-1]["event"] == "mode"


def test_compiling_the_same_sources_twice_gives_the_same_digest(command: Command) -> None:
    command("policy", "compile", check=True)
    first = in_force()
    command("policy", "compile", check=True)
    assert in_force() == first


def test_changed_settings_and_a_changed_mode_are_events_with_old_and_new_and_who(command: Command) -> None:
    command("policy", "compile", check=True)
    CONFIG.write_text('mode = "complain"\n')
    command("policy", "compile", check=True)
    policy, settings, mode = records(command)[-3:]
    assert (policy["event"], policy["result"], policy["new"]) == ("policy", "compiled", in_force())
    assert settings["event"] == "settings" and settings["old"] != settings["new"]
    assert (mode["event"], mode["old"], mode["new"]) == ("mode", "enforce", "complain")
    assert all(record["user"]["uid"] == 0 for record in (policy, settings, mode))


def test_drop_ins_are_read_in_order_and_bindings_add_up(command: Command) -> None:
    CONFIG.write_text('generic = "refuse"\n[[bind]]\nimage = "a"\nprofile = "hapi"\n')
    (CONFIG.parent / "config.d" / "20-b.toml").write_text('generic = "complain"\n')
    (CONFIG.parent / "config.d" / "10-a.toml").write_text(
        'generic = "confine"\n[log]\ndecisions = "all"\n[[bind]]\nimage = "b"\nprofile = "hapi"\n'
    )
    command("policy", "compile", check=True)
    shown = json.loads(command("policy", "show", "--json", check=True).stdout)
    assert shown["settings"]["generic"] == "complain"
    assert shown["settings"]["log"] == "all"
    assert [binding["image"] for binding in shown["bindings"]] == ["a", "b"]


def test_show_names_the_sources_that_changed_since_the_policy_was_compiled(command: Command) -> None:
    CONFIG.write_text("")
    command("policy", "compile", check=True)
    assert json.loads(command("policy", "show", "--json", check=True).stdout)["changed"] == []
    CONFIG.write_text("# edited\n")
    changed = json.loads(command("policy", "show", "--json", check=True).stdout)["changed"]
    assert str(CONFIG) in changed


def test_a_local_profile_replaces_the_shipped_one_of_its_name(command: Command) -> None:
    profile = json.loads(Path("/usr/share/fhir-hook/profiles/hapi.json").read_text())
    profile["version"] = "9.9.9"
    (LOCAL / "hapi.json").write_text(json.dumps(profile))
    command("policy", "compile", check=True)
    shown = json.loads(command("policy", "show", "--json", check=True).stdout)
    assert {p["name"]: p["version"] for p in shown["profiles"]}["hapi"] == "9.9.9"


def test_show_without_a_policy_says_what_to_run(command: Command, host: Host) -> None:
    for path in SELECTORS.parent.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = command("policy", "show")
    assert done.returncode == 3
    assert "FH103" in done.stderr and "fhir-hook policy compile" in done.stderr


def test_an_ordinary_user_can_show_the_policy_and_not_compile_it(command: Command) -> None:
    assert command("policy", "show", user="rootless").returncode == 0
    before = SELECTORS.read_bytes()
    done = command("policy", "compile", user="rootless")
    assert done.returncode == 3 and "Permission denied" in done.stderr
    assert SELECTORS.read_bytes() == before


def test_a_runtime_that_can_not_be_set_is_told_apart_from_the_policy_that_is_in_force(command: Command) -> None:
    before = in_force()
    CONFIG.write_text('undetermined = "refuse"\n')
    place = SELECTORS.parent / "runtime"
    shutil.rmtree(place, ignore_errors=True)
    place.write_text("")
    done = command("policy", "compile")
    assert done.returncode == 3 and "the policy is in force, [runtime] is not" in done.stderr
    assert in_force() != before or '"undetermined":"refuse"' in SELECTORS.read_text()
    compiled = [record for record in records(command) if record["event"] == "policy"][-1]
    assert (compiled["result"], compiled["new"]) == ("compiled", in_force())
