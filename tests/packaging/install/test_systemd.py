"""Under a real systemd: the units start, work under their own restrictions, follow an upgrade, and go with the package.

Root's containers run on runc here: crun wants to raise a limit that a machine of tests may have taken away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from booted import SYSTEMD, Booted
from packaging_root import FHIR, PLAIN, RENAMED, UID, USER, Packages, confined, untouched

from host.machine import Host

SERVICES = ["fhir-hook-collect", "fhir-hook-log", "fhir-hook-policy", "fhir-hook-watch"]
STANDING = [
    "fhir-hook-collect.socket",
    "fhir-hook-log.timer",
    "fhir-hook-policy.path",
    "fhir-hook-policy.timer",
    "fhir-hook-watch.service",
]
USERS = ["fhir-hook-send.path", "fhir-hook-send.timer"]
DROPIN = "/etc/containers/containers.conf.d/50-fhir-hook.conf"
SHARED = "/usr/share/containers/oci/hooks.d/50-fhir-hook.json"
# What a service says when its sandbox keeps something from it.
KEPT_FROM = re.compile(r"Permission denied|Operation not permitted|Read-only file system|Traceback|code=killed", re.I)


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def suite(request: pytest.FixtureRequest) -> str:
    """Debian 12 and 13: systemd 252 and 257."""
    return str(request.param)


@pytest.fixture(scope="module")
def booted(bare_host: Host, suite: str, packages: Packages) -> Iterator[Booted]:
    """A root that runs systemd, in which the package was installed by apt while a user was logged in."""
    root = Booted(suite, bare_host)
    root.apt("install", *SYSTEMD)
    root.boot()
    root.load_images()
    root.apt("install", root.share(packages.deb()))
    # the drop-in that was just written is an edit, too
    root.until(lambda: "nothing changed" in root.journal("-u", "fhir-hook-policy.service"), "nobody looks at edits")
    at_rest(root)
    yield root
    root.close()


def active(root: Booted, *units: str, user: str | None = None) -> list[str]:
    """Each unit's state."""
    words = ["systemctl", *(["--user"] if user else []), "is-active", *units]
    return root.run(words, user=user, check=False).stdout.split()


def at_rest(root: Booted) -> None:
    """Wait until the path unit looks again: it misses an edit between the service's last look and its end."""
    root.until(lambda: root.show("fhir-hook-policy.path", "SubState") == "waiting", "the service does not end")


def in_force(root: Booted) -> str:
    return root.run(["fhir-hook", "policy", "show"], check=False).stdout


def test_apt_install_starts_the_units_of_the_host_and_of_users_who_are_logged_in(booted: Booted) -> None:
    assert active(booted, *STANDING) == ["active"] * 4
    assert active(booted, *USERS, user=USER) == ["active"] * 2
    assert booted.run(["systemctl", "list-units", "--failed", "--no-legend", "--plain", "fhir-hook*"]).stdout == ""
    assert confined(booted.state(FHIR)) and untouched(booted.state(PLAIN))
    assert booted.run(["fhir-hook", "doctor"], check=False).returncode == 0


def test_every_services_exposure_is_below_2(booted: Booted) -> None:
    for name in SERVICES:
        said = booted.run(["systemd-analyze", "security", "--no-pager", f"{name}.service"]).stdout
        found = re.search(r"exposure level for \S+: ([\d.]+)", said)
        assert found is not None and float(found[1]) < 2.0, said.splitlines()[-1]


def test_an_edited_profile_is_compiled_with_nobody_doing_anything(booted: Booted) -> None:
    document = json.loads(booted.read("/usr/share/fhir-hook/profiles/fhir-jvm.json"))
    document = {key: value for key, value in document.items() if key not in ("match", "generic")}
    booted.write("/etc/fhir-hook/profiles/site.json", json.dumps({**document, "name": "site"}))
    booted.until(lambda: "site" in in_force(booted), "the edit is not compiled")
    at_rest(booted)
    booted.run(["rm", "/etc/fhir-hook/profiles/site.json"])
    booted.until(lambda: "site" not in in_force(booted), "the removal is not compiled")
    at_rest(booted)


def test_a_wrong_edit_keeps_the_policy_and_is_in_the_journal_doctor_and_the_log(booted: Booted) -> None:
    before = in_force(booted).splitlines()[0]
    booted.write("/etc/fhir-hook/config.d/50-wrong.toml", 'mode = "lenient"\n')
    try:
        booted.until(lambda: active(booted, "fhir-hook-policy.service") == ["failed"], "the wrong edit is not seen")
        assert "50-wrong.toml: mode: 'lenient'" in booted.journal("-u", "fhir-hook-policy.service")
        assert "50-wrong.toml" in booted.run(["fhir-hook", "doctor"], check=False).stdout
        assert [r for r in booted.records() if r["event"] == "policy"][-1]["result"] == "refused"
        assert in_force(booted).splitlines()[0] == before
        assert confined(booted.state(FHIR)) and untouched(booted.state(PLAIN))
    finally:
        at_rest(booted)
        booted.run(["rm", "/etc/fhir-hook/config.d/50-wrong.toml"])
    booted.until(lambda: active(booted, "fhir-hook-policy.service") == ["inactive"], "the repair is not seen")


