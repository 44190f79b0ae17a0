"""The command that says which token stands for a name."""

from __future__ import annotations

import hmac

from audit.conftest import Bench


def test_it_says_the_token_that_records_have_and_only_to_who_has_the_key(host: Bench) -> None:
    done = host("log", "token", "fhir")
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 1
    assert not (host.sandbox.state / "names.key").exists(), "asking makes no key"
    shown = host.sandbox.python("from fhir_hook.store import names\nprint(names.shown('fhir'))").decode().strip()
    key = (host.sandbox.state / "names.key").read_bytes()
    assert shown == "name-" + hmac.new(key, b"fhir", "sha256").hexdigest()[:32]
    assert host("log", "token", "fhir", "b", check=True).stdout.split()[0] == shown
    assert host.json("log", "token", "fhir") == {"name": "fhir", "token": shown}
    (host.sandbox.state / "names.key").chmod(0o644)
    done = host("log", "token", "fhir")
    assert done.returncode == 3 and "is not this user's alone" in done.stderr
