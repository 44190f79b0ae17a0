"""What an administrator sets: bindings, modes, what becomes of generic, unknown and undetermined, what is logged."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host.machine import Host, parse_status
from servers.kernel_log import unlimited
from system.support import FHIR, LIVE, PLAIN, SETTINGS, Records, caps, codes, confined, only, tried, watching

PRIVILEGED = ("--privileged",)
Settings = Callable[[str], None]


def _both(
    host: Host, run: Callable[..., Any], tag: str, *words: str, options: tuple[str, ...] = ()
) -> list[tuple[Any, Records]]:
    """The result and the records of a start natively on crun and live on runc."""
    found = []
    for before, runtime in (((), "crun"), (LIVE, "runc")):
        with watching(host) as records:
            done = run(tag, *words, options=options, before=before, runtime=runtime)
        found.append((done, records))
    return found


def _profiles(records: Records) -> list[str]:
    return [profile["name"] for profile in only(records, event="decision")["profile"]]


def test_bindings_by_name_pattern_and_id_come_before_labels(
    host: Host, settings: Settings, run: Callable[..., Any]
) -> None:
    image = host.podman("image", "inspect", "-f", "{{.Id}}", PLAIN, check=True).stdout.strip()
    other = host.derive(PLAIN, "bound/server:1")
    third = host.derive(PLAIN, "bound/tool:1", "--label", "io.fhir-hook.profile=nowhere")
    settings(
        f'[[bind]]\nid = "{image}"\nprofile = "hapi"\n'
        '[[bind]]\nimage = "localhost/bound/s*:?"\nprofile = "test-locked"\n'
        '[[bind]]\nimage = "localhost/bound/tool:1"\nprofile = "test-loose"\nmode = "complain"\n'
        '[[bind]]\nimage = "localhost/probe:hapi"\nprofile = "test-loose"\n'
    )
    for tag, profile, seccomp in (
        (PLAIN, "hapi", "EPERM"), (other, "test-locked", "EPERM"),
        (FHIR, "test-loose", "OK"), (third, "test-loose", "OK"),
    ):  # fmt: skip
        for done, records in _both(host, run, tag, "try", "seccomp", options=PRIVILEGED):
            assert tried(done.stdout) == {"seccomp": seccomp}, tag
            decision = only(records, event="decision")
            assert (_profiles(records), decision["identified_by"]["by"]) == ([profile], "binding")
            assert decision["mode"] == ("complain" if tag == third else "enforce")


def test_a_binding_that_does_not_match_binds_nothing(host: Host, settings: Settings, run: Callable[..., Any]) -> None:
    settings(
        '[[bind]]\nimage = "probe:plain"\nprofile = "hapi"\n[[bind]]\nimage = "localhost/prob"\nprofile = "hapi"\n'
    )
    for done, records in _both(host, run, PLAIN, "status"):
        assert (done.returncode, records) == (0, [])


def _complains(done: Any, records: Records) -> None:
    """Started with all it asked for; the filter is there and denies nothing."""
    status = parse_status(done.stdout)
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "0")
    assert "CAP_SYS_ADMIN" in caps(status)["CapEff"]
    assert tried(done.stdout)["keyctl"] == "OK"
    decision = only(records, event="decision")
    assert (decision["decision"], decision["mode"]) == ("confined", "complain")
    finding = next(item["text"] for item in decision["findings"] if item["code"] == "FH211")
    assert "CAP_SYS_ADMIN" in finding


COMPLAINING = ("sh", "-c", "status; try keyctl")


@pytest.mark.usefixtures("kept")
def test_complain_mode_of_the_host(host: Host, run: Callable[..., Any]) -> None:
    (SETTINGS / "config.toml").write_text('mode = "complain"\n')
    with watching(host) as records:
        host.run(["fhir-hook", "policy", "compile"], check=True)
    assert [record["event"] for record in records] == ["policy", "settings", "mode"]
    assert (records[2]["old"], records[2]["new"]) == ("enforce", "complain")
    for done, records in _both(host, run, FHIR, *COMPLAINING, options=PRIVILEGED):
        _complains(done, records)


def test_complain_mode_of_a_profile(host: Host, run: Callable[..., Any]) -> None:
    tag = host.derive(PLAIN, "named:complain", "--label", "io.fhir-hook.profile=test-complain")
    for done, records in _both(host, run, tag, *COMPLAINING, options=PRIVILEGED):
        _complains(done, records)


def test_complain_mode_never_loosens_what_the_engine_denies(host: Host, run: Callable[..., Any]) -> None:
    tag = host.derive(PLAIN, "named:complain", "--label", "io.fhir-hook.profile=test-complain")
    options = ("--cap-drop=all", "--security-opt", "no-new-privileges")
    for done, _ in _both(host, run, tag, "sh", "-c", "status; try unshare mount", options=options):
        assert confined(parse_status(done.stdout))
        assert tried(done.stdout)["unshare"] == "EPERM"


@pytest.mark.parametrize("path", ["native", "live"])
def test_the_kernel_logs_what_complain_mode_would_have_denied(host: Host, run: Callable[..., Any], path: str) -> None:
    """In the kernel's ring buffer, or with auditd. Its limit, ten in five seconds (printk_ratelimit), is lifted: runc's
    own calls come first."""
    tag = host.derive(PLAIN, "named:complain", "--label", "io.fhir-hook.profile=test-complain")
    assert "log" in Path("/proc/sys/kernel/seccomp/actions_logged").read_text().split()
    mark = f"fhir-hook test {host.directory().name}"
    Path("/dev/kmsg").write_text(mark + "\n")
    with unlimited():
        for _ in range(5):
            run(tag, "firstcall", options=PRIVILEGED, before=LIVE if path == "live" else (), check=True)
            if re.search(r'type=1326 .*comm="firstcall" .*syscall=250 ', _kernel_log(host, mark)):
                return
            time.sleep(2)
    raise AssertionError("the kernel logged none of five keyctl calls")


def _kernel_log(host: Host, mark: str) -> str:
    audit = Path("/var/log/audit/audit.log")
    return host.run(["dmesg"], check=True).stdout.partition(mark)[2] + (audit.read_text() if audit.exists() else "")


def test_what_becomes_of_an_image_that_only_a_generic_profile_fits(
    host: Host, settings: Settings, run: Callable[..., Any]
) -> None:
    tag = host.derive(PLAIN, "only:generic", "--label", "io.fhir-hook.kind=jvm")
    for done, records in _both(host, run, tag, "status", options=PRIVILEGED):
        status = parse_status(done.stdout)
        assert (status["Seccomp"], status["NoNewPrivs"], _profiles(records)) == ("2", "1", ["fhir-jvm"])
        assert set(caps(status)["CapBnd"]) == set(only(records, event="decision")["capabilities"]["left"])
        assert "CAP_SYS_ADMIN" not in caps(status)["CapBnd"]
    settings('generic = "refuse"\n')
    for done, records in _both(host, run, tag, "status"):
        assert (done.returncode, done.stdout) == (126, "")
        assert codes(only(records, event="decision"))[0] == "FH111"
    settings('generic = "complain"\nunknown_profile = "generic"\n')
    for done, records in _both(host, run, tag, *COMPLAINING, options=PRIVILEGED):
        _complains(done, records)
    labels = ("--label", "io.fhir-hook.profile=nowhere", "--label", "io.fhir-hook.kind=jvm")
    unknown = host.derive(PLAIN, "named:nowhere-jvm", *labels)
    for done, records in _both(host, run, unknown, "status"):
        assert done.returncode == 0
        assert _profiles(records) == ["fhir-jvm"]
        assert "FH101" in codes(only(records, event="decision"))


@pytest.mark.usefixtures("kept")
def test_two_profiles_of_equal_rank_are_both_in_force(host: Host, run: Callable[..., Any]) -> None:
    """test-loose's own selector joins hapi's: seccomp(2) is denied by the one, CAP_KILL is lost by the other."""
    path = Path("/etc/fhir-hook/profiles/test-loose.json")
    profile = json.loads(path.read_text())
    profile["match"] = [{"labels": {"org.opencontainers.image.source": {"pattern": "https://github.com/hapifhir/*"}}}]
    path.write_text(json.dumps(profile))
    host.run(["fhir-hook", "policy", "compile"], check=True)
    for done, records in _both(host, run, FHIR, "sh", "-c", "status; try seccomp bpf", options=PRIVILEGED):
        assert confined(parse_status(done.stdout))
        assert {key: tried(done.stdout)[key] for key in ("seccomp", "bpf")} == {"seccomp": "EPERM", "bpf": "EPERM"}
        assert sorted(_profiles(records)) == ["hapi", "test-loose"]
        assert "FH206" in codes(only(records, event="decision"))


def test_all_decisions_are_logged_where_the_settings_say_so(
    host: Host, settings: Settings, run: Callable[..., Any]
) -> None:
    settings('[log]\ndecisions = "all"\n')
    for done, records in _both(host, run, PLAIN, "status"):
        assert parse_status(done.stdout)["NoNewPrivs"] == "0"
        assert [record["decision"] for record in records] == ["ignored"]
