"""The live path on the real runtimes leaves the kernel state that the same plan leaves when it is in config.json."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import struct
from pathlib import Path
from typing import Any

import pytest

from fhir_hook.kernel import procfs
from host.machine import USER, Host, Result
from kernel.driver import GETPPID, bpf, fields, wait_until

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = {"CHOWN": 0, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8, "NET_BIND_SERVICE": 10}
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
KEEP = {"KILL", "NET_BIND_SERVICE"}
NATIVE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
}


def capability_sets(uid: int, ambient: tuple[str, ...]) -> dict[str, list[str]]:
    """As engines ask: root gets everything but ambient, others what is ambient."""
    held = list(NUMBERS) if uid == 0 else list(ambient)
    return {
        "bounding": list(NUMBERS), "effective": held, "permitted": held, "inheritable": list(ambient),
        "ambient": list(ambient),
    }  # fmt: skip


class Bundle:
    """A bundle of one static program, and a way to run it."""

    def __init__(self, host: Host, victims: Path, runtime: str, user: str | None, program: str = "look") -> None:
        self.host, self.runtime, self.user = host, runtime, user
        self.top = host.directory(user)
        root = self.top / "rootfs"
        for name in ("proc", "dev", "sys", "tmp"):
            (root / name).mkdir(parents=True)
        self.program = root / "program"
        shutil.copy(victims / program, self.program)
        package = self.top / "package"
        shutil.copytree(ROOT / "fhir_hook", package / "fhir_hook", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "tests" / "kernel" / "prestart", self.top / "prestart")
        self.own()

    def own(self) -> None:
        if self.user is not None:
            owner = pwd.getpwnam(USER)
            for path in (self.top, *self.top.rglob("*")):
                os.chown(path, owner.pw_uid, owner.pw_gid)

    def write(self, uid: int, sets: dict[str, list[str]], **more: Any) -> None:
        """Writes config.json; more: hook, no_new_privs, seccomp, terminal."""
        (self.top / "config.json").unlink(missing_ok=True)
        rootless = ["--rootless"] if self.user else []
        self.host.run(["runc", "spec", *rootless, "-b", self.top], user=self.user, check=True)
        spec = json.loads((self.top / "config.json").read_text())
        spec["process"] = {
            "args": ["/program"],
            "cwd": "/",
            "user": {"uid": uid, "gid": uid},
            "capabilities": {name: [f"CAP_{word}" for word in words] for name, words in sets.items()},
            "noNewPrivileges": more.get("no_new_privs", False),
        }
        spec["linux"].pop("resources", None)
        spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "cgroup"]
        if "seccomp" in more:
            spec["linux"]["seccomp"] = more["seccomp"]
        if more.get("hook"):
            hook = self.top / "prestart"
            words = ["prestart", self.top / "package", self.top / "plan.json", self.top / "outcome.json"]
            entry = {"path": str(hook), "args": [str(word) for word in words], "env": ["LANG=C"]}
            spec["hooks"] = {"prestart": [entry]}
        (self.top / "config.json").write_text(json.dumps(spec))
        self.own()

    def plan(self, asked: dict[str, list[str]], left: dict[str, list[str]], complain: bool = False) -> None:
        program = bpf({}, 0x7FFC0000) if complain else bpf({GETPPID: 1})
        plan = {
            "filters": [program.hex()],
            "asked": {name: sum(1 << NUMBERS[word] for word in words) for name, words in asked.items()},
            "left": {name: sum(1 << NUMBERS[word] for word in words) for name, words in left.items()},
            "complain": complain,
        }
        (self.top / "plan.json").write_text(json.dumps(plan))
        self.own()

    def call(self, *words: str, plain: bool = False, **more: Any) -> Result:
        """The runtime itself; for the ordinary user inside a user namespace, as Podman runs it, unless plain."""
        argv = [self.runtime, "--root", str(self.top / "state")]
        if self.runtime == "crun" and self.user:
            argv += ["--cgroup-manager=disabled"]
            argv = argv if plain else ["podman", "unshare", *argv]
        return self.host.run([*argv, *words], user=self.user, timeout=20, **more)

    def run(self, **more: Any) -> Result:
        return self.call("run", "-b", str(self.top), f"b{self.top.name}", **more)

    def outcome(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.top / "outcome.json").read_text())
        return loaded


def kept(sets: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: [word for word in words if word in KEEP] for name, words in sets.items()}


@pytest.mark.parametrize("ambient", [(), ("NET_BIND_SERVICE", "SETUID")], ids=["", "ambient"])
@pytest.mark.parametrize("who", ["root:0", "root:1234", "rootless:0"])
def test_live_equals_native(bare_host: Host, victims: Path, runtime: str, who: str, ambient: tuple[str, ...]) -> None:
    engine, _, uid = who.partition(":")
    bundle = Bundle(bare_host, victims, runtime, None if engine == "root" else engine)
    asked = capability_sets(int(uid), ambient)
    bundle.write(int(uid), kept(asked), no_new_privs=True, seccomp=NATIVE)
    native = bundle.run(check=True).stdout
    bundle.plan(asked, kept(asked))
    bundle.write(int(uid), asked, hook=True)
    live = bundle.run(check=True).stdout
    assert live == native
    assert (fields(live)["getppid"], fields(live)["NoNewPrivs"]) == ("EPERM", "1")
    outcome = bundle.outcome()
    assert (outcome["filters_before"], outcome["filters_after"]) == (0, 1)
    assert outcome["read_back"] == (engine == "root")
    if engine == "rootless":
        assert "PTRACE_SECCOMP_GET_FILTER" in outcome["reasons"][0]


def test_plain_crun_of_an_ordinary_user_is_refused_since_its_init_can_not_be_traced(
    bare_host: Host, victims: Path
) -> None:
    # crun makes itself undumpable in the initial user namespace and doesn't exec in the container's: without an
    # engine's user namespace around it only CAP_SYS_PTRACE of the host could trace it (ptrace(2), access checks).
    bundle = Bundle(bare_host, victims, "crun", "rootless")
    asked = capability_sets(0, ())
    bundle.plan(asked, kept(asked))
    bundle.write(0, asked, hook=True)
    done = bundle.run(plain=True)
    assert done.returncode != 0
    assert "error executing hook" in done.stderr
    assert bundle.outcome()["error"].startswith("undumpable: ")
    assert done.stdout == ""


@pytest.mark.parametrize("kind", ["setuid", "fcaps"])
def test_attack_setuid_and_file_capability_entry_points_end_as_natively(
    bare_host: Host, victims: Path, runtime: str, kind: str
) -> None:
    bundle = Bundle(bare_host, victims, runtime, None)
    if kind == "setuid":
        bundle.program.chmod(0o4755)
    else:
        os.setxattr(bundle.program, "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
    asked = capability_sets(1234, ())
    bundle.write(1234, kept(asked), no_new_privs=True, seccomp=NATIVE)
    native = bundle.run(check=True).stdout
    bundle.plan(asked, kept(asked))
    bundle.write(1234, asked, hook=True)
    live = bundle.run(check=True).stdout
    assert live == native
    assert fields(live)["Uid"].split() == ["1234"] * 4
    assert fields(live)["CapPrm"] == "0" * 16


def test_a_live_plan_stacks_on_the_runtime_s_own_filter(bare_host: Host, victims: Path, runtime: str) -> None:
    bundle = Bundle(bare_host, victims, runtime, None)
    asked = capability_sets(0, ())
    bundle.plan(asked, kept(asked))
    own = {**NATIVE, "syscalls": [{"names": ["seccomp", "mmap"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]}
    bundle.write(0, asked, hook=True, no_new_privs=True, seccomp=own)
    seen = fields(bundle.run(check=True).stdout)
    assert (seen["Seccomp_filters"], seen["getppid"]) == ("2", "EPERM")
    assert bundle.outcome()["read_back"]


def test_complain_takes_nothing(bare_host: Host, victims: Path, runtime: str, user: str | None) -> None:
    bundle = Bundle(bare_host, victims, runtime, user)
    asked = capability_sets(0, ())
    bundle.write(0, asked)
    without = fields(bundle.run(check=True).stdout)
    bundle.plan(asked, kept(asked), complain=True)
    bundle.write(0, asked, hook=True)
    seen = fields(bundle.run(check=True).stdout)
    assert (seen.pop("Seccomp"), seen.pop("Seccomp_filters")) == ("2", "1")
    assert (without.pop("Seccomp"), without.pop("Seccomp_filters")) == ("0", "0")
    assert seen == without


def test_the_entry_point_s_first_instruction_is_confined(bare_host: Host, victims: Path, runtime: str) -> None:
    bundle = Bundle(bare_host, victims, runtime, None, "first")
    asked = capability_sets(0, ())
    bundle.write(0, asked)
    assert bundle.run().returncode == 0
    bundle.plan(asked, kept(asked))
    bundle.write(0, asked, hook=True)
    assert bundle.run().returncode == 1


@pytest.mark.parametrize("fate", ["started", "attacher killed", "never started"])
def test_a_created_container_waits_in_its_attacher_s_hands(
    bare_host: Host, victims: Path, runtime: str, fate: str
) -> None:
    bundle = Bundle(bare_host, victims, runtime, None)
    asked = capability_sets(0, ())
    bundle.plan(asked, kept(asked))
    bundle.write(0, asked, hook=True)
    name, output = f"b{bundle.top.name}", bundle.top / "output"
    # The container holds its stdout for as long as it lives: a file, so that create isn't waited for.
    done = bare_host.run(
        ["sh", "-c", f"{runtime} --root {bundle.top}/state create -b {bundle.top} {name} >{output} 2>&1 </dev/null"],
        timeout=20,
    )
    assert done.returncode == 0, output.read_text()
    attacher = json.loads((bundle.top / "outcome.json.attacher").read_text())["attacher"]
    init = json.loads(bundle.call("state", name, check=True).stdout)["pid"]
    assert procfs.status(init).tracer == attacher
    assert procfs.status(init).no_new_privs
    if fate == "started":
        bundle.call("start", name, check=True)
        wait_until(lambda: "getppid:\tEPERM" in output.read_text())
    elif fate == "attacher killed":
        os.kill(attacher, signal.SIGKILL)
        wait_until(lambda: procfs.tasks(init) == [] or procfs.status(init).state in "ZX")
        assert bundle.call("start", name).returncode != 0
        assert "getppid" not in output.read_text()
    bundle.call("delete", "--force", name, check=True)
    wait_until(lambda: procfs.tasks(attacher) == [])
    if fate == "never started":
        assert bundle.outcome()["error"].startswith("never-started")
