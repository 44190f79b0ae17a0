"""Which hooks directories containers.conf files give, as Podman reads them; the drop-in that is made from it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fhir_hook.core import paths
from fhir_hook.health import containers_conf

BUILT_IN = "/usr/share/containers/oci/hooks.d"


def conf(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_without_files_it_is_podmans_built_in_list() -> None:
    assert containers_conf.in_force([]) == containers_conf.InForce((BUILT_IN,), None)


def test_files_are_read_in_podmans_order_and_only_those_that_it_reads(tmp_path: Path) -> None:
    system, host, home = tmp_path / "system.conf", tmp_path / "etc/containers.conf", tmp_path / "home"
    made = [
        conf(system, ""), conf(host, ""), conf(tmp_path / "etc/containers.conf.d/10-a.conf", ""),
        conf(tmp_path / "etc/containers.conf.d/20-b.conf", ""), conf(home / ".config/containers/containers.conf", ""),
        conf(home / ".config/containers/containers.conf.d/1.conf", ""),
    ]  # fmt: skip
    conf(tmp_path / "etc/containers.conf.d/30-c.conf.rpmsave", "")
    assert containers_conf.files(home, system, host) == made
    assert containers_conf.files(None, system, host) == made[:4]


def test_a_later_file_replaces_the_list_and_one_without_it_leaves_it(tmp_path: Path) -> None:
    first = conf(tmp_path / "1.conf", '[engine]\nhooks_dir = ["/a", "/b"]\n')
    second = conf(tmp_path / "2.conf", '[containers]\nlabel = true\n[engine]\nruntime = "crun"\n')
    third = conf(tmp_path / "3.conf", '[engine]\nhooks_dir = ["/c"]\n')
    assert containers_conf.in_force([first, second]) == containers_conf.InForce(("/a", "/b"), first)
    assert containers_conf.in_force([first, second, third]) == containers_conf.InForce(("/c",), third)
    assert containers_conf.in_force([first, second, third], without=third).directories == ("/a", "/b")


def test_append_adds_to_the_list_until_a_file_says_otherwise(tmp_path: Path) -> None:
    first = conf(tmp_path / "1.conf", '[engine]\nhooks_dir = ["/a", {append=true}]\n')
    second = conf(tmp_path / "2.conf", '[engine]\nhooks_dir = ["/b"]\n')
    third = conf(tmp_path / "3.conf", '[engine]\nhooks_dir = ["/c", {append=false}]\n')
    assert containers_conf.in_force([first]).directories == (BUILT_IN, "/a")
    assert containers_conf.in_force([first, second]).directories == (BUILT_IN, "/a", "/b")
    assert containers_conf.in_force([first, second, third]).directories == ("/c",)


@pytest.mark.parametrize("text", ["[engine", "\x00", 'engine = "x'])
def test_a_file_that_podman_could_not_read_is_named(tmp_path: Path, text: str) -> None:
    path = conf(tmp_path / "half.conf", text)
    with pytest.raises(containers_conf.ConfError, match=r"half\.conf"):
        containers_conf.in_force([path])


def test_values_of_other_types_count_as_not_set(tmp_path: Path) -> None:
    texts = ('[engine]\nhooks_dir = "/a"\n', "engine = 1\n", "[[engine]]\n", "")
    assert all(containers_conf.hooks_dir(conf(tmp_path / "x.conf", text)) is None for text in texts)


def test_the_drop_in_keeps_the_list_whatever_is_in_it_and_adds_ours_at_the_end(tmp_path: Path) -> None:
    odd = ("/opt/my hooks", '/opt/"quoted"', "/opt/back\\slash", "/opt/ünïcode")
    path = conf(tmp_path / "50.conf", containers_conf.dropin(odd))
    assert tomllib.loads(path.read_text())["engine"]["hooks_dir"] == [*odd, paths.PODMAN_HOOKS]
    assert containers_conf.in_force([path]).directories == (*odd, paths.PODMAN_HOOKS)
