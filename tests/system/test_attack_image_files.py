"""Attacks by files and variables that are in the hook's way. The hook's interpreter must run nothing of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host.machine import Host, parse_status
from system.support import FHIR, HOOK, LIVE, confined, only, watching

HOSTILE = "probe:hostile-files"
MARK = Path("/run/fhir-hook-evil")
PYTHON = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONINSPECT",
    "PYTHONPLATLIBDIR",
    "PYTHONUSERBASE",
    "PYTHONWARNINGS",
)


@pytest.fixture
def nothing_ran() -> Iterator[None]:
    """No file of an image left its mark on the host."""
    MARK.unlink(missing_ok=True)
    MARK.touch()
    MARK.chmod(0o666)
    yield
    assert MARK.read_text() == ""
    MARK.unlink()


@pytest.fixture(params=["native", "live"])
def before(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return LIVE if request.param == "live" else ()


def test_the_hostile_image_would_leave_its_mark_if_its_files_ran(host: Host, run: Callable[..., Any]) -> None:
    host.load(HOSTILE)
    done = run(HOSTILE, "/bin/busybox", "sh", "-c", "python3; cat /run/fhir-hook-evil", hooks=False, check=True)
    assert done.stdout == "ran\n"


@pytest.mark.usefixtures("nothing_ran")
def test_attack_python_files_path_and_preloads_of_an_image(
    host: Host, run: Callable[..., Any], runtime: str, user: str | None, before: tuple[str, ...]
) -> None:
    host.load(HOSTILE, user)
    with watching(host, user) as records:
        done = run(HOSTILE, "/bin/status", before=before, runtime=runtime, user=user, check=True)
    assert confined(parse_status(done.stdout))
    assert only(records, event="decision")["decision"] == "confined"


@pytest.mark.usefixtures("nothing_ran")
def test_attack_variables_of_the_container(run: Callable[..., Any], runtime: str, before: tuple[str, ...]) -> None:
    names = (*PYTHON, "LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "BASH_ENV", "ENV", "PATH")
    options = [word for name in names for word in ("--env", f"{name}=/evil")]
    done = run(FHIR, "/bin/status", options=options, before=before, runtime=runtime, check=True)
    assert confined(parse_status(done.stdout))


def _hostile_directory(host: Host) -> Path:
    here = host.directory()
    text = f"open({str(MARK)!r}, 'a').write('python\\n')\n"
    for module in ("sitecustomize", "usercustomize", "os", "json", "site", "encodings", "fhir_hook", "_json", "zlib"):
        (here / f"{module}.py").write_text(text)
    return here


@pytest.mark.usefixtures("nothing_ran")
@pytest.mark.parametrize("stage", ["precreate", "prestart", "gate"])
def test_attack_an_engine_that_hands_its_whole_environment_to_the_hook(host: Host, stage: str) -> None:
    """The launcher alone, without the explicit env of its entries: some engine or stage may not keep to that."""
    here = _hostile_directory(host)
    for name in PYTHON:
        env = {"PATH": f"{here}:/usr/bin", name: str(here)}
        done = subprocess.run([HOOK, stage], input=b"{}", env=env, cwd=here, capture_output=True, check=False)
        assert b"Traceback" not in done.stderr


@pytest.mark.usefixtures("nothing_ran")
def test_attack_variables_and_working_directory_of_the_caller(
    host: Host, run: Callable[..., Any], runtime: str, before: tuple[str, ...]
) -> None:
    """The person who types podman run controls its environment and its directory; the hook runs in neither."""
    here = _hostile_directory(host)
    env = {name: str(here) for name in PYTHON if name not in ("PYTHONINSPECT", "PYTHONWARNINGS")}
    done = run(FHIR, "/bin/status", before=before, runtime=runtime, env=env, cwd=here, check=True)
    assert confined(parse_status(done.stdout))


@pytest.mark.usefixtures("nothing_ran")
def test_attack_a_bundle_with_python_files_in_the_runtime_s_directory(host: Host, runtime: str) -> None:
    top = host.bundle(HOSTILE, "/bin/status")
    for module in ("sitecustomize", "os", "json", "fhir_hook"):
        (top / f"{module}.py").write_text(f"open({str(MARK)!r}, 'a').write('python\\n')\n")
    host.run(["fhir-hook", "bundle", "enroll", top], check=True)
    env = {"PYTHONPATH": str(top), "PYTHONHOME": str(top), "PATH": f"{top}:/usr/sbin:/usr/bin"}
    words = ["--root", host.directory(), "run", "--bundle", top, f"hostile-{runtime}"]
    done = host.runtime(runtime, *words, cwd=top, env=env, check=True)
    assert confined(parse_status(done.stdout))


def test_what_the_hook_passes_to_its_gate_has_an_environment_of_its_own(
    host: Host, start: Callable[..., str], runtime: str
) -> None:
    """A hook entry without env inherits the runtime's environment, and some stages the image's."""
    id = start(FHIR, command=["sleeper"], runtime=runtime)
    hooks = host.config(id)["hooks"]
    assert list(hooks) == ["createRuntime"], json.dumps(hooks)
    assert hooks["createRuntime"][-1]["env"] == ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