def test_a_drop_in_that_somebody_removes_is_put_back(booted: Booted) -> None:
    at_rest(booted)
    text = booted.read(DROPIN)
    booted.run(["rm", DROPIN])
    booted.until(lambda: booted.exists(DROPIN), "the drop-in is not put back")
    assert booted.read(DROPIN) == text


def test_a_user_who_never_started_a_container_has_nothing_that_fails(booted: Booted) -> None:
    booted.run(["systemctl", "--user", "start", "fhir-hook-send.service"], user=USER)
    assert active(booted, "fhir-hook-send.service", user=USER) == ["inactive"]


def test_a_users_decision_reaches_the_hosts_log_through_the_socket_activated_collector(booted: Booted) -> None:
    booted.run(["systemctl", "stop", "fhir-hook-collect.service"])
    assert active(booted, "fhir-hook-collect.socket", "fhir-hook-collect.service") == ["active", "inactive"]
    assert confined(booted.state(FHIR, "--name", "of-a-user", user=USER))
    booted.until(lambda: "of-a-user" in booted.run(["fhir-hook", "log"]).stdout, "the user's decision does not come")
    assert active(booted, "fhir-hook-collect.service") == ["active"]
    assert active(booted, "fhir-hook-send.service", user=USER) != ["failed"]
    assert f"user {UID}" in " ".join(booted.run(["fhir-hook", "log"]).stdout.split())


def test_the_log_is_signed_by_the_timers_service(booted: Booted) -> None:
    booted.run(["systemctl", "start", "fhir-hook-log.service"])
    assert booted.show("fhir-hook-log.service", "Result") == "success"
    assert booted.show("fhir-hook-log.timer", "NextElapseUSecMonotonic") not in ("", "0", "infinity")
    assert booted.run(["fhir-hook", "log", "verify"]).returncode == 0


def test_edits_that_come_while_one_is_compiled_are_not_lost(booted: Booted) -> None:
    """A path unit looks at nothing while its service runs (systemd.path(5)); tools copy many files in a row."""
    for delay in (0, 0.1, 0.2):
        booted.run(["sleep", str(delay)])
        booted.write("/etc/fhir-hook/config.d/60-last.toml", f'names = "plain"\n# {delay}\n')
    booted.write("/etc/fhir-hook/config.d/60-last.toml", 'undetermined = "refuse"\n')
    booted.until(lambda: "undetermined = refuse" in in_force(booted), "the last edit was lost")
    at_rest(booted)
    booted.run(["rm", "/etc/fhir-hook/config.d/60-last.toml"])
    booted.until(lambda: "undetermined = start" in in_force(booted), "the removal was lost")
    at_rest(booted)


def test_what_the_kernel_says_of_containers_is_written_by_the_watcher(booted: Booted) -> None:
    """Complaining ones are in the kernel's log; of an enforced one's denials it says nothing, which is on record."""
    tried = ["run", "--rm", "--network", "none", FHIR, "try", "keyctl", "unshare_user"]
    assert "EPERM" in booted.podman(*tried, check=True).stdout
    booted.until(lambda: "unobservable" in whats(booted), "the watcher says nothing of a container")
    booted.write("/etc/fhir-hook/config.d/40-mode.toml", 'mode = "complain"\n')
    try:
        booted.until(lambda: "mode = complain" in in_force(booted), "the edit is not compiled")
        booted.podman(*tried, check=True)
        booted.until(lambda: "denied" in whats(booted), "no denial is written")
    finally:
        at_rest(booted)
        booted.run(["rm", "/etc/fhir-hook/config.d/40-mode.toml"])
        booted.until(lambda: "mode = enforce" in in_force(booted), "the removal is not compiled")


def whats(root: Booted) -> set[str]:
    """What the records of the watcher are of."""
    found = {r["what"] for r in root.records() if r["event"] == "watch"}
    return found | {"denied" for r in root.records() if r["event"] == "denial"}


def test_units_of_podman_start_confined_containers(booted: Booted) -> None:
    """generate systemd (Podman 4.3 has nothing newer) and quadlet, started by systemd itself."""
    if booted.exists("/usr/lib/systemd/system-generators/podman-system-generator"):
        text = (
            f"[Container]\nImage=localhost/{FHIR}\nExec=sleeper\nNetwork=none\nContainerName=served\n"
            "GlobalArgs=--runtime=runc\nPodmanArgs=--pids-limit=0\n"
        )
        booted.write("/etc/containers/systemd/served.container", text)
    else:
        booted.podman("create", "--network", "none", "--name", "served", FHIR, "sleeper", check=True)
        text = booted.podman("generate", "systemd", "--new", "--name", "served", check=True).stdout
        booted.podman("rm", "served", check=True)
        booted.write("/etc/systemd/system/served.service", text)
    booted.run(["systemctl", "daemon-reload"])
    try:
        booted.run(["systemctl", "start", "served.service"])
        pid = booted.podman("inspect", "-f", "{{.State.Pid}}", "served", check=True).stdout.strip()
        assert "NoNewPrivs:\t1" in booted.read(f"/proc/{pid}/status")
        booted.run(["systemctl", "restart", "served.service"])
        pid = booted.podman("inspect", "-f", "{{.State.Pid}}", "served", check=True).stdout.strip()
        assert "NoNewPrivs:\t1" in booted.read(f"/proc/{pid}/status")
    finally:
        booted.run(["systemctl", "stop", "served.service"])


