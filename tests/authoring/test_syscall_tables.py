"""The generated call tables against the installed libseccomp."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from fhir_hook.authoring.expand import NUMBERS

ROOT = Path(__file__).resolve().parents[2]


def generator() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("gen_syscalls", str(ROOT / "tools" / "gen-syscalls"))
    spec = importlib.util.spec_from_loader("gen_syscalls", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("arch", NUMBERS)
def test_the_table_is_what_libseccomp_knows(arch: str) -> None:
    assert generator().table(generator().ARCHITECTURES[arch]) == NUMBERS[arch]


@pytest.mark.parametrize("arch", NUMBERS)
def test_the_file_is_what_the_generator_writes(arch: str) -> None:
    written = (ROOT / "fhir_hook" / "core" / f"syscalls_{arch}.py").read_text()
    assert written == generator().module(arch, NUMBERS[arch])


def test_the_tables_end_at_number_450_and_name_each_number_once() -> None:
    for numbers in NUMBERS.values():
        assert max(numbers.values()) == 450
        assert len(set(numbers.values())) == len(numbers)
