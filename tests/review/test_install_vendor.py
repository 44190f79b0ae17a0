"""fhir-hook profile install, list and remove, on the installed product and images of Podman's store."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Command, records
from host.machine import Host
from review.test_attack_vendor_files import GOOD

LOCAL = Path("/etc/fhir-hook/profiles")
SELECTORS = Path("/var/lib/fhir-hook/selectors.json")
PATH = "/usr/share/fhir-hook/profile.json"


def write(path: Path, **members: Any) -> str:
    """A vendor's profile in a file; returns its SHA-256."""
    path.write_text(json.dumps({**GOOD, **members}))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def in_force() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(SELECTORS.read_text())
    return document


def test_an_approved_profile_is_in_force_listed_with_origin_and_digest_and_removed_again(
    command: Command, tmp_path: Path
) -> None:
    digest = write(tmp_path / "acme.json")
    done = command("profile", "install", tmp_path / "acme.json", "--yes", "--digest", f"sha256:{digest}")
    assert done.returncode == 0, done.stderr
    assert "beyond fhir-jvm" in done.stdout and digest in done.stdout
    assert "acme-fhir" in in_force()["profiles"]
    last = records(command)[-1]
    assert (last["event"], last["result"]) == ("policy", "compiled")
    assert last["profile"] == [{"name": "acme-fhir", "version": "1.2.3", "digest": digest}]
    assert last["origin"]["source"] == str(tmp_path / "acme.json")
    listed = {entry["name"]: entry for entry in json.loads(command("profile", "list", "--json").stdout)}
    assert listed["acme-fhir"]["sha256"] == digest and "acme.json" in listed["acme-fhir"]["origin"]
    assert listed["hapi"]["origin"] == "shipped"
    assert command("profile", "remove", "acme-fhir", "--yes").returncode == 0
    assert "acme-fhir" not in in_force()["profiles"] and list(LOCAL.glob("acme*")) == []
    assert records(command)[-1]["removed"]["digest"] == digest


def test_nothing_is_installed_without_approval(command: Command, tmp_path: Path) -> None:
    digest = write(tmp_path / "acme.json")
    before = SELECTORS.read_bytes()
    for options, code in (((), 1), (("--yes",), 2), (("--yes", "--digest", "0" * 64), 1), (("--digest", digest), 1)):
        done = command("profile", "install", tmp_path / "acme.json", *options)
        assert done.returncode == code, (options, done.stdout, done.stderr)
        assert not (LOCAL / "acme-fhir.json").exists() and SELECTORS.read_bytes() == before
    shown = command("profile", "install", tmp_path / "acme.json", "--show")
    assert shown.returncode == 0 and digest in shown.stdout and not (LOCAL / "acme-fhir.json").exists()


def test_attack_a_profile_above_the_ceiling_is_refused_even_when_approved(command: Command, tmp_path: Path) -> None:
    syscalls = [{"names": ["bpf"], "reason": "metrics"}]
    digest = write(tmp_path / "acme.json", seccomp={**GOOD["seccomp"], "syscalls": syscalls})
    done = command("profile", "install", tmp_path / "acme.json", "--yes", "--digest", digest)
    assert done.returncode == 1 and "P601" in done.stdout and "Traceback" not in done.stderr
    assert not (LOCAL / "acme-fhir.json").exists()
    last = records(command)[-1]
    assert (last["event"], last["result"], last["profile"][0]["name"]) == ("policy", "not installed", "acme-fhir")


def test_attack_the_name_of_a_shipped_profile_is_not_taken_without_replace(command: Command, tmp_path: Path) -> None:
    digest = write(tmp_path / "acme.json", name="hapi")
    approve = ("--yes", "--digest", digest)
    done = command("profile", "install", tmp_path / "acme.json", *approve)
    assert done.returncode == 1 and "--replace" in done.stderr and "REPLACES" in done.stdout
    assert not (LOCAL / "hapi.json").exists()
    assert command("profile", "install", tmp_path / "acme.json", *approve, "--replace").returncode == 0
    listed = {entry["name"]: entry for entry in json.loads(command("profile", "list", "--json").stdout)}
    assert "in the place of the shipped one" in listed["hapi"]["state"]
    assert command("profile", "remove", "hapi", "--yes").returncode == 0
    listed = {entry["name"]: entry for entry in json.loads(command("profile", "list", "--json").stdout)}
    assert listed["hapi"]["origin"] == "shipped"


def test_what_compiling_refuses_is_taken_back(command: Command, tmp_path: Path) -> None:
    digest = write(tmp_path / "acme.json")
    before = SELECTORS.read_bytes()
    (LOCAL / "broken.json").write_text("{")
    done = command("profile", "install", tmp_path / "acme.json", "--yes", "--digest", digest)
    assert done.returncode == 3 and "broken.json" in done.stderr and "Traceback" not in done.stderr
    assert sorted(path.name for path in LOCAL.glob("*.*")) == ["broken.json"]
    assert SELECTORS.read_bytes() == before


def test_a_profile_that_a_binding_names_can_not_be_removed(command: Command, tmp_path: Path) -> None:
    digest = write(tmp_path / "acme.json")
    assert command("profile", "install", tmp_path / "acme.json", "--yes", "--digest", digest).returncode == 0
    Path("/etc/fhir-hook/config.toml").write_text('[[bind]]\nimage = "x"\nprofile = "acme-fhir"\n')
    done = command("profile", "remove", "acme-fhir", "--yes")
    assert done.returncode == 3 and "acme-fhir" in done.stderr
    assert (LOCAL / "acme-fhir.json").exists() and (LOCAL / "acme-fhir.origin").exists()


