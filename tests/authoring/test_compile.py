"""Compiled profiles: what they answer, how they are proven, and that the proof finds what is wrong."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from authoring.sandbox import SHIPPED, Folder
from fhir_hook.authoring import compile as compiling
from fhir_hook.authoring import libseccomp, verify
from fhir_hook.authoring.expand import ARCHITECTURES, NUMBERS
from fhir_hook.authoring.finding import errors
from fhir_hook.authoring.source import load_sources
from fhir_hook.core import bpf, bpf_classify, oci_seccomp

Compiled = dict[str, Any]
ALLOW, EPERM, ENOSYS = ("SCMP_ACT_ALLOW", 0), ("SCMP_ACT_ERRNO", 1), ("SCMP_ACT_ERRNO", 38)
EINVAL, NOT_SUPPORTED = ("SCMP_ACT_ERRNO", 22), ("SCMP_ACT_ERRNO", 93)  # the latter is EPROTONOSUPPORT
KILL = ("SCMP_ACT_KILL_THREAD", 0)
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK = 1, 2, 10, 16, 17, 40
STREAM, DGRAM, RAW, FLAGS = 1, 2, 3, 0x80800
JUNK = 0xDEADBEEF << 32


@pytest.fixture(scope="module")
def shipped() -> dict[str, Compiled]:
    compiled, findings = compiling.compile_all(load_sources(SHIPPED))
    assert findings == []
    return {profile["name"]: profile for profile in compiled}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def program(profile: Compiled, arch: str = "x86_64", mode: str = "enforce") -> bpf.Program:
    return bpf.decode(base64.b64decode(profile["bpf"][arch][mode]))


def answer(profile: Compiled, name: str, *args: int, arch: str = "x86_64", mode: str = "enforce") -> tuple[str, int]:
    nr = NUMBERS[arch][name]
    return bpf.decision(bpf.run(program(profile, arch, mode), nr, bpf.ARCH[arch], 0, args))


def test_a_compiled_profile_has_what_the_policy_holds(shipped: dict[str, Compiled]) -> None:
    hapi = shipped["hapi"]
    assert set(hapi) == {
        "name", "version", "title", "kind", "generic", "nameable", "mode", "match", "digest", "capabilities",
        "noNewPrivileges", "seccomp", "bpf", "allowed",
    }  # fmt: skip
    assert hapi["kind"] == "jvm" and hapi["capabilities"] == [] and hapi["noNewPrivileges"] is True
    assert len(hapi["digest"]) == 64
    assert json.loads(json.dumps(hapi)) == hapi


def test_compiling_twice_gives_the_same_bytes(shipped: dict[str, Compiled]) -> None:
    again, _ = compiling.compile_all(load_sources(SHIPPED))
    assert json.dumps({profile["name"]: profile for profile in again}) == json.dumps(shipped)


def test_the_digest_changes_with_a_group(folder: Folder, shipped: dict[str, Compiled]) -> None:
    folder.group("jvm", [{"names": ["times"]}])
    sources = folder.load()
    assert compiling.digest(sources, sources.profiles["hapi"]) != shipped["hapi"]["digest"]
    assert compiling.digest(sources, sources.profiles["fhirstarter"]) == shipped["fhirstarter"]["digest"]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_program_is_compiled_from_the_very_section(shipped: dict[str, Compiled], arch: str) -> None:
    for profile in shipped.values():
        section = profile["seccomp"][arch]
        for mode, variant in (("enforce", section), ("complain", oci_seccomp.complain(section, arch))):
            data = base64.b64decode(profile["bpf"][arch][mode])
            assert data == libseccomp.compile_section(variant, arch)
            assert verify.differences(variant, arch, data) == []


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_known_call_is_allowed_or_answers_an_errno(shipped: dict[str, Compiled], arch: str) -> None:
    for profile in shipped.values():
        verdicts = bpf_classify.classify(program(profile, arch), bpf.ARCH[arch], range(1024))
        kinds = [verdicts[nr].kind for nr in NUMBERS[arch].values()]
        assert profile["allowed"][arch] == kinds.count("allowed") + kinds.count("filtered")
        unknown = set(range(1024)) - set(NUMBERS[arch].values())
        assert {verdicts[nr].answers for nr in unknown} == {(ENOSYS,)}
        errnos = {found for nr in NUMBERS[arch].values() for found in verdicts[nr].answers} - {ALLOW}
        assert errnos <= {EPERM, ENOSYS, EINVAL, ("SCMP_ACT_ERRNO", 92), ("SCMP_ACT_ERRNO", 93), ("SCMP_ACT_ERRNO", 95)}


NEVER = (  # noqa: SIM905
    "mount umount2 pivot_root chroot unshare setns ptrace process_vm_readv process_vm_writev bpf "
    "perf_event_open keyctl add_key request_key init_module finit_module delete_module kexec_load "
    "kexec_file_load reboot swapon swapoff acct quotactl userfaultfd io_uring_setup io_uring_enter "
    "io_uring_register open_by_handle_at name_to_handle_at mknod mknodat seccomp personality settimeofday "
    "clock_settime clock_adjtime adjtimex syslog vhangup iopl ioperm modify_ldt move_pages migrate_pages mbind "
    "kcmp fanotify_init lookup_dcookie nfsservctl uselib ustat sysfs open_tree move_mount fsopen fsconfig "
    "fsmount fspick mount_setattr landlock_create_ruleset memfd_secret pidfd_getfd sethostname setdomainname "
    "clone3 add_key shmget semget msgget mq_open"
).split()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_no_shipped_profile_allows_what_none_needs(shipped: dict[str, Compiled], arch: str) -> None:
    for profile in shipped.values():
        names = [name for name in NEVER if name in NUMBERS[arch]]
        found = {name: answer(profile, name, 0, 0, 0, arch=arch) for name in names}
        if profile["name"] == "postgresql":
            assert found.pop("shmget") == ALLOW
        assert set(found.values()) <= {EPERM, ENOSYS}, found
        assert found["mount"] == found["unshare"] == found["ptrace"] == found["bpf"] == EPERM


SOCKETS = [
    (AF_INET, STREAM, 0, ALLOW),
    (AF_INET6, STREAM | FLAGS, 6, ALLOW),
    (AF_INET, DGRAM | FLAGS, 17, ALLOW),
    (AF_INET | JUNK, STREAM | JUNK, JUNK, ALLOW),
    (AF_UNIX, STREAM | FLAGS, 0, ALLOW),
    (AF_NETLINK, RAW | 0x80000, 0, ALLOW),
    (AF_NETLINK, RAW, 9, ENOSYS),
    (AF_INET, STREAM, 132, ENOSYS),
    (AF_INET, STREAM, 262, ENOSYS),
    (AF_INET, RAW, 1, EPERM),
    (AF_INET6, RAW | FLAGS, 58, EPERM),
    (AF_PACKET, RAW, 3, EPERM),
    (AF_PACKET | JUNK, RAW, 3, EPERM),
    (AF_VSOCK, STREAM, 0, EPERM),
    (38, 5, 0, EPERM),
    (0, STREAM, 0, EPERM),
    (45, DGRAM, 0, EPERM),
    (1000, STREAM, 0, ENOSYS),
]


@pytest.mark.parametrize(("family", "kind", "protocol", "expected"), SOCKETS)
def test_sockets_are_tcp_udp_unix_and_netlink_route_only(
    shipped: dict[str, Compiled], family: int, kind: int, protocol: int, expected: tuple[str, int]
) -> None:
    others = {("go-runtime", 262): NOT_SUPPORTED, ("entry-point", 9): EINVAL}
    sources = load_sources(SHIPPED)
    for profile in shipped.values():
        groups = {group.name for group in sources.included(sources.profiles[profile["name"]])}
        fitting = (errno for (group, last), errno in others.items() if group in groups and last == protocol)
        wanted = next(fitting, expected)
        if family == AF_NETLINK and "dns-client" not in groups:
            wanted = EPERM
        for arch in ARCHITECTURES:
            assert answer(profile, "socket", family, kind, protocol, arch=arch) == wanted


def test_clone_makes_threads_and_children_but_no_namespaces(shipped: dict[str, Compiled]) -> None:
    for profile in shipped.values():
        assert answer(profile, "clone", 0x3D0F00) == answer(profile, "clone", 0x01200011) == ALLOW
        for bit in (17, 25, 26, 27, 28, 29, 30):
            assert answer(profile, "clone", 1 << bit | 17) == EPERM
        assert answer(profile, "clone3", 0, 88) == ENOSYS


def test_terminal_injection_is_refused(shipped: dict[str, Compiled]) -> None:
    tiocsti, tioclinux = 0x5412, 0x541C
    for profile in shipped.values():
        assert answer(profile, "ioctl", 0, 0x5401) == answer(profile, "ioctl", 0, 0x5421 | JUNK) == ALLOW
        for request in (tiocsti, tioclinux, tiocsti | JUNK):
            assert answer(profile, "ioctl", 0, request)[0] == "SCMP_ACT_ERRNO"


def test_prctl_names_threads_and_does_not_turn_on_speculation_or_seccomp(shipped: dict[str, Compiled]) -> None:
    for profile in shipped.values():
        assert answer(profile, "prctl", 15) == ALLOW
        assert {answer(profile, "prctl", option) for option in (22, 28, 35, 53, 54, 62)} == {EPERM}


def test_foreign_abis_are_killed(shipped: dict[str, Compiled]) -> None:
    for profile in shipped.values():
        enforced = program(profile)
        for nr in (0, 102, 359, 1000):
            assert bpf.decision(bpf.run(enforced, nr, bpf.ARCH["x86"], 0, ())) == KILL
            assert bpf.decision(bpf.run(enforced, nr | bpf.X32_BIT, bpf.ARCH["x86_64"], 0, ())) == KILL


def test_complaining_denies_nothing(shipped: dict[str, Compiled]) -> None:
    for profile in shipped.values():
        for arch in ARCHITECTURES:
            found = bpf_classify.classify(program(profile, arch, "complain"), bpf.ARCH[arch], range(600))
            assert {verdict.kind for verdict in found.values()} <= {"allowed", "logged", "filtered"}
            assert {answer[0] for verdict in found.values() for answer in verdict.answers} <= {
                "SCMP_ACT_ALLOW",
                "SCMP_ACT_LOG",
            }
        assert answer(profile, "mount", mode="complain") == ("SCMP_ACT_LOG", 0)


def test_arguments_are_loaded_only_behind_the_number(shipped: dict[str, Compiled]) -> None:
    """Otherwise the kernel's bitmap of always-allowed calls stays empty (Linux 5.11)."""
    for profile in shipped.values():
        code = program(profile)
        for name in ("read", "write", "epoll_wait", "mmap", "munmap"):
            taken = Recorder(code)
            bpf.run(taken, NUMBERS["x86_64"][name], bpf.ARCH["x86_64"], 0, ())  # type: ignore[arg-type]
            assert all(k in (0, 4) for operation, _, _, k in taken.seen if operation == bpf.LD_ABS)
            assert len(taken.seen) <= 24


