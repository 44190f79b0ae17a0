"""What the hook and the attacher take from themselves, with python-prctl.

The attacher keeps three capabilities, where it has them at all:
- SYS_PTRACE: seize processes of other users and with more capabilities, read their /proc files;
- SYS_ADMIN: read filters back and suspend them (PTRACE_SECCOMP_GET_FILTER, PTRACE_O_SUSPEND_SECCOMP);
- KILL: kill a container of another user whose attachment failed.
Root's files (the log) need none: they belong to the same user id. DAC_OVERRIDE is therefore dropped.
"""

from __future__ import annotations

import errno
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

# Debian's place, then that of Fedora and its kin.
_PACKAGES = (
    "/usr/lib/python3/dist-packages",
    f"/usr/{sys.platlibdir}/python{sys.version_info.major}.{sys.version_info.minor}/site-packages",
)
_KEPT = ("kill", "sys_ptrace", "sys_admin")


def attacher(name: str = "fhir-attach") -> None:
    """Harden the attacher: named, not dumpable, no new privileges, only the capabilities above. Raises OSError."""
    _harden(name)
    import prctl  # type: ignore[import-not-found, unused-ignore]

    _shrink_bounding(prctl)
    # Ambient capabilities go with the inheritable ones.
    prctl.cap_inheritable.limit()
    prctl.cap_effective.limit(*_KEPT)
    prctl.cap_permitted.limit(*_KEPT)


def hook(name: str = "fhir-hook") -> None:
    """Harden the hook itself: named, not dumpable, no new privileges. Raises OSError.

    Its capabilities stay: it reads image stores of other users, and the attacher that it forks keeps three of them.
    """
    _harden(name)


def _harden(name: str) -> None:
    # The hook runs with -S, which leaves the distribution's packages out.
    if _PACKAGES[0] not in sys.path:
        sys.path += _PACKAGES
    # python-prctl's C half: its Python half, which only the attacher needs, takes 0.5 ms to load.
    import _prctl  # type: ignore[import-not-found, unused-ignore]

    _prctl.prctl(_prctl.PR_SET_NAME, name)
    _prctl.prctl(_prctl.PR_SET_DUMPABLE, 0)
    _prctl.prctl(_prctl.PR_SET_NO_NEW_PRIVS, 1)


def _shrink_bounding(prctl: ModuleType) -> None:
    kept = [getattr(prctl, f"CAP_{name.upper()}") for name in _KEPT]
    for capability in prctl.ALL_CAPS:
        if capability in kept:
            continue
        try:
            prctl.capbset.drop(capability)
        except OSError as error:
            if error.errno == errno.EPERM:
                return  # An ordinary user's attacher has no capability that could matter.
            if error.errno != errno.EINVAL:  # EINVAL: newer than the running kernel.
                raise
