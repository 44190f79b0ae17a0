"""Names for the numbers that arguments of calls carry (Linux uapi headers; the same on x86_64 and aarch64)."""

from __future__ import annotations

from fhir_hook.recording import names

FAMILIES = {
    0: "AF_UNSPEC", 9: "AF_X25", 15: "AF_KEY", 21: "AF_RDS", 26: "AF_LLC", 27: "AF_IB", 28: "AF_MPLS", 29: "AF_CAN",
    30: "AF_TIPC", 31: "AF_BLUETOOTH", 33: "AF_RXRPC", 36: "AF_IEEE802154", 37: "AF_CAIF", 38: "AF_ALG", 39: "AF_NFC",
    40: "AF_VSOCK", 41: "AF_KCM", 42: "AF_QIPCRTR", 43: "AF_SMC", 44: "AF_XDP", 45: "AF_MCTP",
} | names.FAMILIES  # fmt: skip
SOCKET_TYPES = names.SOCK | {6: "SOCK_DCCP"}
IP_PROTOCOLS = {
    0: "any protocol", 1: "IPPROTO_ICMP", 2: "IPPROTO_IGMP", 6: "IPPROTO_TCP", 17: "IPPROTO_UDP", 33: "IPPROTO_DCCP",
    41: "IPPROTO_IPV6", 58: "IPPROTO_ICMPV6", 132: "IPPROTO_SCTP", 136: "IPPROTO_UDPLITE", 255: "IPPROTO_RAW",
    262: "IPPROTO_MPTCP",
}  # fmt: skip
NETLINK_PROTOCOLS = {
    0: "NETLINK_ROUTE", 2: "NETLINK_USERSOCK", 4: "NETLINK_SOCK_DIAG", 5: "NETLINK_NFLOG", 6: "NETLINK_XFRM",
    7: "NETLINK_SELINUX", 8: "NETLINK_ISCSI", 9: "NETLINK_AUDIT", 10: "NETLINK_FIB_LOOKUP", 11: "NETLINK_CONNECTOR",
    12: "NETLINK_NETFILTER", 13: "NETLINK_IP6_FW", 15: "NETLINK_KOBJECT_UEVENT", 16: "NETLINK_GENERIC",
    18: "NETLINK_SCSITRANSPORT", 20: "NETLINK_RDMA", 21: "NETLINK_CRYPTO", 22: "NETLINK_SMC",
}  # fmt: skip
CLOCKS = {
    0: "CLOCK_REALTIME", 1: "CLOCK_MONOTONIC", 2: "CLOCK_PROCESS_CPUTIME_ID", 3: "CLOCK_THREAD_CPUTIME_ID",
    7: "CLOCK_BOOTTIME", 8: "CLOCK_REALTIME_ALARM", 9: "CLOCK_BOOTTIME_ALARM", 11: "CLOCK_TAI",
}  # fmt: skip
CLONE_FLAGS = {bit: f"CLONE_{name}" for bit, name in names.CLONE_FLAGS.items()}
PRCTL = {
    31: "PR_TASK_PERF_EVENTS_DISABLE", 32: "PR_TASK_PERF_EVENTS_ENABLE", 34: "PR_MCE_KILL_GET", 50: "PR_SVE_SET_VL",
    51: "PR_SVE_GET_VL", 54: "PR_PAC_RESET_KEYS", 55: "PR_SET_TAGGED_ADDR_CTRL", 56: "PR_GET_TAGGED_ADDR_CTRL",
    57: "PR_SET_IO_FLUSHER", 58: "PR_GET_IO_FLUSHER", 66: "PR_GET_MDWE",
} | names.PRCTL  # fmt: skip
IOCTL = {
    0x541C: "TIOCLINUX", 0x5423: "TIOCSETD", 0x5760: "IOC_WATCH_QUEUE_SET_SIZE", 0x5761: "IOC_WATCH_QUEUE_SET_FILTER",
    0x8901: "FIOSETOWN", 0x8903: "FIOGETOWN", 0x8905: "SIOCATMARK", 0x8917: "SIOCGIFDSTADDR", 0x891D: "SIOCGIFMETRIC",
    0x8942: "SIOCGIFTXQLEN", 0x8946: "SIOCETHTOOL", 0x8970: "SIOCGIFMAP", 0x402C542B: "TCSETS2",
    0x80045430: "TIOCGPTN", 0x80086601: "FS_IOC_GETFLAGS", 0x40086602: "FS_IOC_SETFLAGS",
} | names.IOCTL | {0x541B: "FIONREAD"}  # fmt: skip
PERSONALITIES = {
    0: "PER_LINUX", 8: "PER_LINUX32", 0x20000: "UNAME26", 0x20008: "PER_LINUX32|UNAME26", 0xFFFFFFFF: "asking only",
    0x40000: "ADDR_NO_RANDOMIZE", 0x400000: "READ_IMPLIES_EXEC",
}  # fmt: skip
SOCKET_LEVELS = {
    0: "IPPROTO_IP", 1: "SOL_SOCKET", 6: "IPPROTO_TCP", 17: "IPPROTO_UDP", 41: "IPPROTO_IPV6", 132: "SOL_SCTP",
    255: "SOL_RAW", 263: "SOL_PACKET", 270: "SOL_NETLINK", 279: "SOL_ALG", 282: "SOL_TLS", 284: "SOL_MPTCP",
}  # fmt: skip
SOCKET_OPTIONS = {
    0: {
        1: "IP_TOS", 2: "IP_TTL", 4: "IP_OPTIONS", 8: "IP_PKTINFO", 10: "IP_MTU_DISCOVER", 11: "IP_RECVERR",
        15: "IP_FREEBIND", 24: "IP_BIND_ADDRESS_NO_PORT", 32: "IP_MULTICAST_IF", 33: "IP_MULTICAST_TTL",
        34: "IP_MULTICAST_LOOP", 35: "IP_ADD_MEMBERSHIP", 36: "IP_DROP_MEMBERSHIP", 39: "IP_ADD_SOURCE_MEMBERSHIP",
        42: "MCAST_JOIN_GROUP", 46: "MCAST_JOIN_SOURCE_GROUP", 49: "IP_MULTICAST_ALL", 64: "IPT_SO_SET_REPLACE",
    },
    1: {
        2: "SO_REUSEADDR", 3: "SO_TYPE", 4: "SO_ERROR", 6: "SO_BROADCAST", 7: "SO_SNDBUF", 8: "SO_RCVBUF",
        9: "SO_KEEPALIVE", 10: "SO_OOBINLINE", 11: "SO_NO_CHECK", 12: "SO_PRIORITY", 13: "SO_LINGER",
        15: "SO_REUSEPORT", 16: "SO_PASSCRED", 17: "SO_PEERCRED", 20: "SO_RCVTIMEO", 21: "SO_SNDTIMEO",
        25: "SO_BINDTODEVICE", 26: "SO_ATTACH_FILTER", 32: "SO_SNDBUFFORCE", 33: "SO_RCVBUFFORCE", 36: "SO_MARK",
        50: "SO_ATTACH_BPF", 60: "SO_ZEROCOPY",
    },
    6: {
        1: "TCP_NODELAY", 2: "TCP_MAXSEG", 3: "TCP_CORK", 4: "TCP_KEEPIDLE", 5: "TCP_KEEPINTVL", 6: "TCP_KEEPCNT",
        7: "TCP_SYNCNT", 8: "TCP_LINGER2", 9: "TCP_DEFER_ACCEPT", 10: "TCP_WINDOW_CLAMP", 11: "TCP_INFO",
        12: "TCP_QUICKACK", 13: "TCP_CONGESTION", 18: "TCP_USER_TIMEOUT", 23: "TCP_FASTOPEN",
        30: "TCP_FASTOPEN_CONNECT", 31: "TCP_ULP",
    },
    17: {1: "UDP_CORK", 100: "UDP_ENCAP", 103: "UDP_SEGMENT"},
    41: {
        1: "IPV6_ADDRFORM", 16: "IPV6_UNICAST_HOPS", 17: "IPV6_MULTICAST_IF", 20: "IPV6_JOIN_GROUP", 25: "IPV6_RECVERR",
        26: "IPV6_V6ONLY", 42: "MCAST_JOIN_GROUP", 49: "IPV6_RECVPKTINFO", 64: "IP6T_SO_SET_REPLACE",
        67: "IPV6_TCLASS", 72: "IPV6_ADDR_PREFERENCES",
    },
}  # fmt: skip
FUTEX = {
    0: "FUTEX_WAIT", 1: "FUTEX_WAKE", 3: "FUTEX_REQUEUE", 4: "FUTEX_CMP_REQUEUE", 5: "FUTEX_WAKE_OP",
    6: "FUTEX_LOCK_PI",    7: "FUTEX_UNLOCK_PI", 8: "FUTEX_TRYLOCK_PI", 9: "FUTEX_WAIT_BITSET", 10: "FUTEX_WAKE_BITSET",
    11: "FUTEX_WAIT_REQUEUE_PI", 12: "FUTEX_CMP_REQUEUE_PI", 13: "FUTEX_LOCK_PI2",
}  # fmt: skip
MESSAGE_FLAGS = {
    1: "MSG_OOB", 2: "MSG_PEEK", 4: "MSG_DONTROUTE", 0x40: "MSG_DONTWAIT", 0x100: "MSG_WAITALL", 0x2000: "MSG_ERRQUEUE",
    0x4000: "MSG_NOSIGNAL", 0x8000: "MSG_MORE", 0x4000000: "MSG_ZEROCOPY", 0x20000000: "MSG_FASTOPEN",
}  # fmt: skip
PIPE_FLAGS = {0x80: "O_NOTIFICATION_PIPE", 0x800: "O_NONBLOCK", 0x80000: "O_CLOEXEC", 0x4000: "O_DIRECT"}
PTRACE = {0: "PTRACE_TRACEME", 6: "PTRACE_POKEUSER", 0x4200: "PTRACE_SETOPTIONS", 0x4206: "PTRACE_SEIZE"}
MPROTECT = {1: "PROT_READ", 2: "PROT_WRITE", 4: "PROT_EXEC"}

