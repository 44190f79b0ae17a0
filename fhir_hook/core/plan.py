"""What is put in force on a container's process: the plan of the live path."""

from __future__ import annotations

# struct sock_filter is 8 bytes; the kernel takes at most BPF_MAXINSNS of them in one filter (linux/bpf_common.h).
INSTRUCTION = 8
LONGEST_FILTER = 4096
# MAX_INSNS_PER_PATH of kernel/seccomp.c: all stacked filters together, each counted with 4 instructions more.
LONGEST_PATH = 32768
PER_FILTER = 4


class Capabilities:
    """The five capability sets of a process as bit masks (bit N = capability number N)."""

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted")

    def __init__(
        self, bounding: int = 0, effective: int = 0, permitted: int = 0, inheritable: int = 0, ambient: int = 0
    ) -> None:
        self.bounding = bounding
        self.effective = effective
        self.permitted = permitted
        self.inheritable = inheritable
        self.ambient = ambient

    def meet(self, other: Capabilities) -> Capabilities:
        """The sets that both sides allow."""
        return Capabilities(
            self.bounding & other.bounding,
            self.effective & other.effective,
            self.permitted & other.permitted,
            self.inheritable & other.inheritable,
            self.ambient & other.ambient,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Capabilities):
            return NotImplemented
        return (self.bounding, self.effective, self.permitted, self.inheritable, self.ambient) == (
            other.bounding,
            other.effective,
            other.permitted,
            other.inheritable,
            other.ambient,
        )

    def __hash__(self) -> int:
        return hash((self.bounding, self.effective, self.permitted, self.inheritable, self.ambient))

    def __repr__(self) -> str:
        return (
            f"Capabilities(bounding={self.bounding:#x}, effective={self.effective:#x}, "
            f"permitted={self.permitted:#x}, inheritable={self.inheritable:#x}, ambient={self.ambient:#x})"
        )


class LivePlan:
    """Filters (packed struct sock_filter arrays, oldest first), capability sets asked and left, no_new_privs.

    In complain mode nothing is dropped and no_new_privs stays as the runtime sets it; only the filters are attached.
    `logged`: the kernel logs what the filters deny.

    Raises ValueError when the kernel could never take the filters, or when an enforcing plan does without
    no_new_privs: a process without CAP_SYS_ADMIN may not attach a filter then (seccomp(2)).
    """

    __slots__ = ("asked", "complain", "filters", "left", "logged", "no_new_privs")

    def __init__(
        self,
        filters: tuple[bytes, ...],
        asked: Capabilities,
        left: Capabilities,
        no_new_privs: bool = True,
        complain: bool = False,
        logged: bool = False,
    ) -> None:
        for program in filters:
            if not program or len(program) % INSTRUCTION:
                raise ValueError(f"a filter of {len(program)} bytes is no array of struct sock_filter")
            if len(program) > LONGEST_FILTER * INSTRUCTION:
                raise ValueError(
                    f"a filter of {len(program) // INSTRUCTION} instructions is longer than {LONGEST_FILTER}"
                )
        if sum(len(program) // INSTRUCTION + PER_FILTER for program in filters) > LONGEST_PATH:
            raise ValueError(f"the filters together are longer than {LONGEST_PATH} instructions")
        if not complain and not no_new_privs:
            raise ValueError("an enforcing plan needs no_new_privs")
        self.filters = filters
        self.asked = asked
        self.left = left
        self.no_new_privs = no_new_privs
        self.complain = complain
        self.logged = logged
