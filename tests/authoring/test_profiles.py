"""The shipped profiles against what was recorded of real servers, and the numbers they promise."""

from __future__ import annotations

import pytest

from authoring.sandbox import SHIPPED
from fhir_hook.authoring import expand
from fhir_hook.authoring.source import RUNTIME_BASES, Source, Sources, load_sources

# Distinct calls seen with strace on x86_64 from the entry point's execve to the end (start, load, operations, stop).
RECORDED = {
    ("hapi", "hapi-jpa-6.0.1"): (
        "accept access arch_prctl bind brk chmod chown clock_getres clock_gettime clock_nanosleep clone3 close "
        "connect dup epoll_create1 epoll_ctl epoll_wait eventfd2 execve exit exit_group fallocate fchdir fcntl flock "
        "fstatfs fsync ftruncate futex get_mempolicy getcwd getdents64 getegid geteuid getgid getpid getrandom "
        "getrusage getsockname getsockopt gettid getuid ioctl listen lseek madvise memfd_create mkdir mmap mprotect "
        "mremap munmap nanosleep newfstatat openat poll prctl pread64 prlimit64 pwrite64 read readlink recvmsg rename "
        "rmdir rseq rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend sched_getaffinity sched_yield sendto "
        "set_robust_list set_tid_address setsockopt shutdown socket socketpair statx sysinfo tgkill uname unlink "
        "write"
    ),
    ("hapi", "hapi-plain-8.8.0"): (
        "accept access arch_prctl bind brk clock_getres clock_nanosleep clone3 close connect dup epoll_create1 "
        "epoll_ctl epoll_wait eventfd2 execve exit exit_group fchdir fcntl flock ftruncate futex getcwd getdents64 "
        "getegid geteuid getgid getpid getrandom getrusage getsockname getsockopt gettid getuid ioctl listen lseek "
        "madvise mkdir mmap mprotect munmap nanosleep newfstatat openat poll prctl pread64 prlimit64 read readlink "
        "rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield set_robust_list set_tid_address "
        "setsockopt shutdown socket socketpair statx sysinfo tgkill uname unlink write"
    ),
    ("fhirstarter", "fhirstarter-4.2.0"): (
        "accept4 access arch_prctl bind brk clone3 close epoll_create1 epoll_ctl epoll_wait execve exit exit_group "
        "fcntl futex getcwd getdents64 getegid geteuid getgid getpeername getpid getrandom getsockname gettid getuid "
        "ioctl listen lseek madvise mmap mprotect mremap munmap newfstatat openat pread64 prlimit64 read readlink "
        "recvfrom rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sendto set_robust_list "
        "set_tid_address setsockopt socket socketpair statx sysinfo tgkill uname write"
    ),
    ("fhir-jvm", "ibm-fhir-4.11.1"): (
        "accept access arch_prctl bind brk chdir chmod chown clock_getres clock_nanosleep clone clone3 close connect "
        "copy_file_range dup dup2 epoll_create1 epoll_ctl epoll_wait eventfd2 execve exit exit_group fadvise64 fchdir "
        "fcntl flock fsync ftruncate futex getcwd getdents64 getegid geteuid getgid getpgrp getpid getppid getrandom "
        "getrusage getsockname getsockopt gettid getuid ioctl kill listen lseek madvise mkdir mkdirat mmap mprotect "
        "msync munmap nanosleep newfstatat openat pipe2 poll prctl pread64 prlimit64 pwrite64 read readlink rename "
        "rmdir rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield sendfile set_robust_list "
        "set_tid_address setsockopt shutdown sigaltstack socket socketpair statfs statx sysinfo tgkill times umask "
        "uname unlink utimensat vfork wait4 write"
    ),
    ("fhir-jvm", "keycloak-26.7.3"): (
        "accept access arch_prctl bind brk chmod clock_getres clock_nanosleep clone clone3 close connect dup dup2 "
        "epoll_create1 epoll_ctl epoll_wait eventfd2 execve exit exit_group faccessat2 fchdir fcntl flock ftruncate "
        "futex getcwd getdents64 getegid geteuid getgid getpid getppid getrandom getrusage getsockname getsockopt "
        "gettid getuid ioctl kill listen lseek madvise mkdir mmap mprotect munmap newfstatat openat pipe2 poll prctl "
        "pread64 prlimit64 read readlink rmdir rseq rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend "
        "sched_getaffinity sched_yield set_robust_list set_tid_address setsockopt shutdown socket socketpair statfs "
        "statx sysinfo uname unlink wait4 write writev"
    ),
}
FALLS_BACK = {"clone3", "copy_file_range"}  # answered so that the caller uses the older call
EXEC_AND_INIT = ("shell", "container-init")


@pytest.fixture(scope="module")
def sources() -> Sources:
    return load_sources(SHIPPED)


def allowed(sources: Sources, name: str, arch: str = "x86_64") -> set[str]:
    return expand.gather(sources, sources.profiles[name], arch).allowed


@pytest.mark.parametrize(("profile", "server"), RECORDED, ids=[server for _, server in RECORDED])
def test_every_recorded_call_is_allowed_or_has_a_fall_back(sources: Sources, profile: str, server: str) -> None:
    recorded = set(RECORDED[profile, server].split())
    missing = recorded - allowed(sources, profile)
    assert missing <= FALLS_BACK
    rules = expand.gather(sources, sources.profiles[profile], "x86_64")
    assert all(rules.denied[name] == 38 for name in missing)


@pytest.mark.parametrize(
    ("profile", "program", "in_all"), [("hapi", 101, 131), ("fhirstarter", 102, 130), ("fhir-jvm", 153, 161)]
)
def test_a_profile_allows_no_more_calls_than_it_promises(
    sources: Sources, profile: str, program: int, in_all: int
) -> None:
    """`program`: without what only the runtimes, exec of a shell and --init need; raise a number with a reason only."""
    assert len(allowed(sources, profile)) <= in_all
    source = sources.profiles[profile]
    own = [
        group
        for group in sources.included(source)
        if group.name not in RUNTIME_BASES and (profile == "fhir-jvm" or group.name not in EXEC_AND_INIT)
    ]
    assert len(names(own)) <= program


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
        "creat": "openat", "alarm": "setitimer",
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


def test_no_fhir_server_profile_but_the_generic_one_keeps_a_capability(sources: Sources) -> None:
    kept = {name: profile.document["capabilities"]["keep"] for name, profile in sources.profiles.items()}
    assert {name for name, capabilities in kept.items() if capabilities} == {"fhir-jvm"}


def test_hapi_is_known_by_its_source_label_with_and_without_git(sources: Sources) -> None:
    (selector,) = sources.profiles["hapi"].document["match"]
    values = selector["labels"]["org.opencontainers.image.source"]
    assert values == [values[0], values[0] + ".git"]
