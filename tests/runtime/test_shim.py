"""fhir-runc and fhir-crun on bundles that no engine made, and in place of a runtime that tells what it was given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fhir_hook.runtime import real
from host.machine import Host, parse_status
from system.support import codes, confined, only, wait_until, watching

LINKS = Path("/var/lib/fhir-hook/runtime")
FHIR, PLAIN = "probe:hapi", "probe:plain"
# What style and speed forbid on the way of a verb that is passed on.
HEAVY = {"json", "re", "os", "typing", "enum", "pathlib", "_json", "site", "subprocess", "collections"}
OWN = {"fhir_hook", *(f"fhir_hook.runtime{name}" for name in ("", ".main", ".arguments", ".real"))}


PROPER = "/usr/libexec/fhir-hook/shim/fhir-runc"


def shim(runtime: str) -> str:
    return f"/usr/libexec/fhir-hook/fhir-{runtime}"


@pytest.fixture
def bundle(host: Host) -> Iterator[Callable[..., Path]]:
    """A bundle of an image that runs these words; its containers are removed when the test ends."""
    yield host.bundle
    for runtime in ("runc", "crun"):
        for path in Path("/run", runtime).glob("shim-*"):
            host.run([runtime, "delete", "-f", path.name])


@pytest.fixture
def stand_in(host: Host) -> Iterator[Path]:
    """A program in the place of runc that prints what it was given, as JSON."""
    program = host.directory() / "runc"
    program.write_text(
        "#!/usr/bin/python3 -IS\nimport json, os, sys\n"
        "environ = open('/proc/self/environ').read().split('\\0')\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())\n"
        "fds = sorted(int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + fd))\n"
        "print(json.dumps({'argv': sys.argv, 'pid': os.getpid(), 'environ': environ, 'fds': fds,\n"
        "  'cwd': os.getcwd(), 'nnp': status['NoNewPrivs'].strip()}))\nsys.exit(43)\n"
    )
    program.chmod(0o755)
    LINKS.mkdir(exist_ok=True)
    (LINKS / "runc").symlink_to(program)
    yield program
    (LINKS / "runc").unlink()


@pytest.fixture
def usual_place(host: Host) -> Iterator[Path]:
    """The first place in which runc is looked for; no other holds one. Afterwards all is as it was."""
    places = [Path(place, "runc") for place in real.PLACES]
    away = [(path, path.with_name("runc.away")) for path in places if os.path.lexists(path)]
    for path, aside in away:
        path.rename(aside)
    yield places[0]
    for path in places:
        path.unlink(missing_ok=True)
    for path, aside in away:
        aside.rename(path)


@pytest.mark.parametrize("words", [["state", "x"], ["--root", "/r", "kill", "x", "9"], ["new-verb", "--odd"], []])
def test_other_verbs_reach_the_real_runtime_as_they_are(stand_in: Path, words: list[str]) -> None:
    with subprocess.Popen(
        [shim("runc"), *words], stdout=subprocess.PIPE, env={"A": "b", "LANG": "C"}, cwd="/usr", pass_fds=(2,)
    ) as process:
        told = json.loads(process.communicate(timeout=20)[0])
    assert process.returncode == 43
    assert told["argv"] == [str(stand_in), *words]
    assert (told["pid"], told["cwd"], told["nnp"]) == (process.pid, "/usr", "0")
    # The shell of the front adds PWD.
    assert [entry for entry in told["environ"] if entry and entry != "PWD=/usr"] == ["A=b", "LANG=C"]


def test_what_the_front_changes_of_the_environment_is_what_its_decision_names(stand_in: Path) -> None:
    given = {"A": "b", "A-B": "c", "IFS": "q", "Z": "\u00e9"}
    done = subprocess.run([shim("runc"), "state"], stdout=subprocess.PIPE, env=given, cwd="/usr", check=False)
    seen = dict(entry.split("=", 1) for entry in json.loads(done.stdout)["environ"] if entry)
    assert (seen["A"], seen["Z"]) == ("b", "\u00e9") and seen.keys() <= {*given, "PWD", "SHLVL", "_", "OLDPWD"}
    odd = subprocess.run([shim("runc"), "state"], stdout=subprocess.PIPE, env={"OPTIND": "q"}, check=False)
    assert odd.returncode == 2 and not odd.stdout or odd.returncode == 43


@pytest.mark.parametrize(
    ("words", "python"),
    [
        (["--root", "create", "--log", "run", "--log-format", "json", "--debug", "kill", "x"], False),
        (["--root=/r", "--systemd-cgroup", "state", "x"], False),
        (["-root", "/r", "state", "x"], True),
        (["--odd", "state", "x"], True),
        (["unknown"], True),
    ],
)
def test_the_front_passes_on_without_python_what_it_is_sure_of(
    host: Host, usual_place: Path, words: list[str], python: bool
) -> None:
    usual_place.write_text('#!/bin/sh\necho "$0" "$@"; exit 44\n')
    usual_place.chmod(0o755)
    done = host.run(["strace", "-f", "-e", "trace=execve", shim("runc"), *words])
    assert done.returncode == 44 and done.stdout.split() == [str(usual_place), *words]
    assert (PROPER in done.stderr) is python


def test_containers_can_be_stopped_and_removed_when_python_is_broken(
    host: Host, runtime: str, bundle: Callable[..., Path]
) -> None:
    id, made = f"shim-{runtime}", bundle(FHIR, "/bin/sleeper")
    process = subprocess.Popen([shim(runtime), "run", "--bundle", str(made), id], stdout=subprocess.DEVNULL)
    wait_until(lambda: "running" in host.run([shim(runtime), "state", id]).stdout, "the container")
    broken = "mount --bind /dev/null /usr/bin/python3"
    host.run(["unshare", "-m", "sh", "-c", f"{broken}; exec {shim(runtime)} kill {id} KILL"], check=True)
    process.wait(20)
    for tag in (FHIR, PLAIN):
        words = f"{broken}; exec {shim(runtime)} run --bundle {bundle(tag, '/bin/status')} {id}"
        done = host.run(["unshare", "-m", "sh", "-c", words])
        assert done.returncode != 0 and "Uid" not in done.stdout


def test_while_the_hook_is_disabled_the_shim_hands_everything_on(
    host: Host, runtime: str, bundle: Callable[..., Path]
) -> None:
    made = bundle(FHIR, "/bin/status")
    host.run(["fhir-hook", "host", "disable", "--reason", "a test"], check=True)
    try:
        with watching(host) as records:
            done = host.run([shim(runtime), "run", "--bundle", made, f"shim-{runtime}"], check=True)
    finally:
        host.run(["fhir-hook", "host", "enable"], check=True)
    assert parse_status(done.stdout)["Seccomp"] == "0" and not records


def test_descriptors_are_handed_on_and_no_other_stays_open(stand_in: Path, bundle: Callable[..., Path]) -> None:
    reading, writing = os.pipe()
    made = bundle(FHIR, "/bin/status")
    for words in (["state", "x"], ["create", "--bundle", str(made), "shim-fds"]):
        done = subprocess.run([shim("runc"), *words], stdout=subprocess.PIPE, pass_fds=(reading,), check=False)
        # 3 is the directory that the stand-in lists
        assert {0, 1, 2, reading} <= set(json.loads(done.stdout)["fds"]) <= {0, 1, 2, 3, reading}
    os.close(reading)
    os.close(writing)


def test_signals_that_python_ignores_are_not_ignored_by_the_runtime(host: Host, runtime: str) -> None:
    directory = host.directory()
    (directory / "real").write_text("#!/bin/sh\nexec grep SigIgn /proc/self/status\n")
    (directory / "real").chmod(0o755)
    link = LINKS / runtime
    LINKS.mkdir(exist_ok=True)
    link.symlink_to(directory / "real")
    try:
        done = subprocess.run([shim(runtime), "state"], stdout=subprocess.PIPE, text=True, check=False)
    finally:
        link.unlink()
    assert int(parse_status(done.stdout)["SigIgn"], 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0


def test_a_verb_that_is_passed_on_loads_nothing(stand_in: Path) -> None:
    words = ["/usr/bin/python3", "-IS", "-X", "importtime", PROPER, "kill", "x"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert not loaded & HEAVY
    assert {name for name in loaded if name.startswith("fhir_hook")} == OWN


def test_the_real_runtime_is_the_one_that_the_settings_name(host: Host, stand_in: Path) -> None:
    config = Path("/etc/fhir-hook/config.d/runtime.toml")
    (LINKS / "runc").unlink()
    config.write_text(f'[runtime]\nrunc = "{stand_in}"\n')
    try:
        host.run(["fhir-hook", "policy", "compile"], check=True)
        assert os.readlink(LINKS / "runc") == str(stand_in)
        path = f"{host.directory()}:/usr/bin"
        assert json.loads(host.run([shim("runc"), "state"], env={"PATH": path}).stdout)["argv"][0] == str(stand_in)
        config.write_text('[runtime]\nrunc = "relative"\n')
        assert host.run(["fhir-hook", "policy", "compile"]).returncode == 3
    finally:
        config.unlink()
        host.run(["fhir-hook", "policy", "compile"], check=True)
        assert not (LINKS / "runc").exists()
        (LINKS / "runc").symlink_to(stand_in)


def test_a_shim_that_would_start_itself_says_so_and_ends(host: Host, stand_in: Path, usual_place: Path) -> None:
    for own in ("/usr/libexec/fhir-hook/fhir-crun", PROPER):
        (LINKS / "runc").unlink()
        (LINKS / "runc").symlink_to(own)
        done = host.run([shim("runc"), "state", "x"], timeout=20)
        assert done.returncode == 127 and "itself" in done.stderr
    (LINKS / "runc").unlink()
    usual_place.symlink_to(shim("runc"))
    done = host.run([shim("runc"), "state", "x"], timeout=20)
    assert done.returncode == 127 and "itself" in done.stderr
    (LINKS / "runc").symlink_to(PROPER)
    (LINKS / "runc").unlink()
    (LINKS / "runc").symlink_to("/nowhere/runc")
    done = host.run([shim("runc"), "state", "x"], timeout=20)
    assert done.returncode == 127 and "/nowhere/runc, which [runtime] names, is not there" in done.stderr


@pytest.mark.parametrize("words", [["state", "x"], ["--odd", "state", "x"]])
def test_runtimes_are_looked_for_in_the_order_of_systemds_path(host: Host, usual_place: Path, words: list[str]) -> None:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
    for place in reversed([Path(place, "runc") for place in path.split(":")]):
        place.write_text('#!/bin/sh\necho "$0"\n')
        place.chmod(0o755)
        wanted = host.run(["sh", "-c", "command -v runc"], env={"PATH": path}).stdout
        assert host.run([shim("runc"), *words], check=True).stdout == wanted == f"{place}\n"


def test_a_link_to_the_shim_in_front_of_the_real_runtime_is_passed_by(host: Host, usual_place: Path) -> None:
    usual_place.symlink_to(shim("runc"))
    behind = Path("/usr/local/bin/runc")
    behind.write_text('#!/bin/sh\necho "$0"\n')
    behind.chmod(0o755)
    for words in (["state", "x"], ["--odd", "state", "x"]):
        assert host.run([usual_place, *words], check=True, timeout=20).stdout == f"{behind}\n"


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("/nowhere/runc", "no such file"),
        ("/etc/passwd", "can be executed"),
        ("/usr/bin", "can be executed"),
        ("/usr/libexec/fhir-hook/fhir-crun", "itself"),
        (PROPER, "itself"),
        ("/a\0b", "no such file"),
    ],
)
def test_a_setting_that_names_no_runtime_is_an_error(host: Host, target: str, problem: str) -> None:
    with pytest.raises(real.RealError, match=problem) as said:
        real.check({"runtime.crun": target})
    assert "[runtime] crun" in str(said.value) and len(str(said.value).splitlines()) == 1


def test_a_setting_that_names_a_program_is_none() -> None:
    real.check({"runtime.runc": "/usr/bin/env", "runtime.crun": ""})


def test_a_fhir_bundle_is_confined_and_exec_with_it(host: Host, runtime: str, bundle: Callable[..., Path]) -> None:
    made = bundle(FHIR, "/bin/sleeper")
    id = f"shim-{runtime}"
    with watching(host) as records:
        process = subprocess.Popen([shim(runtime), "run", "--bundle", str(made), id], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while "running" not in host.run([shim(runtime), "state", id]).stdout:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        spec = json.loads((made / "config.json").read_text())["process"]
        spec["args"] = ["/bin/status"]
        spec["capabilities"] = {name: ["CAP_SYS_CHROOT", "CAP_KILL"] for name in ("bounding", "effective", "permitted")}
        spec["noNewPrivileges"] = False
        file = made.parent / "process.json"
        file.write_text(json.dumps(spec))
        file.chmod(0o640)
        output = host.run([shim(runtime), "exec", "--process", file, id], check=True).stdout
    assert confined(parse_status(output)), output
    assert file.stat().st_mode & 0o777 == 0o640 and list(file.parent.glob("process.json*")) == [file]
    assert only(records, event="decision")["stage"] == "create" and only(records, event="outcome")["stage"] == "gate"
    host.run([shim(runtime), "kill", id, "KILL"], check=True)
    assert process.wait(20) in (137, 255)  # crun 1.8 and runc say 137


def test_a_bundle_that_is_used_again_has_one_gate(host: Host, runtime: str, bundle: Callable[..., Path]) -> None:
    made = bundle(FHIR, "/bin/status")
    for _ in range(3):
        done = host.run([shim(runtime), "run", "--bundle", made, f"shim-{runtime}"], check=True)
        assert confined(parse_status(done.stdout))
    assert len(json.loads((made / "config.json").read_text())["hooks"]["createRuntime"]) == 1


def test_another_bundle_is_not_written(host: Host, runtime: str, bundle: Callable[..., Path]) -> None:
    made = bundle(PLAIN, "/bin/status")
    config = made / "config.json"
    before = config.stat(), config.read_bytes()
    with watching(host) as records:
        done = host.run([shim(runtime), "run", f"shim-{runtime}"], cwd=made, check=True)
    assert parse_status(done.stdout)["NoNewPrivs"] == "1"  # as umoci wrote it
    after = config.stat(), config.read_bytes()
    assert (before[0].st_ino, before[0].st_mtime_ns, before[1]) == (after[0].st_ino, after[0].st_mtime_ns, after[1])
    assert not records


@pytest.mark.parametrize("name", ["create", "run", "a b", "--bundle", "state\n\x1b[31m", "é", "=x"])
def test_attack_bundles_with_hostile_names(host: Host, runtime: str, bundle: Callable[..., Path], name: str) -> None:
    made = bundle(FHIR, "/bin/status")
    hostile = made.with_name(name)
    made.rename(hostile)
    for words in (["run", f"--bundle={hostile}"], ["run", "--bundle", str(hostile)], ["run", "-b", f"./{name}"]):
        done = host.run([shim(runtime), *words, f"shim-{runtime}"], cwd=hostile.parent)
        assert done.returncode == 0 and confined(parse_status(done.stdout)), (words, done)


@pytest.mark.parametrize("id", ["../../etc", "run", "a/b", "x\x1b[31m", ".."])
def test_attack_ids_that_are_paths_or_verbs(host: Host, runtime: str, bundle: Callable[..., Path], id: str) -> None:
    made = bundle(FHIR, "/bin/status")
    done = host.run([shim(runtime), "run", "--bundle", made, id])
    assert done.returncode != 0 or confined(parse_status(done.stdout))
    host.run([shim(runtime), "exec", "--process", made / "config.json", id])
    assert "Traceback" not in done.stderr


def test_attack_a_config_replaced_after_the_edit_is_seen_by_the_gate(
    host: Host, stand_in: Path, bundle: Callable[..., Path]
) -> None:
    """A runtime that swaps the file before it goes on stands for whoever uses the window."""
    made = bundle(FHIR, "/bin/status")
    original = (made / "config.json").read_bytes()
    stand_in.write_text('#!/bin/sh\npython3 -I "$(dirname "$0")/swap" && exec /usr/sbin/runc "$@"\n')
    loosened = f"""
