"""docs/bring-your-own-server.md, word for word."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from host.machine import ROOT, Host

PAGE = ROOT / "docs" / "bring-your-own-server.md"
SOURCE = "org.opencontainers.image.source=https://git.example.org/our-server"
LOCAL = Path("/etc/fhir-hook/profiles/our-server.json")


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("every_denial")
def test_every_command_of_the_page_works(host: Host) -> None:
    host.derive("fhirstarter:4.2.0", "our-server:latest", "--label", SOURCE)
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    directory = host.directory()
    try:
        for block in blocks:
            done = host.run(["bash", "-ec", block], cwd=directory, timeout=280)
            assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
            said = done.stdout
        assert "our-server" in said and "profile       our-server" in said
        bound = re.search(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        assert bound is not None
        file = Path("/etc/fhir-hook/config.d/our-server.toml")
        file.write_text(bound[1])
        done = host.run(["fhir-hook", "policy", "check", "--json"])
        file.unlink()
        assert json.loads(done.stdout)["ok"], done.stdout
    finally:
        host.podman("rm", "-f", "-t", "0", "our-server")
        LOCAL.unlink(missing_ok=True)
        host.run(["fhir-hook", "policy", "compile"])
