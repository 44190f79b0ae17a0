"""Names of argument values, for people: constants of Linux, the same on x86_64 and aarch64 unless said otherwise."""

from __future__ import annotations

import fcntl as fcntl_module
import mmap as mmap_module
import resource
import signal as signal_module
import socket as socket_module
import termios

U32 = 0xFFFF_FFFF
CLONE_FLAGS = {
    0x80: "NEWTIME",
    0x100: "VM",
    0x200: "FS",
    0x400: "FILES",
    0x800: "SIGHAND",
    0x1000: "PIDFD",
    0x2000: "PTRACE",
    0x4000: "VFORK",
    0x8000: "PARENT",
    0x10000: "THREAD",
    0x20000: "NEWNS",
    0x40000: "SYSVSEM",
    0x80000: "SETTLS",
    0x100000: "PARENT_SETTID",
    0x200000: "CHILD_CLEARTID",
    0x400000: "DETACHED",
    0x800000: "UNTRACED",
    0x1000000: "CHILD_SETTID",
    0x2000000: "NEWCGROUP",
    0x4000000: "NEWUTS",
    0x8000000: "NEWIPC",
    0x10000000: "NEWUSER",
    0x20000000: "NEWPID",
    0x40000000: "NEWNET",
    0x80000000: "IO",
}
# include/uapi/linux/prctl.h
PRCTL = {
    1: "PR_SET_PDEATHSIG",
    2: "PR_GET_PDEATHSIG",
    3: "PR_GET_DUMPABLE",
    4: "PR_SET_DUMPABLE",
    7: "PR_GET_KEEPCAPS",
    8: "PR_SET_KEEPCAPS",
    13: "PR_GET_TIMING",
    14: "PR_SET_TIMING",
    15: "PR_SET_NAME",
    16: "PR_GET_NAME",
    21: "PR_GET_SECCOMP",
    22: "PR_SET_SECCOMP",
    23: "PR_CAPBSET_READ",
    24: "PR_CAPBSET_DROP",
    25: "PR_GET_TSC",
    26: "PR_SET_TSC",
    27: "PR_GET_SECUREBITS",
    28: "PR_SET_SECUREBITS",
    29: "PR_SET_TIMERSLACK",
    30: "PR_GET_TIMERSLACK",
    33: "PR_MCE_KILL",
    35: "PR_SET_MM",
    36: "PR_SET_CHILD_SUBREAPER",
    37: "PR_GET_CHILD_SUBREAPER",
    38: "PR_SET_NO_NEW_PRIVS",
    39: "PR_GET_NO_NEW_PRIVS",
    40: "PR_GET_TID_ADDRESS",
    41: "PR_SET_THP_DISABLE",
    42: "PR_GET_THP_DISABLE",
    47: "PR_CAP_AMBIENT",
    52: "PR_GET_SPECULATION_CTRL",
    53: "PR_SET_SPECULATION_CTRL",
    59: "PR_SET_SYSCALL_USER_DISPATCH",
    62: "PR_SCHED_CORE",
    65: "PR_SET_MDWE",
    0x53564D41: "PR_SET_VMA",
    0x59616D61: "PR_SET_PTRACER",
}
ARCH_PRCTL = {0x1001: "ARCH_SET_GS", 0x1002: "ARCH_SET_FS", 0x1003: "ARCH_GET_FS", 0x1004: "ARCH_GET_GS"}
ARCH_PRCTL |= {0x1011: "ARCH_GET_CPUID", 0x1012: "ARCH_SET_CPUID", 0x1022: "ARCH_GET_XCOMP_PERM"}
ARCH_PRCTL |= {0x1023: "ARCH_REQ_XCOMP_PERM", 0x3001: "ARCH_CET_STATUS", 0x5001: "ARCH_SHSTK_ENABLE"}
IOCTL = {
    0x802C542A: "TCGETS2",
    0x8910: "SIOCGIFNAME",
    0x8912: "SIOCGIFCONF",
    0x8913: "SIOCGIFFLAGS",
    0x8914: "SIOCSIFFLAGS",
    0x8915: "SIOCGIFADDR",
    0x8919: "SIOCGIFBRDADDR",
    0x891B: "SIOCGIFNETMASK",
    0x8921: "SIOCGIFMTU",
    0x8927: "SIOCGIFHWADDR",
    0x8933: "SIOCGIFINDEX",
    0x40049409: "FICLONE",
    0x5450: "FIONCLEX",
    0x5451: "FIOCLEX",
    0x5452: "FIOASYNC",
    0x541B: "FIONREAD",
}
IOCTL |= {
    value: name
    for name, value in vars(termios).items()
    if isinstance(value, int) and name.startswith(("TCGET", "TCSET", "TIOC", "FIO")) and value > 0x5400
}
SOCK = {1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 4: "SOCK_RDM", 5: "SOCK_SEQPACKET", 10: "SOCK_PACKET"}
INTERNET = {0: "0", 1: "IPPROTO_ICMP", 6: "IPPROTO_TCP", 17: "IPPROTO_UDP", 132: "IPPROTO_SCTP", 262: "IPPROTO_MPTCP"}
NETLINK = {0: "NETLINK_ROUTE", 4: "NETLINK_SOCK_DIAG", 9: "NETLINK_AUDIT", 12: "NETLINK_NETFILTER"}
LEVELS = {0: "SOL_IP", 1: "SOL_SOCKET", 6: "SOL_TCP", 17: "SOL_UDP", 41: "SOL_IPV6", 270: "SOL_NETLINK"}
OPTION_PREFIXES = {0: ("IP_",), 1: ("SO_",), 6: ("TCP_",), 41: ("IPV6_",)}
# What the socket module of some builds lacks.
OPTIONS = {(1, 56): "SO_INCOMING_NAPI_ID", (6, 12): "TCP_QUICKACK", (0, 11): "IP_RECVERR", (41, 26): "IPV6_V6ONLY"}


