"""A distribution's root of tests/packaging/inside, as the tests drive it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from host.machine import ROOT, Host, Result, parse_status

HERE = ROOT / "tests/packaging"
USER, UID, HOME = "fhirtest", 20001, "/home/fhirtest"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FHIR, PLAIN = "probe:hapi", "probe:plain"
DEFAULT_BOUNDING = "00000000800405fb"

# Modules of this version and of the changed ones can't be mixed: a name that half of them use is another one there.
RENAMED = "s/\\bload_index\\b/read_index/g"
# And its policy is of another format, so that the old one can't be used until the package is configured.
OTHER_FORMAT = RENAMED + "; s/^FORMAT = 1$/FORMAT = 2/"


class Packages:
    """Packages of this tree, built when first asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._built: dict[tuple[str, ...], Path] = {}
        # All are built from one copy: somebody may be editing the tree meanwhile.
        self.tree = directory / "tree"
        self.tree.mkdir()
        files = "git ls-files -z --cached --others --exclude-standard | xargs -0 ls -d --zero 2>/dev/null"
        copy = f"{files} | tar --null --files-from=- -c | tar -x -C {self.tree}"
        subprocess.run(["sh", "-c", copy], cwd=ROOT, check=True)
        self.epoch = subprocess.run([ROOT / "packaging/epoch"], stdout=subprocess.PIPE, text=True, check=True).stdout

    def deb(self, version: str = "", edit: str = "") -> Path:
        """The binary package; `version` and `edit` (of every module, by sed) make another version of it."""
        return self._build("build-deb", version, edit)

    def rpm(self, version: str = "") -> Path:
        """The binary RPM."""
        return self._build("build-rpm", version)

    def _build(self, program: str, *arguments: str) -> Path:
        key = (program, *arguments)
        if key not in self._built:
            out = self.directory / f"{len(self._built)}"
            words = ["env", f"SOURCE_DATE_EPOCH={self.epoch.strip()}", self.tree / "packaging" / program]
            done = subprocess.run([*words, out, *arguments], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            self._built[key] = Path(done.stdout.strip())
        return self._built[key]


class Root:
    """Commands run in it with run(); its files are below `path` as this process sees them through /proc."""

    def __init__(self, suite: str, host: Host) -> None:
        self.suite = suite
        self.host = host
        lower = host.run([HERE / "make-root", suite], check=True, timeout=600).stdout.strip()
        self.directory = host.directory()
        words = ["unshare", "-m", "--propagation", "private", HERE / "inside", lower, self.directory]
        hold = ["sh", "-c", "echo ready; exec sleep infinity"]
        self._holder = subprocess.Popen([*words, *hold], stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n", f"the root of {suite} can't be entered"
        self.path = Path(f"/proc/{self._holder.pid}/root")

    def close(self) -> None:
        self.podman("rm", "-af", "-t", "0")
        self.podman("rm", "-af", "-t", "0", user=USER)
        self._holder.kill()
        self._holder.wait()

    def words(self, argv: Sequence[str | Path], user: str | None = None) -> list[str]:
        """The command line that runs argv in here."""
        home = "/root" if user is None else HOME
        env = ["env", "-i", PATH, f"HOME={home}", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "TERM=dumb"]
        if user is not None:
            groups = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--inh-caps=-all"]
            env = [*groups, *env, f"XDG_RUNTIME_DIR=/run/user/{UID}", f"USER={user}"]
        change = ["sh", "-c", f'cd {home} && exec "$@"', "sh"]
        return ["nsenter", "-t", str(self._holder.pid), "-m", "--", *change, *env, *map(str, argv)]

    def run(self, argv: Sequence[str | Path], user: str | None = None, check: bool = True, **more: Any) -> Result:
        return self.host.run(self.words(argv, user), check=check, **more)

    def share(self, path: Path) -> str:
        """Copies a file into the root; its path there."""
        shutil.copy(path, self.directory / "shared" / path.name)
        return f"/srv/shared/{path.name}"

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Writes a file of the root."""
        target = self.path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def read(self, path: str) -> str:
        return (self.path / path.lstrip("/")).read_text()

    def exists(self, path: str) -> bool:
        return (self.path / path.lstrip("/")).exists()

    def apt(self, *arguments: str, check: bool = True) -> Result:
        """apt-get as an administrator calls it, answering nothing."""
        return self.run(["apt-get", "-q", "-y", "--no-install-recommends", *arguments], check=check, timeout=300)

    def dpkg(self, *arguments: str, check: bool = True) -> Result:
        return self.run(["dpkg", *arguments], check=check, timeout=120)

    def podman(self, *arguments: str | Path, runtime: str = "runc", check: bool = False, **more: Any) -> Result:
        return self.run(["podman", "--runtime", runtime, *arguments], check=check, **more)

    def load_images(self) -> None:
        """The probe images into the stores of root and of the ordinary user."""
        for tag in (FHIR, PLAIN):
            archive = self.share(self.host.images.archive(tag))
            for user in (None, USER):
                self.podman("load", "-q", "-i", archive, user=user, check=True)

    def state(self, tag: str, *options: str, command: str = "status", **more: Any) -> dict[str, str] | None:
        """/proc/self/status of a new container's process, or None when it was refused before anything of it ran."""
        done = self.podman("run", "--rm", "--network", "none", *options, tag, command, **more)
        if done.returncode != 0:
            assert "Seccomp" not in done.stdout, done.stdout + done.stderr
            return None
        return parse_status(done.stdout)

    def records(self, user: str | None = None) -> list[dict[str, Any]]:
        """The decision log's records, oldest first."""
        where = "/var/log/fhir-hook" if user is None else f"{HOME}/.local/state/fhir-hook"
        path = f"{where}/decisions.jsonl"
        return [json.loads(line) for line in self.read(path).splitlines()] if self.exists(path) else []


def confined(status: dict[str, str] | None) -> bool:
    """Whether this is what the profile hapi makes of a container."""
    return status is not None and (status["NoNewPrivs"], status["CapBnd"], status["Seccomp"]) == ("1", "0" * 16, "2")


def untouched(status: dict[str, str] | None) -> bool:
    """Whether this is what the engine alone makes of a container."""
    return status is not None and (status["NoNewPrivs"], status["CapBnd"], status["Seccomp"]) == (
        "0", DEFAULT_BOUNDING, "2",
    )  # fmt: skip
