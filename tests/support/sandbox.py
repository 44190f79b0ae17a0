"""The fixed paths of the product (core/paths.py), made private: tests run the real modules in their own namespace."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# directory of a Sandbox -> where the product looks for it
PLACES = {
    "state": "/var/lib/fhir-hook",
    "log": "/var/log/fhir-hook",
    "etc": "/etc/fhir-hook",
    "share": "/usr/share/fhir-hook",
}
# A mount point that the machine lacks is made in a layer above its parent directory.
_PRELUDE = """
set -e
point() {
  [ -d "$2" ] && return
  parent=${2%/*} && mkdir -p "$1/upper$parent" "$1/work$parent"
  mount -t overlay overlay -o "lowerdir=$parent,upperdir=$1/upper$parent,workdir=$1/work$parent" "$parent"
  mkdir -p "$2"
}
"""
_PYTHON = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
_NUMBERS = itertools.count()
Result = subprocess.CompletedProcess[bytes]


class Sandbox:
    """`state`, `log`, `etc` and `share` are directories that take the place of the product's own, empty at first."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.state, self.log, self.etc, self.share = (top / name for name in PLACES)
        for name in PLACES:
            (top / name).mkdir(parents=True)
        self.setup = ""
        """Shell commands run in the namespace before the program, after the product's paths are in place."""

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records of the log, oldest first."""
        return [json.loads(line) for line in (self.log / "decisions.jsonl").read_text("ascii").splitlines()]

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """The command line that runs `argv` as root with the private paths."""
        # One each: an upper directory belongs to one mount at a time.
        layers = shlex.quote(str(self.top / f"layers{next(_NUMBERS)}"))
        lines = [_PRELUDE]
        for name, place in PLACES.items():
            lines.append(f"point {layers} {place}; mount --bind {shlex.quote(str(self.top / name))} {place}")
        lines += [self.setup, 'exec "$@"']
        return ["unshare", "-m", "--propagation", "private", "sh", "-c", "\n".join(lines), "sh", *map(str, argv)]

    def run(self, argv: Sequence[str | Path], data: bytes = b"", env: Mapping[str, str] | None = None) -> Result:
        """Run a program in the sandbox with `data` on stdin."""
        return subprocess.run(
            self.command(argv),
            input=data,
            capture_output=True,
            check=False,
            timeout=120,
            env={**os.environ, **(env or {})},
        )

    def argv(self, code: str, *args: str | Path) -> list[str]:
        """The isolated interpreter of the hook, with Python `code` that can import fhir_hook."""
        return ["/usr/bin/python3", "-ISB", "-c", _PYTHON + code, *map(str, args)]

    def python(self, code: str, *args: str | Path, data: bytes = b"") -> bytes:
        """Run `code` in the sandbox; returns what it printed. AssertionError when it fails."""
        done = self.run(self.argv(code, *args), data)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def start(self, code: str, *args: str | Path) -> subprocess.Popen[bytes]:
        """Start `code` in the sandbox, with pipes for stdin, stdout and stderr."""
        return subprocess.Popen(
            self.command(self.argv(code, *args)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def hook(
        self, stage: str, data: bytes, *args: str, before: Sequence[str] = (), options: Sequence[str] = ()
    ) -> Result:
        """Run a stage as the launcher does; `before` goes before the interpreter, `options` to it."""
        code = _PYTHON + "from fhir_hook.hook.main import main\nmain(['hook', *sys.argv[1:]])"
        return self.run([*before, "/usr/bin/python3", "-ISB", *options, "-c", code, stage, *args], data)