def _named(prefixes: tuple[str, ...], module: object) -> dict[int, str]:
    found: dict[int, str] = {}
    for name, value in vars(module).items():
        if name.startswith(prefixes) and isinstance(value, int) and not name.startswith("SO_VM_"):
            found.setdefault(int(value), name)
    return found


FAMILIES = _named(("AF_",), socket_module)
FCNTL = {
    number: name
    for name, number in vars(fcntl_module).items()
    if name.startswith("F_") and not name.startswith("F_SEAL_") and not name.endswith("LCK")
}
# On 64-bit machines the module has the numbers of the 64-bit variants under the plain names.
FCNTL |= {5: "F_GETLK", 6: "F_SETLK", 7: "F_SETLKW", 36: "F_OFD_GETLK", 37: "F_OFD_SETLK", 38: "F_OFD_SETLKW"}
ADVICE = _named(("MADV_",), mmap_module)
LIMITS = _named(("RLIMIT_",), resource)


def socket(family: int, kind: int, protocol: int | None = None) -> str:
    """AF_INET, SOCK_STREAM, IPPROTO_TCP."""
    family &= U32
    words = [FAMILIES.get(family, f"family {family}"), SOCK.get(kind, f"type {kind}")]
    if protocol is not None:
        table = NETLINK if family == 16 else INTERNET if family in (2, 10) else {}
        words.append(table.get(protocol & U32, str(protocol & U32)))
    return ", ".join(words)


def clone(flags: int) -> str:
    """CLONE_ flags without their prefix, and the signal that tells the parent."""
    words = [name for bit, name in CLONE_FLAGS.items() if flags & bit and bit > 0xFF]
    if flags & 0xFF:
        words.append(signal(flags & 0xFF))
    return "|".join(words) or "0"


def prctl(option: int) -> str:
    """PR_SET_NAME."""
    return PRCTL.get(option & U32, f"option {option & U32}")


def arch_prctl(code: int) -> str:
    """ARCH_SET_FS."""
    return ARCH_PRCTL.get(code & U32, hex(code & U32))


def ioctl(request: int) -> str:
    """TCGETS."""
    return IOCTL.get(request & U32, hex(request & U32))


def fcntl(command: int) -> str:
    """F_SETFL."""
    return FCNTL.get(command & U32, f"command {command & U32}")


def madvise(advice: int) -> str:
    """MADV_DONTNEED."""
    return ADVICE.get(advice & U32, f"advice {advice & U32}")


def protection(bits: int) -> str:
    """PROT_READ|PROT_EXEC."""
    return "|".join(n for b, n in ((1, "PROT_READ"), (2, "PROT_WRITE"), (4, "PROT_EXEC")) if bits & b) or "PROT_NONE"


def socket_option(level: int, option: int) -> str:
    """SOL_TCP, TCP_NODELAY."""
    level, option = level & U32, option & U32
    name = OPTIONS.get((level, option))
    for prefix in OPTION_PREFIXES.get(level, ()):
        name = name or _named((prefix,), socket_module).get(option)
    return f"{LEVELS.get(level, f'level {level}')}, {name or f'option {option}'}"


def signal(number: int) -> str:
    """SIGTERM; real-time signals from SIGRT_2 (the first that libc leaves) on, as the kernel counts."""
    number &= U32
    try:
        return signal_module.Signals(number).name
    except ValueError:
        return f"SIGRT_{number - 32}" if 32 <= number <= 64 else f"signal {number}"


def limit(which: int) -> str:
    """RLIMIT_NOFILE."""
    return LIMITS.get(which & U32, f"limit {which & U32}")
