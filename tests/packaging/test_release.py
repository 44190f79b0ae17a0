"""make release takes nothing but a tag of this version, with nothing changed and a dated entry in the changelog."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from packaging_root import Packages

from fhir_hook.core.version import VERSION

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@t.invalid"]


@pytest.fixture
def checkout(packages: Packages, tmp_path: Path) -> Path:
    """A checkout of this tree whose changelog is that of a release."""
    tree = tmp_path / "checkout"
    shutil.copytree(packages.tree, tree, symlinks=True)
    shutil.rmtree(tree / "build", ignore_errors=True)
    text = (tree / "CHANGELOG.md").read_text()
    (tree / "CHANGELOG.md").write_text(text.replace("## [Unreleased]", f"## [{VERSION}] - 2026-01-02", 1))
    subprocess.run(["git", "init", "-q", tree], check=True)
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "all")
    return tree


def git(tree: Path, *words: str) -> None:
    subprocess.run([*GIT, *words], cwd=tree, check=True, capture_output=True)


def refused(tree: Path) -> str:
    """What packaging/release says when it refuses, before it builds anything."""
    done = subprocess.run([tree / "packaging/release"], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not (tree / "build").exists()
    return done.stderr


def test_a_release_is_refused_from_what_is_no_tag_of_its_version(checkout: Path) -> None:
    assert f"is not the tag v{VERSION}" in refused(checkout)
    git(checkout, "tag", "v99.0.0")
    assert f"is not the tag v{VERSION}" in refused(checkout)


def test_a_release_is_refused_from_a_changed_checkout(checkout: Path) -> None:
    git(checkout, "tag", f"v{VERSION}")
    (checkout / "fhir_hook/forgotten.py").touch()
    assert "the checkout has changes" in refused(checkout)


def test_a_release_is_refused_when_the_changelog_has_no_dated_entry_of_it(checkout: Path) -> None:
    text = (checkout / "CHANGELOG.md").read_text()
    (checkout / "CHANGELOG.md").write_text(text.replace(f"## [{VERSION}] - 2026-01-02", "## [Unreleased]", 1))
    git(checkout, "commit", "-q", "-a", "-m", "no date")
    git(checkout, "tag", f"v{VERSION}")
    assert f"a release wants '## [{VERSION}] - YYYY-MM-DD'" in refused(checkout)