class Recorder:
    """A program that notes which instructions are executed."""

    def __init__(self, code: bpf.Program) -> None:
        self.code = code
        self.seen: list[bpf.Instruction] = []

    def __getitem__(self, pc: int) -> bpf.Instruction:
        self.seen.append(self.code[pc])
        return self.code[pc]


def test_a_profile_takes_away_what_a_group_allows(folder: Folder) -> None:
    folder.rules(
        {"names": ["chown", "fchownat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}, include=("process", "jvm-tools")
    )
    compiled = {profile["name"]: profile for profile in compiling.compile_all(folder.load())[0]}
    assert answer(compiled["mine"], "chown") == EPERM


def test_a_group_chooses_the_errno_for_some_arguments_of_a_call(folder: Folder) -> None:
    """PAM takes EINVAL for a kernel without audit; everything else of the family keeps its answer."""
    folder.profile(seccomp={"include": ["process", "dns-client", "entry-point"]})
    compiled = {profile["name"]: profile for profile in compiling.compile_all(folder.load())[0]}
    mine = compiled["mine"]
    assert answer(mine, "socket", AF_NETLINK, RAW | FLAGS, 9) == answer(mine, "socket", AF_NETLINK, RAW, 9) == EINVAL
    assert answer(mine, "socket", AF_NETLINK, RAW, 0) == ALLOW
    assert answer(mine, "socket", AF_NETLINK, STREAM, 9) == answer(mine, "socket", AF_PACKET, RAW, 9) == EPERM


def test_a_profile_allows_the_very_arguments_that_a_group_denies(folder: Folder) -> None:
    values = ((2**32 - 1, AF_NETLINK), (15, RAW), (2**32 - 1, 9))
    args = [
        {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
        for index, (mask, value) in enumerate(values)
    ]
    folder.rules({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": args}, include=("process", "entry-point"))
    compiled = {profile["name"]: profile for profile in compiling.compile_all(folder.load())[0]}
    assert answer(compiled["mine"], "socket", AF_NETLINK, RAW, 9) == ALLOW


def test_a_group_s_denial_only_chooses_the_errno(folder: Folder) -> None:
    folder.profile(seccomp={"include": ["process", "fall-backs"]})
    compiled = {profile["name"]: profile for profile in compiling.compile_all(folder.load())[0]}
    assert answer(compiled["mine"], "splice") == ENOSYS
    assert answer(compiled["mine"], "openat2") == ALLOW  # the base sets allow it


def test_a_profile_with_an_error_is_left_out_and_the_others_are_compiled(folder: Folder) -> None:
    folder.rules({"names": ["opneat"]})
    compiled, findings = compiling.compile_all(folder.load())
    assert "mine" not in {profile["name"] for profile in compiled} and len(compiled) == len(folder.load().profiles) - 1
    assert [finding.code for finding in errors(findings)] == ["P201"]


def test_a_group_with_an_error_leaves_every_profile_out(folder: Folder) -> None:
    folder.group("jvm", [{"names": ["tiems"]}])
    compiled, findings = compiling.compile_all(folder.load())
    assert compiled == [] and errors(findings)


def test_what_libseccomp_refuses_is_a_finding(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rules(
        {"names": ["mlock"], "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
        {"names": ["mlock"], "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}], "action": "SCMP_ACT_ERRNO"},
    )
    sources = folder.load()
    result, findings = compiling.compile_profile(sources, sources.profiles["mine"])
    assert result is None and findings[0].code == "P501" and "mlock" in findings[0].message


def test_a_program_that_answers_otherwise_is_a_finding(folder: Folder) -> None:
    """Rules that libseccomp compiles to something looser than they say (core.oci_seccomp, Meaning.exact)."""

    def differ(index: int, value: int) -> dict[str, Any]:
        return {"index": index, "value": value, "op": "SCMP_CMP_NE"}

    folder.rules(
        {"names": ["mlock"], "args": [differ(0, 0)]}, {"names": ["mlock"], "args": [differ(0, 2), differ(2, 15)]}
    )
    sources = folder.load()
    result, findings = compiling.compile_profile(sources, sources.profiles["mine"])
    assert result is None and {finding.code for finding in findings} == {"P502"}


@pytest.mark.parametrize(
    "change",
    [
        lambda code: tuple((0x06, 0, 0, bpf.RET_ALLOW) if step == (0x06, 0, 0, 0x50026) else step for step in code),
        lambda code: tuple((0x06, 0, 0, 0x50001) if step == (0x06, 0, 0, bpf.RET_ALLOW) else step for step in code),
        lambda code: tuple((0x06, 0, 0, bpf.RET_ALLOW) if step == (0x06, 0, 0, 0) else step for step in code),
        lambda code: tuple((c, jt, jf, 18) if (c, k) == (0x15, 17) else (c, jt, jf, k) for c, jt, jf, k in code),
    ],
    ids=["default allows", "allowed is denied", "foreign ABIs pass", "another constant"],
)
def test_the_proof_finds_a_changed_program(shipped: dict[str, Compiled], change: Any) -> None:
    code = program(shipped["hapi"])
    changed = change(code)
    assert changed != code
    assert verify.differences(shipped["hapi"]["seccomp"]["x86_64"], "x86_64", bpf.encode(changed))


def test_thinning_out_combinations_keeps_every_value(shipped: dict[str, Compiled]) -> None:
    meaning = oci_seccomp.Meaning(shipped["hapi"]["seccomp"]["x86_64"])
    tried = list(verify.interesting(meaning.rules["socket"]))
    assert len(tried) <= 5 * verify.MOST_COMBINATIONS
    for index, constants in ((0, (1, 2, 10, 16, 17)), (1, (1, 2, 3)), (2, (0, 6, 17))):
        assert set(constants) <= {args[index] for args in tried}
