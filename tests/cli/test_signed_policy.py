"""Profiles and settings that carry a security officer's signature, with the real ssh-keygen."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cli.conftest import Command, records
from cli.test_command_policy import CONFIG, LOCAL, in_force

SIGNERS = Path("/etc/fhir-hook/signers")
DROPIN = Path("/etc/fhir-hook/config.d/50-site.toml")
SHIPPED = Path("/usr/share/fhir-hook/profiles")


def key(path: Path) -> str:
    """Make a key; returns the line of its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return Path(f"{path}.pub").read_text().strip()


def signed(path: Path, private: Path, namespace: str = "fhir-hook") -> None:
    """Sign a file as docs/signed-policy.md says."""
    Path(f"{path}.sig").unlink(missing_ok=True)
    words = ["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", private, path]
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture
def officer(command: Command, tmp_path: Path) -> Path:
    """The private key of an officer, whose signature this host asks for."""
    private = tmp_path / "officer"
    SIGNERS.write_text(f'officer@example.org namespaces="fhir-hook" {key(private)}\n')
    return private


def mine() -> Path:
    """A local profile: a shipped one by another name."""
    document = json.loads((SHIPPED / "hapi.json").read_text()) | {"name": "mine", "match": []}
    document.pop("$schema", None)
    path = LOCAL / "mine.json"
    path.write_text(json.dumps(document))
    return path


def refused(command: Command, *said: str) -> None:
    """Compiling is refused with these words, the policy in force stays, and the log says so."""
    before = in_force()
    done = command("policy", "compile")
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert all(word in done.stderr for word in said), done.stderr
    assert in_force() == before
    last = records(command)[-1]
    assert (last["event"], last["result"]) == ("policy", "refused")


def test_signed_profiles_and_settings_become_the_policy_and_the_log_names_the_signers(
    command: Command, officer: Path
) -> None:
    for path in (mine(), CONFIG, DROPIN):
        if path.suffix == ".toml":
            path.write_text('generic = "complain"\n' if path == CONFIG else '[[bind]]\nimage = "x"\nprofile = "mine"\n')
        signed(path, officer)
    command("policy", "compile", check=True)
    shown = json.loads(command("policy", "show", "--json", check=True).stdout)
    assert len(shown["signers"]) == 64 and shown["settings"]["generic"] == "complain"
    events = [r for r in records(command)[-4:] if r["event"] == "policy" and r["result"] == "compiled"]
    assert events[-1]["signers"] == shown["signers"]


def test_a_host_without_local_files_needs_no_signature(command: Command, officer: Path) -> None:
    command("policy", "compile", check=True)
    assert "signed by" in command("policy", "show", check=True).stdout


@pytest.mark.parametrize("kind", ["profile", "settings", "drop-in"])
def test_attack_a_file_that_nobody_signed(command: Command, officer: Path, kind: str) -> None:
    path = {"profile": LOCAL / "mine.json", "settings": CONFIG, "drop-in": DROPIN}[kind]
    if kind == "profile":
        mine()
    else:
        path.write_text('mode = "complain"\n')
    refused(command, path.name, "not signed", "ssh-keygen -Y sign -n fhir-hook")


def test_attack_an_edit_after_it_was_signed(command: Command, officer: Path) -> None:
    path = mine()
    signed(path, officer)
    command("policy", "compile", check=True)
    path.write_text(path.read_text().replace('"enforce"', '"complain"'))
    assert command("policy", "check").returncode == 1
    refused(command, "mine.json", "P105", "another content", "officer@example.org")


def test_attack_a_signature_by_another_key(command: Command, officer: Path, tmp_path: Path) -> None:
    key(tmp_path / "stranger")
    signed(mine(), tmp_path / "stranger")
    refused(command, "mine.json", "nobody in /etc/fhir-hook/signers")


def test_attack_a_signature_of_the_officer_for_another_purpose(command: Command, officer: Path) -> None:
    SIGNERS.write_text(SIGNERS.read_text().replace('namespaces="fhir-hook" ', ""))
    path = mine()
    signed(path, officer, "git")
    refused(command, "mine.json", "purpose")


def test_attack_a_signature_moved_from_another_file(command: Command, officer: Path) -> None:
    CONFIG.write_text('mode = "enforce"\n')
    signed(CONFIG, officer)
    path = mine()
    shutil.copy(f"{CONFIG}.sig", f"{path}.sig")
    refused(command, "mine.json", "another content")


@pytest.mark.parametrize("bad", ["", "garbage\n", "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"])
def test_attack_a_damaged_signature(command: Command, officer: Path, bad: str) -> None:
    Path(f"{mine()}.sig").write_text(bad)
    refused(command, "mine.json", "signature")


@pytest.mark.parametrize("what", ["file", "signature", "signers"])
def test_attack_a_fifo_where_a_file_should_be(command: Command, officer: Path, what: str) -> None:
    path = mine()
    signed(path, officer)
    place = {"file": path, "signature": Path(f"{path}.sig"), "signers": SIGNERS}[what]
    place.unlink()
    os.mkfifo(place)
    refused(command, "not a regular file")


def test_attack_the_list_of_signers_is_taken_away(command: Command, officer: Path) -> None:
    command("policy", "compile", check=True)
    SIGNERS.unlink()
    CONFIG.write_text('mode = "complain"\n')
    refused(command, "/etc/fhir-hook/signers is gone", "--accept-signers")
    command("policy", "compile", "--accept-signers", check=True)
    changed = [r for r in records(command) if r.get("what") == "signers"][-1]
    assert len(changed["old"]) == 64 and changed["new"] == ""


def test_attack_another_key_among_the_signers(command: Command, officer: Path, tmp_path: Path) -> None:
    command("policy", "compile", check=True)
    with SIGNERS.open("a") as file:
        file.write(f"stranger {key(tmp_path / 'stranger')}\n")
    signed(mine(), tmp_path / "stranger")
    refused(command, "is another than", "--accept-signers")


def test_attack_signers_that_anybody_can_write(command: Command, officer: Path) -> None:
    SIGNERS.chmod(0o666)
    refused(command, "/etc/fhir-hook/signers", "can be written by others")


def test_a_vendors_profile_is_installed_with_its_signature(command: Command, officer: Path, tmp_path: Path) -> None:
    document = json.loads((SHIPPED / "hapi.json").read_text()) | {"name": "mine-too", "match": []}
    offered = tmp_path / "mine-too.json"
    offered.write_text(json.dumps(document))
    approve = ("--yes", "--digest", hashlib.sha256(offered.read_bytes()).hexdigest())
    unsigned = command("profile", "install", str(offered), *approve)
    assert unsigned.returncode == 3 and "not signed" in unsigned.stderr
    assert not list(LOCAL.glob("mine-too*"))
    signed(offered, officer)
    command("profile", "install", str(offered), *approve, check=True)
    assert (LOCAL / "mine-too.json.sig").exists()
    command("profile", "remove", "mine-too", "--yes", check=True)
    assert not list(LOCAL.glob("mine-too*"))
