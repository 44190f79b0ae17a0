"""The shipped profiles against what was recorded of real servers, and the numbers they promise."""

from __future__ import annotations

import json

import pytest

from authoring.sandbox import SHIPPED
from fhir_hook.authoring import expand
from fhir_hook.authoring.source import RUNTIME_BASES, Source, Sources, load_sources

RECORDINGS = SHIPPED / "recordings"

def named_recordings() -> list[tuple[str, str]]:
    """Each profile with each recording that its provenance names."""
    found = []
    for path in sorted(SHIPPED.glob("*.json")):
        for entry in json.loads(path.read_text()).get("provenance", {}).get("recordings", []):
            found += [(path.stem, entry["recording"])] if "recording" in entry else []
    return found


STANDS_ON = named_recordings()
# A generic profile holds every server of its kind: also those that have a profile of their own.
HELD_TOO = [
    ("fhir-jvm", "keycloak-26.7.3"),
    ("fhir-jvm", "keycloak-26.7.3-tracefs"),
    ("fhir-native", "helios-hfs-0.2.7"),
]
# Recorded calls that are denied, with the answer on which the caller does something else (see groups/fall-backs.json);
# None: the profile's own default, for what is only called after another call has succeeded.
FALLS_BACK = {
    "clone3": 38, "copy_file_range": 38, "mremap": 38, "set_robust_list": 38, "nanosleep": 38, "get_mempolicy": 38,
    "fadvise64": 38, "sendfile": 22, "timer_create": 38, "timer_settime": None, "timer_delete": None,
}  # fmt: skip
# The same, denied by one profile to keep its promise.
FALLS_BACK_IN = {
    "ibm-fhir": {"getppid": 38, "clock_getres": 38},
    "fhirstarter": {"sysinfo": 1},
    "helios": {"sysinfo": 1},
}
# Only the runtimes (exec), a shell by exec and --init need these groups.
EXEC_AND_INIT = (*RUNTIME_BASES, "shell", "container-init")


def recorded(name: str, *phases: str) -> set[str]:
    """The calls of a recording, in these phases or in all."""
    seen: dict[str, list[str]] = json.loads((RECORDINGS / f"{name}.json").read_text())["phases"]
    return {call for phase, calls in seen.items() if not phases or phase in phases for call in calls}


@pytest.fixture(scope="module")
def sources() -> Sources:
    return load_sources(SHIPPED)


def allowed(sources: Sources, name: str, arch: str = "x86_64") -> set[str]:
    return expand.gather(sources, sources.profiles[name], arch).allowed


@pytest.mark.parametrize(("profile", "server"), STANDS_ON + HELD_TOO)
def test_every_recorded_call_is_allowed_or_has_a_fall_back(sources: Sources, profile: str, server: str) -> None:
    rules = expand.gather(sources, sources.profiles[profile], "x86_64")
    missing = {call: rules.denied.get(call) for call in recorded(server) - rules.allowed}
    assert missing.items() <= (FALLS_BACK | FALLS_BACK_IN.get(profile, {})).items()


def test_every_profile_stands_on_recordings_and_every_recording_stands_behind_a_profile() -> None:
    assert {profile for profile, _ in STANDS_ON} == {path.stem for path in SHIPPED.glob("*.json")}
    assert {recording for _, recording in STANDS_ON} == {path.stem for path in RECORDINGS.glob("*.json")}


@pytest.mark.parametrize(
    ("profile", "program", "in_all"),
    [("hapi", 92, 114), ("ibm-fhir", 100, 111), ("keycloak", 92, 111), ("fhirstarter", 72, 94), ("fhir-jvm", 156, 160)],
)
def test_a_profile_allows_no_more_calls_than_it_promises(
    sources: Sources, profile: str, program: int, in_all: int
) -> None:
    """`program`: without what only the runtimes, exec of a shell and --init need; raise a number with a reason only."""
    assert len(allowed(sources, profile)) <= in_all
    source = sources.profiles[profile]
    # a server behind a script needs the shell itself
    left_out = RUNTIME_BASES if profile in ("ibm-fhir", "fhir-jvm") else EXEC_AND_INIT
    own = names([group for group in sources.included(source) if group.name not in left_out]) | own_rules(source)
    assert len(own & allowed(sources, profile)) <= program


@pytest.mark.parametrize(
    ("profile", "limit"), [("hapi", 60), ("ibm-fhir", 65), ("keycloak", 60), ("fhirstarter", 50)]
)
def test_few_calls_are_seen_while_a_server_serves(sources: Sources, profile: str, limit: int) -> None:
    servers = [server for name, server in STANDS_ON if name == profile]
    serving = set().union(*(recorded(server, "serve") for server in servers))
    assert len(serving & allowed(sources, profile)) <= limit


def own_rules(source: Source) -> set[str]:
    """The calls that a profile allows by itself."""
    rules = source.document["seccomp"].get("syscalls", [])
    allowing = [rule for rule in rules if rule.get("action", "SCMP_ACT_ALLOW") == "SCMP_ACT_ALLOW"]
    return {name for rule in allowing for name in rule["names"]}


def names(groups: list[Source]) -> set[str]:
    rules = [rule for group in groups for rule in group.document["syscalls"]]
    return {
        name
        for rule in rules
        if rule.get("action", "SCMP_ACT_ALLOW") == "SCMP_ACT_ALLOW" and expand.applies(rule, "x86_64")
        for name in rule["names"]
        if name in expand.NUMBERS["x86_64"]
    }


def test_every_call_on_x86_64_has_its_way_on_aarch64(sources: Sources) -> None:
    """Each legacy call that aarch64 lacks has its newer form there."""
    newer = {
        "access": "faccessat", "readlink": "readlinkat", "mkdir": "mkdirat", "rename": "renameat", "rmdir": "unlinkat",
        "unlink": "unlinkat", "chmod": "fchmodat", "chown": "fchownat", "epoll_wait": "epoll_pwait", "poll": "ppoll",
        "dup2": "dup3", "getpgrp": "getpgid", "vfork": "clone", "open": "openat", "stat": "newfstatat",
        "lstat": "newfstatat", "pipe": "pipe2", "fork": "clone", "select": "pselect6", "symlink": "symlinkat",
        "link": "linkat", "lchown": "fchownat", "time": "gettimeofday", "arch_prctl": "",
        "creat": "openat", "alarm": "setitimer", "inotify_init": "inotify_init1", "getrlimit": "prlimit64",
        "epoll_create": "epoll_create1",
    }  # fmt: skip
    for profile in sources.profiles:
        here, there = allowed(sources, profile), allowed(sources, profile, "aarch64")
        for name in here - there:
            assert newer[name] in there | {""}, name


def test_every_group_says_why(sources: Sources) -> None:
    for group in sources.groups.values():
        assert group.document["reason"].endswith(".")
    for profile in sources.profiles.values():
        assert profile.document["provenance"]["recordings"]


def test_no_fhir_server_profile_but_a_generic_one_keeps_a_capability(sources: Sources) -> None:
    """What runs beside a server, and was made to start as root, keeps what that takes: it has no selectors."""
    for name, profile in sources.profiles.items():
        if profile.document["capabilities"]["keep"]:
            assert profile.document.get("generic") or not profile.document.get("match"), name


def test_hapi_is_known_by_its_source_label_with_and_without_git(sources: Sources) -> None:
    (selector,) = sources.profiles["hapi"].document["match"]
    values = selector["labels"]["org.opencontainers.image.source"]
    assert values == [values[0], values[0] + ".git"]
