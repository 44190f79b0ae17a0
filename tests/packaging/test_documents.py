"""Manual pages and completions as packaging/documents makes them from the command and the schemas."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import click
import pytest

from fhir_hook.cli.main import command
from host.machine import ROOT, Host

PAGES = ("fhir-hook.1", "fhir-hook-hook.8", "fhir-hook-config.5", "fhir-hook-profile.5")


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("documents")
    epoch = {**os.environ, "SOURCE_DATE_EPOCH": "1795265008"}
    subprocess.run([ROOT / "packaging/documents", out], check=True, env=epoch)
    return out


def shown(page: Path) -> str:
    """The page as a reader sees it, in one line."""
    env = {**os.environ, "MANWIDTH": "400", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["man", "-l", page], capture_output=True, text=True, check=True, env=env)
    return " ".join(re.sub(r"[\u2010\u2212]", "-", done.stdout).split())


@pytest.mark.parametrize("page", PAGES)
def test_man_and_mandoc_find_nothing_wrong(documents: Path, page: str) -> None:
    for words in (["man", "--warnings", "-l"], ["mandoc", "-T", "lint", "-W", "warning"]):
        done = subprocess.run([*words, documents / "man" / page], capture_output=True, text=True, check=False)
        assert done.stderr == "" and done.returncode == 0, done.stderr
        assert words[0] == "man" or done.stdout == ""


def test_every_command_and_every_option_is_in_the_page(documents: Path) -> None:
    text = shown(documents / "man/fhir-hook.1")

    def walk(group: click.Command, words: tuple[str, ...]) -> None:
        if isinstance(group, click.Group):
            context = click.Context(group)
            for name in group.list_commands(context):
                walk(group.get_command(context, name), (*words, name))
        if not isinstance(group, click.Group) or group.invoke_without_command:
            assert " ".join(words) in text
            for param in (p for p in group.params if isinstance(p, click.Option)):
                assert all(option in text for option in param.opts), (words, param.opts)

    walk(command, ())


def test_every_setting_with_its_values_and_default_is_in_the_page(documents: Path) -> None:
    text = shown(documents / "man/fhir-hook-config.5")
    schema = json.loads((ROOT / "profiles/schema/settings.schema.json").read_text())
    for name, setting in schema["properties"].items():
        assert name in text
        assert ", ".join(setting.get("enum", [])) in text
        assert f"default: {setting['default']}" in text if "default" in setting else True


def test_completions_complete_commands_in_bash_and_fish_and_are_good_zsh(documents: Path, host: Host) -> None:
    scripts = documents / "completions"
    bash = (
        f"source {scripts}/bash; COMP_WORDS=(fhir-hook pol); COMP_CWORD=1; _fhir_hook_completion fhir-hook; "
        'echo "${COMPREPLY[@]}"; complete -p fhir-hook'
    )
    assert host.run(["bash", "-c", bash], check=True).stdout.splitlines()[0] == "policy"
    fish = f"source {scripts}/fish; complete -C 'fhir-hook pol'"
    assert host.run(["fish", "--no-config", "-c", fish], check=True).stdout.startswith("policy")
    host.run(["zsh", "-n", scripts / "zsh"], check=True)
    # zsh fetches its completions from the file's own name, which its first line has to say
    assert (scripts / "zsh").read_text().splitlines()[0] == "#compdef fhir-hook"
