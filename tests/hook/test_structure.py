"""What the hook loads and opens, for each kind of container: the structure that keeps it fast."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hook.conftest import write_policy
from support import store
from support.sandbox import ROOT, Sandbox

Config = Callable[..., bytes]
OTHER = {"a": "b"}
# What style and speed forbid on the way of every container; each costs between 1 and 100 ms.
NEVER = {
    "json", "re", "os", "typing", "dataclasses", "enum", "pathlib", "argparse", "logging", "subprocess", "hashlib",
    "base64", "collections", "functools", "ctypes", "prctl", "psutil", "jsonschema", "seccomp", "pyseccomp", "click",
    "rich", "tomllib", "struct", "traceback", "site", "_hashlib", "inspect", "warnings", "pwd",
}  # fmt: skip
# What only a container that is FHIR, or may be, needs.
ONLY_FOR_FHIR = {
    "fhir_hook.core.meet", "fhir_hook.core.tighten", "fhir_hook.core.condition", "fhir_hook.core.record",
    "fhir_hook.core.codes", "fhir_hook.core.syscalls_x86_64", "fhir_hook.hook.native", "fhir_hook.hook.live",
    "fhir_hook.hook.planning", "fhir_hook.hook.fallback", "fhir_hook.store.log", "fhir_hook.store.image_stores",
    "fhir_hook.store.mounts", "fhir_hook.kernel.ptrace",
}  # fmt: skip


def loaded(sandbox: Sandbox, stage: str, data: bytes) -> set[str]:
    done = sandbox.hook(stage, data, options=["-X", "importtime"])
    assert done.returncode == 0, done.stderr
    return {
        line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines() if line.startswith("import time")
    }


def bundle(tmp_path: Path, data: bytes) -> bytes:
    """Write a bundle's config.json; returns the state that a runtime would give."""
    (tmp_path / "config.json").write_bytes(data)
    return json.dumps({"id": store.CONTAINER, "pid": 1, "bundle": str(tmp_path)}).encode()


@pytest.fixture
def other(config: Config) -> bytes:
    return config(OTHER)


@pytest.mark.parametrize("stage", ["precreate", "prestart"])
def test_a_container_that_is_not_fhir_loads_next_to_nothing(
    sandbox: Sandbox, other: bytes, tmp_path: Path, stage: str
) -> None:
    modules = loaded(sandbox, stage, other if stage == "precreate" else bundle(tmp_path, other))
    assert modules & NEVER == set()
    assert not modules & ONLY_FOR_FHIR
    own = {name for name in modules if name.startswith("fhir_hook.")}
    assert "fhir_hook.core.decide" in own and len(own) <= 20, sorted(own)


def test_a_container_of_no_store_and_one_bound_by_name_load_no_more(
    sandbox: Sandbox, other: bytes, tmp_path: Path
) -> None:
    plain = json.dumps({"root": {"path": "rootfs"}, "annotations": {"a": "b"}}).encode()
    assert not loaded(sandbox, "prestart", bundle(tmp_path, plain)) & (NEVER | ONLY_FOR_FHIR)
    write_policy(sandbox, [{"image": "elsewhere/*", "profile": "hapi"}])
    assert not loaded(sandbox, "precreate", other) & (NEVER | ONLY_FOR_FHIR)


def test_a_confined_container_loads_nothing_of_the_slow_kind_either(sandbox: Sandbox, config: Config) -> None:
    modules = loaded(sandbox, "precreate", config(store.HAPI))
    assert "fhir_hook.core.meet" in modules
    hardening = {"prctl", "fhir_hook.kernel", "fhir_hook.kernel.hardening"}
    assert modules & NEVER <= hardening
    far = ("fhir_hook.authoring", "fhir_hook.cli", "fhir_hook.kernel")
    assert {name for name in modules if name.startswith(far)} <= hardening


OPENED = re.compile(rb'open(?:at)?\((?:AT_FDCWD, )?"([^"]+)", [^)]*\) = \d+')


def opened(sandbox: Sandbox, stage: str, data: bytes, *args: str) -> list[str]:
    """Files opened with success, apart from the interpreter's own and the product's modules."""
    done = sandbox.hook(stage, data, *args, before=["strace", "-f", "-e", "trace=open,openat,openat2"])
    assert done.returncode == 0, done.stderr
    paths = [path.decode() for path in OPENED.findall(done.stderr)]
    libraries = (
        "/usr/lib/",
        "/lib/",
        "/usr/local/lib/",
        "/usr/share/locale/",
        "/etc/l",
        f"{ROOT}/fhir_hook",
        "/usr/bin/",
    )
    return [path for path in paths if not path.startswith(libraries) and path not in ("/usr/pyvenv.cfg", str(ROOT))]


def graph(data: bytes) -> str:
    return str(Path(json.loads(data)["root"]["path"]).parents[2])


def test_precreate_opens_four_files_for_a_container_that_is_not_fhir(sandbox: Sandbox, other: bytes) -> None:
    image = f"{graph(other)}/overlay-images/{store.IMAGE}"
    found = opened(sandbox, "precreate", other)
    assert found[:3] == [
        "/var/lib/fhir-hook/selectors.json",
        f"{graph(other)}/overlay-containers/containers.json",
        f"{image}/manifest",
    ]
    assert len(found) == 4 and found[3].startswith(f"{image}/=")


def test_prestart_opens_the_bundles_config_besides(sandbox: Sandbox, other: bytes, tmp_path: Path) -> None:
    found = opened(sandbox, "prestart", bundle(tmp_path, other))
    assert len(found) == 5 and found[1] == f"{tmp_path}/config.json"


def test_precreate_opens_body_log_and_names_for_a_fhir_container(sandbox: Sandbox, config: Config) -> None:
    data = config(store.HAPI)
    found = opened(sandbox, "precreate", data)[4:]
    allowed = {
        f"{graph(data)}/overlay-images/images.json",
        "/var/log/fhir-hook/decisions.jsonl",
        "/var/log/fhir-hook",
        "/proc/self/uid_map",
        "/proc/self/loginuid",
        "/proc/sys/kernel/random/boot_id",
    }
    bodies = [path for path in found if path.startswith("/var/lib/fhir-hook/policy-")]
    assert len(bodies) == 1
    assert set(found) - set(bodies) <= allowed, found


def test_nothing_of_the_image_or_the_caller_is_opened_or_looked_for(
    sandbox: Sandbox, config: Config, tmp_path: Path
) -> None:
    """Neither below the root file system, nor in the working directory, nor where variables of Python point."""
    data = config(store.HAPI)
    done = sandbox.hook("precreate", data, before=["env", f"PYTHONPATH={tmp_path}/evil", f"HOME={tmp_path}/evil",
        f"PYTHONSTARTUP={tmp_path}/evil/x.py", "strace", "-f", "-e", "trace=%file"])  # fmt: skip
    assert done.returncode == 0
    assert b"evil" not in done.stderr.replace(b"execve", b"")
    assert f"{graph(data)}/overlay/".encode() not in done.stderr


def test_the_bytes_of_another_container_are_handed_on_unchanged_however_odd(sandbox: Sandbox, other: bytes) -> None:
    odd = b" \n" + other.replace(b'"linux": {}', b'"linux": {"x": 1e2, "y": "\\ud800"}, "z": 1.0') + b"\n\n"
    assert sandbox.hook("precreate", odd).stdout == odd
    assert not any(sandbox.log.iterdir())
