"""The RPM as it was built with Debian's rpm tools: contents, scriptlets, dependencies, and in an empty root."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from packaging_root import Packages

from host.machine import ROOT

DROPIN = "/etc/containers/containers.conf.d/50-fhir-hook.conf"
SHARED = "/usr/share/containers/oci/hooks.d/50-fhir-hook.json"


def said(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def rpm(packages: Packages) -> Path:
    return packages.rpm()


def test_rpmlint_has_nothing_to_say_but_what_has_a_reason(rpm: Path) -> None:
    config = ROOT / "packaging/rpm/rpmlint.toml"
    text = said("rpmlint", "-c", config, *sorted(rpm.parent.glob("*.rpm")), *rpm.parent.glob("*.spec"))
    assert "0 errors, 0 warnings" in text, text


def test_it_holds_the_same_files_as_the_debian_package(rpm: Path, packages: Packages) -> None:
    """But for documentation and what each distribution keeps elsewhere, and for bytecode and generated files."""
    deb = [line.split()[5].removeprefix(".") for line in said("dpkg-deb", "-c", packages.deb()).splitlines()]
    deb = [path.replace("/lib/systemd", "/usr/lib/systemd", 1) if path.startswith("/lib/") else path for path in deb]
    deb = [path.replace("/vendor-completions/", "/site-functions/") for path in deb]

    def wanted(path: str) -> bool:
        apart = ("/usr/share/doc", "/usr/share/licenses", "/usr/share/python3", "/var/log", DROPIN, SHARED)
        return not path.startswith(apart) and not path.endswith("/") and "__pycache__" not in path

    listed = said("rpm", "-qp", "--qf", "[%{FILEMODES:perms} %{FILENAMES}\\n]", rpm).splitlines()
    mine = {line.split()[1] for line in listed if not line.startswith("d")}
    assert {path for path in mine if wanted(path)} == {path for path in deb if wanted(path)}


def test_dependencies_and_scriptlets_are_what_they_should_be(rpm: Path) -> None:
    requires = {line.split()[0] for line in said("rpm", "-qp", "--requires", rpm).splitlines()}
    requires -= {name for name in requires if name.startswith(("rpmlib(", "/bin/sh", "config("))}
    assert requires == {
        "/usr/bin/python3", "python3", "python3-click", "python3-cryptography", "python3-jinja2", "python3-jsonschema",
        "python3-libseccomp", "python3-prctl", "python3-psutil", "python3-pyyaml", "python3-rich",
    }  # fmt: skip
    scripts = said("rpm", "-qp", "--scripts", rpm)
    removal = scripts.partition("preuninstall")[2]
    assert f"rm -f {DROPIN} {SHARED}" in removal
    triggers = said("rpm", "-qp", "--filetriggers", rpm)
    assert triggers.count("/usr/share/fhir-hook/profiles, /etc/fhir-hook") == 2 or triggers.count("policy compile") == 2


def test_an_empty_root_gets_its_files_and_loses_them_again(rpm: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    rpm_in = ["rpm", "--root", str(root), "--nodeps", "--noscripts"]
    said(*rpm_in, "--notriggers", "-i", str(rpm))
    assert not (root / DROPIN[1:]).exists() and not (root / SHARED[1:]).exists()
    launcher = (root / "usr/libexec/fhir-hook/hook").read_text()
    code = re.search(r'"(/usr/lib/fhir-hook/[^"]+)"', launcher)
    assert code is not None and (root / code[1][1:] / "fhir_hook/hook/main.py").is_file()
    assert said("rpm", "--root", str(root), "-V", "--nodeps", "--nouser", "--nogroup", "fhir-hook") == ""
    said(*rpm_in, "--notriggers", "-e", "fhir-hook")
    left = [path for path in root.rglob("*fhir*hook*") if path.is_file()]
    assert left == []
