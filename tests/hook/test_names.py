"""The setting log.names: with "hashed" no name that a person chose is written, whatever happens to the container."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hook.conftest import write_policy
from support import store
from support.sandbox import Sandbox

Config = Callable[..., bytes]
NAME = "patient-mueller"
TOKEN = re.compile(r"name-[0-9a-f]{32}")


@pytest.fixture
def named(config: Config) -> Callable[..., bytes]:
    """The config.json of a FHIR container that is called NAME."""

    def make(**more: object) -> bytes:
        data = config(store.HAPI, **more)
        graph = Path(json.loads(data)["root"]["path"]).parents[2]
        path = graph / "overlay-containers/containers.json"
        path.write_text(path.read_text().replace('"names":["n"]', f'"names":["{NAME}"]'))
        return data

    return make


def test_a_token_is_the_hmac_of_the_name_under_the_hosts_key(sandbox: Sandbox, named: Callable[..., bytes]) -> None:
    write_policy(sandbox, names="hashed")
    answer = sandbox.hook("precreate", named())
    assert answer.returncode == 0, answer.stderr
    key = sandbox.state / "names.key"
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_bytes()) == 32
    expected = "name-" + hmac.new(key.read_bytes(), NAME.encode(), "sha256").hexdigest()[:32]
    assert sandbox.records[-1]["container"] == {"id": store.CONTAINER, "name": expected}
    assert expected in json.loads(answer.stdout)["hooks"]["createRuntime"][-1]["args"]
    assert NAME.encode() not in answer.stdout


def test_the_same_name_has_the_same_token_and_another_another(sandbox: Sandbox) -> None:
    code = "from fhir_hook.store import names\nprint(*[names.shown(n) for n in sys.argv[1:]])"
    code = "import sys\n" + code
    one, two, three = sandbox.python(code, "a", "a", "b").decode().split()
    assert one == two != three and all(TOKEN.fullmatch(each) for each in (one, three))
    assert sandbox.python(code, "a", one).decode().split() == [one, one]


def test_without_the_setting_names_are_as_they_are_and_no_key_is_made(
    sandbox: Sandbox, named: Callable[..., bytes]
) -> None:
    sandbox.hook("precreate", named())
    assert sandbox.records[-1]["container"]["name"] == NAME
    assert not (sandbox.state / "names.key").exists()


def test_a_refused_container_is_not_named_in_what_people_see(sandbox: Sandbox, named: Callable[..., bytes]) -> None:
    write_policy(sandbox, names="hashed")
    for path in sandbox.state.glob("policy-*"):
        path.unlink()
    answer = sandbox.hook("precreate", named())
    line = json.loads(answer.stdout)["hooks"]["createRuntime"][-1]["args"][-1]
    assert "FH103" in line and TOKEN.search(line) and NAME not in line
    assert NAME not in (sandbox.log / "decisions.jsonl").read_text()


@pytest.mark.parametrize("settings", ['[log]\nnames = "hashed"\n', "[log\n"])
def test_names_stay_hidden_when_no_policy_can_be_read(
    sandbox: Sandbox, named: Callable[..., bytes], settings: str
) -> None:
    write_policy(sandbox, names="hashed")
    sandbox.hook("precreate", named())
    before = sandbox.records[-1]["container"]["name"]
    for path in sandbox.state.glob("*.json*"):
        path.unlink()
    (sandbox.etc / "config.toml").write_text(settings)
    sandbox.hook("precreate", named())
    last = sandbox.records[-1]
    assert (last["decision"], last["container"]["name"]) == ("refused", before)


def test_an_id_that_a_person_chose_is_a_name_too_and_no_path_of_the_bundle_is_told(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    write_policy(sandbox, names="hashed")
    bundle = tmp_path / "bundle-of-mueller"
    bundle.mkdir()
    config = {"root": {"path": "rootfs"}, "annotations": store.HAPI, "linux": {"seccomp": 7}}
    (bundle / "config.json").write_text(json.dumps(config))
    state = json.dumps({"id": NAME, "pid": 1, "bundle": str(bundle)}).encode()
    done = sandbox.hook("prestart", state)
    (bundle / "config.json").unlink()
    gone = sandbox.hook("prestart", state)
    assert (done.returncode, sandbox.records[0]["decision"]) == (1, "refused")
    written = (sandbox.log / "decisions.jsonl").read_bytes() + done.stderr + gone.stderr
    assert re.findall(rb".{60}mueller.{30}", written) == []
    assert TOKEN.fullmatch(sandbox.records[0]["container"]["id"])


@pytest.mark.parametrize("spoil", [lambda key: key.chmod(0o644), lambda key: key.write_bytes(b"x"),
                                   lambda key: (key.unlink(), key.mkdir())])  # fmt: skip
def test_with_a_key_that_can_not_be_used_the_name_is_hidden_and_the_container_starts(
    sandbox: Sandbox, named: Callable[..., bytes], spoil: Callable[[Path], object]
) -> None:
    write_policy(sandbox, names="hashed")
    sandbox.hook("precreate", named())
    spoil(sandbox.state / "names.key")
    assert sandbox.hook("precreate", named()).returncode == 0
    last = sandbox.records[-1]
    assert (last["decision"], last["container"]["name"]) == ("confined", "name-hidden")


def test_of_many_first_uses_at_once_all_have_the_one_key(sandbox: Sandbox) -> None:
    code = "from fhir_hook.store import names\nprint(names.shown('a'))"
    running = [sandbox.start(code) for _ in range(16)]
    said = {process.communicate(timeout=60)[0] for process in running}
    assert len(said) == 1 and TOKEN.fullmatch(said.pop().decode().strip())
    assert [path.name for path in sandbox.state.glob("names*")] == ["names.key"]


def test_attack_a_link_in_the_place_of_the_key_is_not_followed(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(bytes(32))
    (tmp_path / "theirs").chmod(0o600)
    (sandbox.state / "names.key").symlink_to(tmp_path / "theirs")
    said = sandbox.python("from fhir_hook.store import names\nprint(names.shown('a'))")
    assert said.strip() == b"name-hidden"
