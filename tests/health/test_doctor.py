"""fhir-hook doctor on the installed product: each thing that can break is broken, and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host.machine import USER, Host

PLACES = (
    "/usr/lib/fhir-hook", "/usr/libexec/fhir-hook", "/usr/share/fhir-hook", "/usr/share/containers", "/etc/containers",
    "/etc/fhir-hook", "/var/lib/fhir-hook", "/var/log/fhir-hook",
)  # fmt: skip
HOOK = "/usr/libexec/fhir-hook/hook"
SHARED = "/usr/share/containers/oci/hooks.d"
PRIVATE = "/usr/share/fhir-hook/podman-hooks.d"
DROPINS = "/etc/containers/containers.conf.d"
LOG = "/var/log/fhir-hook/decisions.jsonl"
CODE = '"$(sed -n \'s/.*"\\(.*\\)".*/\\1/p\' ' + HOOK + ')"'
HOME = f"$(getent passwd {USER} | cut -d: -f6)"
PACKAGES = "/usr/lib/python3/dist-packages"

# Rounds of things that can break at once without one hiding the other. Each: what breaks it, the check that names it,
# and a part of what it says.
BAD = {
    "launcher gone": [
        (f"rm {HOOK}", "files.launcher", "No such file"),
        (f"rm {SHARED}/50-fhir-hook.json", "hook.prestart", "No such file"),
        (f"rm {PRIVATE}/50-fhir-hook.json", "hook.precreate", "No such file"),
        (f"rm {DROPINS}/50-fhir-hook.conf", "podman.hooks_dir", "is missing"),
        ("rm /var/lib/fhir-hook/selectors*.json", "policy.readable", "selectors.json"),
        ("mount -t tmpfs -o mode=777 none /var/log/fhir-hook", "log.writable", "can be written by others"),
    ],
    "launcher not executable": [
        (f"chmod 644 {HOOK}", "files.launcher", "can't be executed"),
        (f"sed -i 's/\"always\": true/\"always\": false/' {SHARED}/50-fhir-hook.json",
         "hook.prestart", "not the prestart"),
        (f"sed -i s,libexec,elsewhere, {PRIVATE}/50-fhir-hook.json", "hook.precreate", "it names /usr/elsewhere"),
        (f"printf '[engine]\\nhooks_dir = [\"/opt/hooks\"]\\n' >{DROPINS}/90-site.conf",
         "podman.hooks_dir", "90-site.conf"),
        ("echo x >/var/lib/fhir-hook/selectors.json", "policy.readable", "selectors.json"),
        ("mount -t tmpfs -o size=1m,mode=750 none /var/log/fhir-hook", "log.writable", "MiB left"),
    ],
    "launcher changed": [
        (f"sed -i '1s/ -IS//' {HOOK}", "files.launcher", "begins with"),
        (f"chmod o+w {HOOK}", "files.owner", "hook can be written by others"),
        ("chmod g+w /usr/share/fhir-hook", "files.owner", "/usr/share/fhir-hook can be written"),
        (f"echo '[engine' >{DROPINS}/40-half.conf", "podman.hooks_dir", "40-half.conf"),
        ("for f in /var/lib/fhir-hook/policy-*; do printf '%1000s' >$f; done", "policy.readable", "damaged"),
        (f"rm {LOG}; mkfifo {LOG}", "log.writable", "not a regular file"),
    ],
    "launcher of code that is gone": [
        (f"sed -i s,lib/fhir-hook,lib/gone, {HOOK}", "files.launcher", "holds no hook"),
        ("rm /usr/libexec/fhir-hook/refused/FH101-*", "files.refused", "FH101-profile-not-installed"),
        (f"mkdir /opt/hooks; cp {SHARED}/50-fhir-hook.json /opt/hooks; "
         f"printf '[engine]\\nhooks_dir = [\"{PRIVATE}\", \"/opt/hooks\"]\\n' >{DROPINS}/90-site.conf",
         "podman.hooks_dir", "/opt/hooks/50-fhir-hook.json replaces"),
        ("chmod o+w /var/lib/fhir-hook/selectors*.json", "policy.readable", "can be written by others"),
        ("mount --bind -o ro /var/log/fhir-hook /var/log/fhir-hook && mount -o remount,bind,ro /var/log/fhir-hook",
         "log.writable", "can't be written"),
    ],
    "module broken": [
        (f"echo 'x = (' >>{CODE}/fhir_hook/hook/precreate.py", "hook.starts", "fails"),
        (f"chown {USER} {CODE}/fhir_hook/hook/main.py", "files.owner", "belongs to user"),
        (f"mkdir -p {HOME}/.config/containers; "
         f"printf '[engine]\\nhooks_dir = []\\n' >{HOME}/.config/containers/containers.conf",
         "podman.rootless", "/.config/containers/containers.conf hides"),
        ("export CONTAINERS_CONF=/etc/containers/containers.conf", "podman.says", "podman itself says"),
        (f"echo '{{' >{SHARED}/60-other.json", "hooks.others", "60-other.json"),
        ("mkdir -p /etc/crio/crio.conf.d; printf '[crio.runtime]\\nhooks_dir = [\"/opt/hooks\"]\\n' "
         ">/etc/crio/crio.conf.d/10-site.conf", "crio.hooks_dir", "10-site.conf"),
        ("echo 'mode = \"complain\"' >/etc/fhir-hook/config.d/50-new.toml", "policy.fresh", "changed since"),
        (f"for i in 1 2 3; do fhir-hook host event installed; done; sed -i 2d {LOG}", "log.chain", "line 2"),
    ],
    "setting wrong": [
        ("fhir-hook host disable --reason 'a test' >/dev/null", "hook.enabled", "a test"),
        ("echo 'mode = \"lenient\"' >/etc/fhir-hook/config.d/50-new.toml", "policy.fresh", "50-new.toml"),
        ("mkdir -p /tmp/k/yama /tmp/k/seccomp /tmp/k/random; cp /proc/sys/kernel/seccomp/* /tmp/k/seccomp; "
         "cd /proc/sys/kernel; cp random/boot_id /tmp/k/random; cp cap_last_cap pid_max overflow* /tmp/k; cd /; "
         "echo 3 >/tmp/k/yama/ptrace_scope; echo allow errno >/tmp/k/seccomp/actions_avail; "
         "mount --bind /tmp/k /proc/sys/kernel", "kernel.ptrace", "ptrace_scope is 3"),
        ("true", "kernel.seccomp", "lacks kill_process"),
        (f"for f in {PACKAGES}/_prctl*; do mount --bind /dev/null $f; done", "python.prctl", "can't import"),
    ],
    "profile wrong": [
        ("echo '{' >/etc/fhir-hook/profiles/new.json", "policy.fresh", "new.json"),
        (f"for i in 1 2 3; do fhir-hook host event installed; done; sed -i '2s/installed/removed/' {LOG}",
         "log.chain", "line 3"),
    ],
    "libseccomp gone": [
        ("for f in /usr/lib/*/libseccomp.so.2; do mount --bind /dev/null $(realpath $f); done",
         "libseccomp.version", "missing"),
    ],
}  # fmt: skip
NOTES = [
    (f"find {CODE} -name '*.pyc' -delete; export PYTHONDONTWRITEBYTECODE=1", "files.bytecode", "are not compiled"),
    ("mkdir /usr/lib/fhir-hook/0.0.1-00000000", "files.versions", "0.0.1-00000000"),
    ("echo 'mode = \"complain\"' >/etc/fhir-hook/config.d/50-new.toml; fhir-hook policy compile >/dev/null",
     "policy.mode", "this host"),
    ("install -m 755 /bin/true /usr/local/bin/runsc", "runtime.runsc", "is installed"),
    ("install -m 755 /bin/true /usr/local/bin/dockerd", "engine.dockerd", "is installed"),
    ("echo 0 >/tmp/none; mount --bind /tmp/none /proc/sys/user/max_user_namespaces", "rootless.maps", "is 0"),
    ("echo errno >/tmp/few; mount --bind /tmp/few /proc/sys/kernel/seccomp/actions_logged", "kernel.logged", "log"),
    ("mount --bind /dev/null /usr/bin/podman", "engine.podman", "not here"),
]  # fmt: skip

Doctor = Callable[..., dict[str, Any]]


@pytest.fixture
def doctor(host: Host) -> Iterator[Doctor]:
    """Runs a command in a mount namespace of its own and then the doctor; afterwards all is put back."""
    kept = host.directory()
    for place in PLACES:
        host.run(["cp", "-a", place, kept / place.replace("/", "_")], check=True)
    config = host.home("rootless") / ".config"

    def call(breaking: str = "true", *options: str, user: str | None = None) -> dict[str, Any]:
        script = f"{breaking}; exec fhir-hook doctor --json {' '.join(options)}"
        words = ["bash", "-c", script] if user else ["unshare", "-m", "bash", "-c", script]
        done = host.run(words, user=user)
        assert done.stdout.startswith("{"), done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if said["healthy"] else 1)
        return said

    yield call
    for place in PLACES:
        host.run(["find", place, "-mindepth", "1", "-delete"], check=True)
        host.run(["cp", "-a", f"{kept / place.replace('/', '_')}/.", place], check=True)
    for made in ("/opt/hooks", "/etc/crio", str(config)):
        shutil.rmtree(made, ignore_errors=True)
    for made in ("runsc", "dockerd"):
        Path("/usr/local/bin", made).unlink(missing_ok=True)


def named(said: dict[str, Any], level: str) -> dict[str, str]:
    """What was said at a level, by check."""
    found: dict[str, str] = {}
    for finding in said["findings"]:
        if finding["level"] == level:
            found[finding["check"]] = f"{found.get(finding['check'], '')}\n{finding['seen']}"
    return found


def test_a_host_after_installation_is_healthy_for_root_and_for_others(doctor: Doctor) -> None:
    said = doctor()
    assert said["healthy"], named(said, "bad")
    assert said["root"]
    other = doctor(user="rootless")
    assert other["healthy"], named(other, "bad")
    assert not other["root"]


@pytest.mark.parametrize("name", BAD)
def test_what_is_broken_is_named_with_the_reason_and_the_repair(doctor: Doctor, name: str) -> None:
    said = doctor("; ".join(breaking for breaking, _, _ in BAD[name]))
    assert not said["healthy"]
    found = named(said, "bad")
    assert [(check, part) for _, check, part in BAD[name] if part not in found.get(check, "")] == [], found
    assert all(f["why"] and f["repair"] for f in said["findings"] if f["level"] == "bad")


def test_what_is_worth_knowing_is_named_and_the_host_stays_healthy(doctor: Doctor) -> None:
    said = doctor("; ".join(breaking for breaking, _, _ in NOTES))
    assert said["healthy"], named(said, "bad")
    found = named(said, "note")
    assert [(check, part) for _, check, part in NOTES if part not in found.get(check, "")] == [], found


def test_a_fhir_container_that_was_started_around_the_hook_is_found(
    host: Host, doctor: Doctor, start: Callable[..., str], runtime: str, user: str | None
) -> None:
    tag = host.load("probe:hapi", user)
    start(tag, "--name", f"kept-{runtime}", command=["sleeper"], runtime=runtime, user=user)
    assert doctor()["healthy"]
    id = start(tag, "--name", f"around-{runtime}", command=["sleeper"], runtime=runtime, user=user, hooks=False)
    said = doctor()
    found = [f for f in said["findings"] if f["check"] == "containers.confined"]
    assert [f["level"] for f in found] == ["bad"]
    assert f"around-{runtime} ({id[:12]})" in found[0]["seen"]


def test_the_repair_that_it_names_repairs_a_drop_in_and_a_hook_that_are_gone(host: Host, doctor: Doctor) -> None:
    said = doctor(f"rm {DROPINS}/50-fhir-hook.conf {SHARED}/50-fhir-hook.json")
    repairs = {f["repair"] for f in said["findings"] if f["check"] in ("podman.hooks_dir", "hook.prestart")}
    assert repairs == {"fhir-hook host refresh"}
    assert doctor("fhir-hook host refresh >/dev/null")["healthy"]


def test_the_probe_starts_a_fhir_container_and_another_one_on_each_runtime(doctor: Doctor, user: str | None) -> None:
    said = doctor("true", "--probe", user=user)
    found = named(said, "good")
    assert {f"probe.{r}.{kind}" for r in ("runc", "crun") for kind in ("fhir", "other")} <= found.keys(), said


def test_the_probe_sees_a_fhir_container_that_runs_unconfined(doctor: Doctor) -> None:
    said = doctor("fhir-hook host disable --reason test >/dev/null", "--probe")
    assert "ran unconfined" in named(said, "bad")["probe.runc.fhir"]