import json
path = {str(made / "config.json")!r}
now = json.load(open(path))
then = json.loads({original!r})
then["hooks"] = now["hooks"]
json.dump(then, open(path, "w"))
"""
    (stand_in.parent / "swap").write_text(loosened)
    with watching(host) as records:
        done = host.run([shim("runc"), "run", "--bundle", made, "shim-swapped"])
    assert done.returncode != 0 and "FH107" in done.stderr and "Uid" not in done.stdout
    assert codes(records[-1]) == ["FH107"]


@pytest.mark.parametrize("what", ["full", "read-only"])
def test_a_disk_that_takes_no_config_refuses_fhir_and_nothing_else(
    host: Host, runtime: str, bundle: Callable[..., Path], what: str
) -> None:
    for tag in (FHIR, PLAIN):
        made = bundle(tag, "/bin/status")
        document = json.loads((made / "config.json").read_text())
        document["root"]["path"] = str(made / "rootfs")
        small = host.directory()
        host.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=True)
        try:
            (small / "config.json").write_text(json.dumps(document))
            if what == "full":
                subprocess.run(["dd", "if=/dev/zero", f"of={small}/fill", "bs=4k"], capture_output=True, check=False)
            else:
                host.run(["mount", "-o", "remount,ro", small], check=True)
            log = made.parent / "log"
            words = ["--log", log, "--log-format", "json", "run", "--bundle", small, f"shim-{runtime}"]
            with watching(host) as records:
                done = host.run([shim(runtime), *words])
        finally:
            host.run(["umount", "-l", small], check=True)
        if tag == PLAIN:
            assert done.returncode == 0, done.stderr
            continue
        assert done.returncode == 1 and "FH115" in done.stderr and "Uid" not in done.stdout
        entry = json.loads(log.read_text().splitlines()[-1])
        assert entry["level"] == "error" and "FH115" in entry["msg"] and entry["time"].endswith("Z")
        assert codes(only(records, event="outcome")) == ["FH115"]


@pytest.mark.parametrize("process", ["no capabilities", "null", "a folded key", "a string", "numbers"])
def test_attack_exec_with_a_process_file_of_an_odd_form_brings_no_capability_back(
    host: Host, runtime: str, bundle: Callable[..., Path], process: str
) -> None:
    id, made = f"shim-{runtime}", bundle(FHIR, "/bin/sleeper")
    running = subprocess.Popen([shim(runtime), "run", "--bundle", str(made), id], stdout=subprocess.DEVNULL)
    wait_until(lambda: "running" in host.run([shim(runtime), "state", id]).stdout, "the container")
    spec = {**json.loads((made / "config.json").read_text())["process"], "args": ["/bin/status"]}
    spec.pop("capabilities")
    more: dict[str, object] = {
        "no capabilities": {},
        "null": {"capabilities": None},
        "a folded key": {"capabilitie\u017f": {"bounding": ["CAP_KILL"]}, "capabilities": {}},
        "a string": {"capabilities": {"bounding": "CAP_KILL"}},
        "numbers": {"capabilities": {"bounding": [5]}},
    }[process]  # type: ignore[assignment]
    file = made.parent / "process.json"
    file.write_text(json.dumps({**spec, **more}))
    done = host.run([shim(runtime), "exec", "--process", file, id])
    host.run([shim(runtime), "kill", id, "KILL"], check=True)
    running.wait(20)
    if process in ("no capabilities", "null"):
        assert confined(parse_status(done.stdout)), done
        assert "capabilities" not in json.loads(file.read_text()) or process == "null"
    else:
        assert done.returncode == 1 and "FH115" in done.stderr and "Uid" not in done.stdout


@pytest.mark.parametrize("broken", ["runtime", "hook", "core/jsonio.py", "runtime/create.py"])
def test_a_broken_package_creates_nothing_and_says_so_in_one_line(
    host: Host, runtime: str, bundle: Callable[..., Path], broken: str
) -> None:
    made = bundle(FHIR, "/bin/status")
    [package] = Path("/usr/lib/fhir-hook").glob("*/fhir_hook")
    empty = host.directory()
    (empty / "nothing").touch()
    over = empty / "nothing" if broken.endswith(".py") else empty
    log = made.parent / "log"
    words = f"{shim(runtime)} --log {log} run --bundle {made} shim-{runtime}"
    done = host.run(["unshare", "-m", "sh", "-c", f"mount --bind {over} {package / broken} && exec {words}"])
    assert done.returncode == 1 and "Traceback" not in done.stderr and "Uid" not in done.stdout
    [line] = set(done.stderr.splitlines())  # twice, where the file of --log can't be written for the same reason
    assert "install the package again" in line


def test_a_config_nested_in_a_list_of_lists_is_the_runtimes_own_error(
    host: Host, runtime: str, bundle: Callable[..., Path]
) -> None:
    made = bundle(PLAIN, "/bin/status")
    document = (made / "config.json").read_text()
    nested = '"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":' + "[" * 3000 + "]" * 3000 + "},"
    (made / "config.json").write_text(json.dumps(json.loads(document)).replace('"linux": {', nested, 1))
    with watching(host) as records:
        done = host.run([shim(runtime), "run", "--bundle", made, f"shim-{runtime}"])
    assert "Traceback" not in done.stderr and "fhir-hook" not in done.stderr and not records


@pytest.mark.parametrize("kind", ["missing", "fifo", "directory", "broken", "huge-depth"])
def test_a_config_that_is_none_is_the_runtimes_own_error(host: Host, runtime: str, kind: str) -> None:
    made = host.directory()
    config = made / "config.json"
    if kind == "fifo":
        os.mkfifo(config)
    elif kind == "directory":
        config.mkdir()
    elif kind != "missing":
        config.write_text("{" if kind == "broken" else "[" * 100_000)
    if kind == "fifo":  # the runtime itself would wait for a writer
        done = host.run(["timeout", "3", shim(runtime), "run", "--bundle", made, f"shim-{runtime}"])
    else:
        done = host.run([shim(runtime), "run", "--bundle", made, f"shim-{runtime}"], timeout=20)
    assert done.returncode != 0 and "Traceback" not in done.stderr


def test_without_a_policy_fhir_is_refused_and_others_start(
    host: Host, runtime: str, bundle: Callable[..., Path]
) -> None:
    fhir, plain = bundle(FHIR, "/bin/status"), bundle(PLAIN, "/bin/status")
    state = Path("/var/lib/fhir-hook")
    moved = list(state.glob("selectors*.json"))
    for path in moved:
        path.rename(path.with_suffix(".away"))
    try:
        done = host.run([shim(runtime), "--log", fhir.parent / "log", "run", "--bundle", fhir, f"shim-{runtime}"])
        assert done.returncode == 1 and "FH103" in done.stderr
        assert "level=error msg=" in (fhir.parent / "log").read_text()
        assert host.run([shim(runtime), "run", "--bundle", plain, f"shim-{runtime}"]).returncode == 0
    finally:
        for path in moved:
            path.with_suffix(".away").rename(path)