# (call, argument index) -> (what the argument is called, names of its values, whether they are bits)
ARGUMENTS: dict[tuple[str, int], tuple[str, dict[int, str], bool]] = {
    ("socket", 0): ("family", FAMILIES, False),
    ("socket", 1): ("type", SOCKET_TYPES, False),
    ("socket", 2): ("protocol", IP_PROTOCOLS, False),
    ("socketpair", 0): ("family", FAMILIES, False),
    ("socketpair", 1): ("type", SOCKET_TYPES, False),
    ("socketpair", 2): ("protocol", {}, False),
    ("clone", 0): ("flags", CLONE_FLAGS, True),
    ("unshare", 0): ("flags", CLONE_FLAGS, True),
    ("setns", 1): ("kind", CLONE_FLAGS, True),
    ("prctl", 0): ("option", PRCTL, False),
    ("ioctl", 1): ("request", IOCTL, False),
    ("personality", 0): ("personality", PERSONALITIES, False),
    ("setsockopt", 1): ("level", SOCKET_LEVELS, False),
    ("setsockopt", 2): ("option", {}, False),
    ("getsockopt", 1): ("level", SOCKET_LEVELS, False),
    ("getsockopt", 2): ("option", {}, False),
    ("futex", 1): ("operation", FUTEX, False),
    ("madvise", 2): ("advice", names.ADVICE, False),
    ("sendto", 3): ("flags", MESSAGE_FLAGS, True),
    ("sendmsg", 2): ("flags", MESSAGE_FLAGS, True),
    ("sendmmsg", 3): ("flags", MESSAGE_FLAGS, True),
    ("recvfrom", 3): ("flags", MESSAGE_FLAGS, True),
    ("recvmsg", 2): ("flags", MESSAGE_FLAGS, True),
    ("recvmmsg", 3): ("flags", MESSAGE_FLAGS, True),
    ("pipe2", 1): ("flags", PIPE_FLAGS, True),
    ("ptrace", 0): ("request", PTRACE, False),
    ("fcntl", 1): ("command", names.FCNTL, False),
    ("mmap", 2): ("protection", MPROTECT, True),
    ("mprotect", 2): ("protection", MPROTECT, True),
    ("kill", 1): ("signal", {}, False),
    ("timer_create", 0): ("clock", CLOCKS, False),
    ("clock_nanosleep", 0): ("clock", CLOCKS, False),
}  # fmt: skip
ERRNO = {1: "EPERM", 2: "ENOENT", 13: "EACCES", 22: "EINVAL", 38: "ENOSYS", 95: "EOPNOTSUPP"}