def test_podmans_socket_activated_rest_service_starts_confined_containers(booted: Booted) -> None:
    booted.run(["systemctl", "start", "podman.socket"])
    said = ""
    for tag in (FHIR, PLAIN):
        words = ["podman", "--remote", "--url", "unix:///run/podman/podman.sock", "create", "--network", "none",
                 "--name", "over-rest", tag, "status"]  # fmt: skip
        # the service's runtime is the one of containers.conf
        booted.write("/etc/containers/containers.conf.d/20-runc.conf", '[engine]\nruntime = "runc"\n')
        try:
            booted.run(words)
            said += booted.run([*words[:4], "start", "-a", "over-rest"]).stdout
        finally:
            booted.run([*words[:4], "rm", "-f", "over-rest"])
            booted.run(["rm", "/etc/containers/containers.conf.d/20-runc.conf"])
    assert re.findall(r"NoNewPrivs:\s(\d)", said) == ["1", "0"]


def test_an_upgrade_leaves_no_service_on_the_old_code_and_no_container_changed(
    booted: Booted, packages: Packages
) -> None:
    booted.run(["systemctl", "start", "fhir-hook-collect.service"])
    for name, tag in (("kept-fhir", FHIR), ("kept-other", PLAIN)):
        booted.podman("run", "-d", "--network", "none", "--name", name, tag, "sleeper", check=True)
    before = [booted.show(f"{name}.service", "MainPID") for name in ("fhir-hook-collect", "fhir-hook-watch")]
    booted.dpkg("-i", booted.share(packages.deb("0.2.0", RENAMED)))
    after = [booted.show(f"{name}.service", "MainPID") for name in ("fhir-hook-collect", "fhir-hook-watch")]
    assert not set(before) & set(after), "a service still has the modules of the version before"
    assert active(booted, *STANDING) == ["active"] * 4
    assert f"CapBnd:\t{'0' * 16}" in booted.podman("exec", "kept-fhir", "status", check=True).stdout
    assert "CapBnd:\t00000000800405fb" in booted.podman("exec", "kept-other", "status", check=True).stdout
    booted.podman("rm", "-f", "-t", "0", "kept-fhir", "kept-other", check=True)
    assert confined(booted.state(FHIR, "--name", "after-upgrade", user=USER))
    booted.until(lambda: "after-upgrade" in booted.run(["fhir-hook", "log"]).stdout, "the collector lost a decision")
    booted.apt("install", "--allow-downgrades", booted.share(packages.deb()))
    assert active(booted, *STANDING) == ["active"] * 4
    assert confined(booted.state(FHIR)) and untouched(booted.state(PLAIN))


def test_no_unit_was_kept_from_anything_by_its_restrictions(booted: Booted) -> None:
    for name in SERVICES:
        said = booted.journal("-u", f"{name}.service")
        assert said, f"{name} never ran"
        assert not KEPT_FROM.search(said), said


def test_after_a_removal_no_unit_puts_back_what_engines_read(booted: Booted, packages: Packages) -> None:
    """The path unit watches the directory of the drop-in, which goes with the package."""
    for _ in range(3):
        booted.apt("remove", "fhir-hook")
        booted.run(["sleep", "1"])
        assert not booted.exists(DROPIN) and not booted.exists(SHARED)
        assert untouched(booted.state(FHIR)) and untouched(booted.state(PLAIN))
        booted.dpkg("-i", booted.share(packages.deb()))
        assert confined(booted.state(FHIR))


def test_a_purge_leaves_no_unit_and_no_process(booted: Booted) -> None:
    booted.apt("purge", "fhir-hook")
    booted.run(["systemctl", "reset-failed"])
    said = booted.run(["systemctl", "list-unit-files", "fhir-hook*", "--no-legend"], check=False).stdout
    said += booted.run(["systemctl", "list-units", "--all", "fhir-hook*", "--state=active", "--no-legend"]).stdout
    words = ["systemctl", "--user", "list-unit-files", "fhir-hook*", "--no-legend"]
    said += booted.run(words, user=USER, check=False).stdout
    assert said == "" and set(active(booted, *USERS, user=USER)) == {"inactive"}
    assert booted.run(["find", "/etc/systemd", "/var/lib/systemd", "/run", "-name", "*fhir-hook*"]).stdout == ""
    assert booted.run(["pgrep", "-f", "bin/fhir-hook"], check=False).stdout == ""
    assert booted.run(["systemctl", "list-units", "--failed", "--no-legend", "--plain", "fhir-hook*"]).stdout == ""
