"""Bundles that no engine made, on runc and crun themselves: the hook that `fhir-hook bundle enroll` puts in."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from fhir_hook.store import policy
from host.machine import Host, Result, parse_status, proc_status
from system.support import (
    FHIR,
    PLAIN,
    alive,
    codes,
    confined,
    kernel_state,
    only,
    tried,
    wait_until,
    watching,
)


class Bundle:
    """An enrolled bundle on one runtime, with a state directory of its own."""

    def __init__(self, host: Host, runtime: str, top: Path, user: str | None = None, enrolled: bool = True) -> None:
        self.host, self.runtime, self.top, self.user = host, runtime, top, user
        self.name = f"bundle-{top.parent.name}"
        self.state = host.directory(user)
        self.output = host.directory(user) / "output"
        if enrolled:
            host.run(["fhir-hook", "bundle", "enroll", top], user=user, check=True)

    def argv(self, *words: str | Path) -> list[str | Path]:
        cgroups = ["--cgroup-manager=disabled"] if self.runtime == "crun" and self.user else []
        return [self.runtime, "--root", self.state, *cgroups, *words]

    def call(self, *words: str | Path, **more: Any) -> Result:
        return self.host.run(self.argv(*words), user=self.user, timeout=60, **more)

    def run(self, **more: Any) -> Result:
        return self.call("run", "-b", self.top, self.name, **more)

    def create(self) -> int:
        """Create without starting; the container keeps a file as its stdout. Returns its first process."""
        words = " ".join(str(word) for word in self.argv("create", "-b", self.top, self.name))
        done = self.host.run(["sh", "-c", f"{words} >{self.output} 2>&1 </dev/null"], user=self.user, timeout=60)
        assert done.returncode == 0, self.output.read_text()
        return int(json.loads(self.call("state", self.name, check=True).stdout)["pid"])

    def delete(self) -> None:
        self.call("delete", "--force", self.name)

    def edit(self, **members: Any) -> None:
        """Replace members of config.json."""
        path = self.top / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **members}))


def test_an_umoci_bundle_is_confined_and_read_back(host: Host, runtime: str) -> None:
    bundle = Bundle(host, runtime, host.bundle(FHIR, "/bin/status"))
    with watching(host) as records:
        done = bundle.run(check=True)
    assert confined(parse_status(done.stdout))
    decision, outcome = only(records, event="decision"), only(records, event="outcome")
    assert (decision["path"], decision["image"]["source"]) == ("live", "annotations")
    assert (outcome["seen"], outcome["seccomp"]["filters_after"]) == ("kernel", 1)
    body = policy.Body(policy.load_index())
    program = b64decode(body.programs("hapi", "x86_64")["enforce"])
    body.close()
    assert decision["seccomp"]["filters"] == [hashlib.sha256(program).hexdigest()]


def test_a_bundle_made_by_hand_names_its_profile(host: Host, runtime: str) -> None:
    top = host.directory() / "bundle"
    (top / "rootfs").mkdir(parents=True)
    host.run(["cp", "-a", host.images.program("status"), host.images.program("try"), top / "rootfs"], check=True)
    host.run(["runc", "spec", "-b", top], check=True)
    bundle = Bundle(host, runtime, top)
    spec = json.loads((top / "config.json").read_text())
    process = {**spec["process"], "terminal": False, "args": ["/try", "keyctl", "unshare", "getpid"], "rlimits": []}
    bundle.edit(process=process, annotations={"io.fhir-hook.profile": "hapi"})
    done = bundle.run(check=True)
    assert tried(done.stdout) == {"keyctl": "EPERM", "unshare": "EPERM", "getpid": "OK"}


def test_an_ordinary_user_s_bundle_is_confined_on_runc(host: Host) -> None:
    bundle = Bundle(host, "runc", host.bundle(FHIR, "/bin/status", user="rootless"), "rootless")
    with watching(host, "rootless") as records:
        done = bundle.run(check=True)
    assert confined(parse_status(done.stdout))
    assert codes(only(records, event="outcome")) == ["FH210"]


def test_an_ordinary_user_s_bundle_is_refused_on_plain_crun_whose_init_can_not_be_traced(host: Host) -> None:
    """crun is undumpable: outside of an engine's user namespace only the host's CAP_SYS_PTRACE may trace it."""
    bundle = Bundle(host, "crun", host.bundle(FHIR, "/bin/status", user="rootless"), "rootless")
    with watching(host, "rootless") as records:
        done = bundle.run()
    assert done.returncode != 0
    assert done.stdout == ""
    assert codes(only(records, event="outcome", decision="refused")) == ["FH106"]


def test_create_without_start_waits_confined_and_starts_later(host: Host, runtime: str) -> None:
    bundle = Bundle(host, runtime, host.bundle(FHIR, "sleeper"))
    with watching(host) as records:
        pid = bundle.create()
        attacher = int(proc_status(pid)["TracerPid"])
        assert proc_status(attacher)["Name"] == "fhir-attach"
        time.sleep(0.5)
        assert [record["event"] for record in host.records()[-1:]] == ["decision"]
        bundle.call("start", bundle.name, check=True)
        wait_until(lambda: "ready" in bundle.output.read_text(), "the program's first output")
    assert confined(kernel_state(pid))
    assert proc_status(pid)["TracerPid"] == "0"
    assert not alive(attacher)
    assert only(records, event="outcome")["seen"] == "kernel"
    bundle.delete()


def test_attack_killing_the_attacher_of_a_created_container_kills_the_container(host: Host, runtime: str) -> None:
    bundle = Bundle(host, runtime, host.bundle(FHIR, "sleeper"))
    pid = bundle.create()
    os.kill(int(proc_status(pid)["TracerPid"]), signal.SIGKILL)
    wait_until(lambda: not alive(pid), "the end of the container's first process")
    assert bundle.call("start", bundle.name).returncode != 0
    assert "ready" not in bundle.output.read_text()
    bundle.delete()


@pytest.mark.parametrize("end", ["killed", "deleted"])
def test_a_created_container_that_never_starts_leaves_no_attacher(host: Host, runtime: str, end: str) -> None:
    bundle = Bundle(host, runtime, host.bundle(FHIR, "sleeper"))
    pid = bundle.create()
    attacher = int(proc_status(pid)["TracerPid"])
    with watching(host) as records:
        if end == "killed":
            os.kill(pid, signal.SIGKILL)
        bundle.delete()
        wait_until(lambda: not alive(attacher), "the attacher's end")
    assert records == [], "nothing ran, so nothing was refused"


def test_an_enrolled_bundle_of_another_image_starts_as_if_it_were_not(host: Host, runtime: str) -> None:
    top = host.bundle(PLAIN, "/bin/status")
    without = Bundle(host, runtime, top, enrolled=False).run(check=True).stdout
    with watching(host) as records:
        assert Bundle(host, runtime, top).run(check=True).stdout == without
    assert records == []


def test_enroll_adds_one_entry_keeps_the_rest_and_can_be_undone(host: Host) -> None:
    top = host.bundle(PLAIN)
    config = top / "config.json"
    other = {"path": "/bin/true"}
    original = {**json.loads(config.read_text()), "hooks": {"prestart": [other], "poststop": [other]}, "x": [1.5, None]}
    config.write_text(json.dumps(original))
    for _ in range(2):
        host.run(["fhir-hook", "bundle", "enroll", top], check=True)
    enrolled = json.loads(config.read_text())
    assert [entry["path"] for entry in enrolled["hooks"]["prestart"]] == ["/bin/true", "/usr/libexec/fhir-hook/hook"]
    assert enrolled["hooks"]["prestart"][1]["env"], "an entry without env inherits its caller's environment"
    host.run(["fhir-hook", "bundle", "enroll", "--undo", top], check=True)
    assert json.loads(config.read_text()) == original
    config.write_text('{"ociVersion": ')
    done = host.run(["fhir-hook", "bundle", "enroll", top])
    assert (done.returncode, done.stdout) == (3, "")
    assert str(config) in done.stderr
    assert config.read_text() == '{"ociVersion": '


def test_exec_into_a_live_container_keeps_only_the_engine_s_filter_and_the_record_says_so(
    host: Host, runtime: str
) -> None:
    """A stated limit of the live path: a filter attached by ptrace is not inherited by what exec starts later."""
    bundle = Bundle(host, runtime, host.bundle(FHIR, "sleeper"))
    with watching(host) as records:
        pid = bundle.create()
        bundle.call("start", bundle.name, check=True)
        wait_until(lambda: "ready" in bundle.output.read_text(), "the program's first output")
    assert confined(kernel_state(pid))
    inside = parse_status(bundle.call("exec", bundle.name, "/bin/status", check=True).stdout)
    assert inside["Seccomp"] == "0"
    assert "FH209" in codes(only(records, event="decision"))
    bundle.delete()
