"""The Debian package as it was built, without installing it: contents, order, lintian, size, reproducibility."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from packaging_root import Packages

from fhir_hook.core.version import VERSION
from host.machine import ROOT, Host


def said(*words: str | Path) -> str:
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout


@pytest.fixture(scope="module")
def deb(packages: Packages) -> Path:
    return packages.deb()


@pytest.fixture(scope="module")
def listed(deb: Path) -> list[str]:
    """The archive's lines as tar prints them, in order."""
    return said("dpkg-deb", "-c", deb).splitlines()


def paths(listed: list[str]) -> list[str]:
    return [line.split()[5].removeprefix(".") for line in listed]


def test_lintian_has_no_error_and_no_warning_and_nothing_is_overridden(deb: Path) -> None:
    changes = next(deb.parent.glob("*.changes"))
    done = subprocess.run(
        ["lintian", "--allow-root", "--suppress-tags", "bad-distribution-in-changes-file", changes],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert [line for line in done.stdout.splitlines() if line[:2] in ("E:", "W:")] == []
    assert not list((ROOT / "packaging").rglob("*lintian-overrides*"))


def test_it_is_the_same_when_it_is_built_again(deb: Path, packages: Packages, tmp_path: Path) -> None:
    words = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "TZ=Asia/Tokyo", "LC_ALL=C"]
    words.append(f"SOURCE_DATE_EPOCH={packages.epoch.strip()}")
    again = Path(said(*words, "sh", "-c", f"umask 077; exec {packages.tree}/packaging/build-deb {tmp_path}").strip())
    assert hashlib.sha256(again.read_bytes()).hexdigest() == hashlib.sha256(deb.read_bytes()).hexdigest()


def test_the_launcher_comes_after_all_of_the_code_that_it_starts(listed: list[str]) -> None:
    """dpkg renames files in the archive's order: a launcher that names new code must not come before that code."""
    order = paths(listed)
    modules = [number for number, path in enumerate(order) if path.startswith("/usr/lib/fhir-hook/")]
    assert max(modules) < order.index("/usr/libexec/fhir-hook/hook")


def test_nothing_that_an_engine_reads_is_in_the_package_itself(listed: list[str]) -> None:
    """A package that is unpacked and not configured is not in force: its Python packages may still be missing."""
    inside = [path for path in paths(listed) if path.startswith(("/usr/share/containers/", "/etc/containers/"))]
    assert all(path.endswith("/") for path in inside)


def test_files_are_roots_and_nobody_else_may_write_them(listed: list[str]) -> None:
    for line in listed:
        mode, owner = line.split()[:2]
        assert owner == "root/root", line
        assert mode[5] == mode[8] == "-" or mode[0] == "l", line
        assert "s" not in mode.lower(), line


def test_no_bytecode_is_shipped(listed: list[str]) -> None:
    assert [path for path in paths(listed) if path.endswith(".pyc")] == []


def test_it_stays_below_two_mebibytes(deb: Path) -> None:
    """With the bytecode that is compiled at installation, which takes as much as the modules."""
    kib = int(said("dpkg-deb", "-f", deb, "Installed-Size"))
    assert kib < 2048


def test_it_depends_on_the_distributions_packages_only(deb: Path) -> None:
    depends = said("dpkg-deb", "-f", deb, "Depends")
    names = {re.split(r"[ (:]", part.strip())[0] for part in depends.split(",")}
    assert names == {
        "init-system-helpers", "python3", "python3-click", "python3-cryptography", "python3-jinja2",
        "python3-jsonschema", "python3-prctl", "python3-psutil", "python3-rich", "python3-seccomp", "python3-yaml",
    }  # fmt: skip


def test_the_version_is_that_of_the_code_and_the_newest_in_the_changelog(deb: Path, tmp_path: Path) -> None:
    assert said("dpkg-deb", "-f", deb, "Version").strip() == VERSION
    subprocess.run(["dpkg-deb", "-x", deb, tmp_path], check=True)
    changelog = said("zcat", tmp_path / "usr/share/doc/fhir-hook/changelog.gz")
    assert changelog.startswith(f"fhir-hook ({VERSION}) ")


def test_the_units_are_hardened(host: Host) -> None:
    units = ROOT / "packaging/systemd"
    for unit in units.glob("*.service"):
        analysed = said("systemd-analyze", "security", "--offline=true", unit)
        exposure = re.search(r"exposure level for \S+: (\d+\.\d+)", analysed)
        assert exposure is not None and float(exposure[1]) < 2.0
    assert said("systemd-analyze", "verify", "--man=no", *sorted(units.iterdir())) == ""
