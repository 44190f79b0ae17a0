"""The hook's stages in a sandbox: a policy with one profile, and configs of containers in stores made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_hook.core import decide
from support import store
from support.sandbox import Sandbox

PROFILE = {
    "name": "hapi",
    "version": "1.0.0",
    "digest": "d" * 64,
    "nameable": True,
    "generic": False,
    "mode": "enforce",
    "capabilities": ["CAP_KILL"],
    "seccomp": {
        "x86_64": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]},
        "aarch64": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]},
    },
    "bpf": {"x86_64": {"enforce": "BgAAAAAA/38=", "complain": "BgAAAAAA/38="}},
}
SELECTOR = {"labels": store.HAPI}
WRITE = """
from fhir_hook.core import jsonio
from fhir_hook.store import policy
import posix
given = jsonio.parse(posix.read(0, 1 << 20), 1 << 20)
policy.write({"sources": []}, [given["profile"]], given["index"])
"""


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """Private paths with a compiled policy, and the profile's own file where the fallback looks for it."""
    made = Sandbox(tmp_path / "sandbox")
    (made.share / "profiles").mkdir()
    (made.share / "profiles/hapi.json").write_text(json.dumps({"name": "hapi", "match": [SELECTOR]}))
    write_policy(made)
    return made


def write_policy(made: Sandbox, bindings: list[dict[str, str]] | None = None, **settings: str) -> None:
    """Put a policy in force."""
    index = {
        "settings": {**decide.DEFAULTS, **settings},
        "bindings": bindings or [],
        "selectors": [{"profile": "hapi", **SELECTOR}],
    }
    made.python(WRITE, data=json.dumps({"profile": PROFILE, "index": index}).encode())


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., bytes]:
    """The config.json of a container whose image has these labels, with more members."""

    def make(labels: dict[str, str], **more: Any) -> bytes:
        top = tmp_path / f"graph{len(list(tmp_path.iterdir()))}"
        document = {
            "ociVersion": "1.0.2",
            "process": {"args": ["x"], "capabilities": {"bounding": ["CAP_KILL", "CAP_SYS_ADMIN"]}},
            "root": {"path": store.make(top, labels)},
            "annotations": {"io.container.manager": "libpod"},
            "linux": {},
            **more,
        }
        return json.dumps(document).encode()

    return make