@pytest.mark.parametrize("name", ["hapi", "nothing", "../../etc/passwd", "a/b", ""])
def test_attack_only_local_profiles_can_be_removed(command: Command, name: str) -> None:
    done = command("profile", "remove", name, "--yes")
    assert done.returncode == 3 and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_an_edit_after_the_installation_is_seen(command: Command, tmp_path: Path) -> None:
    digest = write(tmp_path / "acme.json")
    command("profile", "install", tmp_path / "acme.json", "--yes", "--digest", digest, check=True)
    (LOCAL / "acme-fhir.json").write_text(json.dumps({**GOOD, "version": "1.2.4"}))
    listed = {entry["name"]: entry for entry in json.loads(command("profile", "list", "--json").stdout)}
    assert listed["acme-fhir"]["state"] == "edited since"


def image(host: Host, tmp_path: Path, tag: str, source: Path, place: str = PATH) -> str:
    host.load("probe:plain")
    return host.derive("localhost/probe:plain", f"localhost/{tag}", "--copy", f"{source}:{place}")


def test_a_profile_comes_out_of_an_image_that_is_neither_run_nor_pulled(
    command: Command, host: Host, tmp_path: Path
) -> None:
    digest = write(tmp_path / "acme.json")
    tag = image(host, tmp_path, "acme:1", tmp_path / "acme.json")
    containers = host.podman("ps", "-aq").stdout
    done = command("profile", "install", tag, "--yes", "--digest", digest)
    assert done.returncode == 0, done.stderr
    origin = json.loads((LOCAL / "acme-fhir.origin").read_text())
    id = host.podman("image", "inspect", "-f", "{{.Id}}", tag, check=True).stdout.strip()
    assert (origin["kind"], origin["source"], origin["image"], origin["path"]) == ("image", tag, id, PATH)
    assert host.podman("ps", "-aq").stdout == containers and "acme" not in host.podman("image", "mount").stdout
    absent = command("profile", "install", "localhost/not-there:1", "--show")
    assert absent.returncode == 3 and len(absent.stderr.strip().splitlines()) == 1


def test_another_path_in_the_image_can_be_given(command: Command, host: Host, tmp_path: Path) -> None:
    write(tmp_path / "acme.json")
    tag = image(host, tmp_path, "acme:2", tmp_path / "acme.json", "/opt/acme/fhir-hook.json")
    assert command("profile", "install", tag, "--show").returncode == 3
    assert command("profile", "install", tag, "--path", "/opt/acme/fhir-hook.json", "--show").returncode == 0


@pytest.mark.parametrize("target", ["/etc/shadow", "../../../../../../etc/shadow", "/proc/self/environ"])
def test_attack_a_link_in_an_image_does_not_lead_to_the_host(
    command: Command, host: Host, tmp_path: Path, target: str
) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(target)
    tag = image(host, tmp_path, "evil:1", link)
    done = command("profile", "install", tag, "--show")
    assert done.returncode == 3 and "symbolic link" in done.stderr
    assert "root:" not in done.stdout + done.stderr
    assert host.podman("image", "mount", "--format", "json").stdout.strip() in ("[]", "")


def test_attack_a_pipe_in_an_image_is_not_waited_for(command: Command, host: Host, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    tag = image(host, tmp_path, "evil:2", pipe)
    done = command("profile", "install", tag, "--show", timeout=60)
    assert done.returncode == 3 and "no regular file" in done.stderr


def test_attack_an_image_name_is_no_option(command: Command) -> None:
    done = command("profile", "install", "--", "--all")
    assert done.returncode == 3 and len(done.stderr.strip().splitlines()) == 1


def test_an_ordinary_user_can_look_and_not_install(command: Command, host: Host, tmp_path: Path) -> None:
    folder = host.directory("rootless")
    digest = write(folder / "acme.json")
    (folder / "acme.json").chmod(0o644)
    assert command("profile", "install", folder / "acme.json", "--show", user="rootless").returncode == 0
    done = command("profile", "install", folder / "acme.json", "--yes", "--digest", digest, user="rootless")
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert not (LOCAL / "acme-fhir.json").exists()


def test_the_policy_refuses_a_local_profile_above_the_ceiling(command: Command) -> None:
    before = SELECTORS.read_bytes()
    syscalls = [{"names": ["ptrace"], "reason": "debugging"}]
    write(LOCAL / "acme-fhir.json", seccomp={**GOOD["seccomp"], "syscalls": syscalls})
    done = command("policy", "compile")
    assert done.returncode == 3 and "P601" in done.stderr and SELECTORS.read_bytes() == before
    assert command("policy", "check").returncode == 1


@pytest.mark.parametrize(("typed", "installed"), [("acme-fhir", True), ("y", False), ("", False)])
def test_at_a_terminal_the_name_must_be_typed(
    command: Command, host: Host, tmp_path: Path, typed: str, installed: bool
) -> None:
    write(tmp_path / "acme.json")
    controller, terminal = os.openpty()
    argv = ["fhir-hook", "profile", "install", str(tmp_path / "acme.json")]
    process = subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, close_fds=True)
    os.close(terminal)
    os.write(controller, f"{typed}\n".encode())
    said = b""
    try:
        while chunk := os.read(controller, 1 << 16):
            said += chunk
    except OSError:
        pass  # EIO: the other end is closed
    _, errors = process.communicate(timeout=120)
    os.close(controller)
    assert (process.returncode == 0) is installed, (said, errors)
    assert b"Type its name" in said and (LOCAL / "acme-fhir.json").exists() is installed


def test_what_is_in_force_is_what_the_profile_says(command: Command) -> None:
    assert command("profile", "diff", "hapi", "hapi@policy").returncode == 0
    absent = command("profile", "diff", "hapi", "nothing@policy")
    assert absent.returncode == 3 and len(absent.stderr.strip().splitlines()) == 1
