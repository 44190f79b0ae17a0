"""Compiling a linux.seccomp section with libseccomp, rule by rule as runc and crun do; the only import of its binding.

Debian's python3-seccomp (libseccomp's own binding) and PyPI's pyseccomp have the same interface but for architectures.
"""

from __future__ import annotations

import errno as errno_names
import os
from typing import Any

from fhir_hook.core import oci_seccomp

try:
    import pyseccomp as seccomp
except ImportError:
    try:
        import seccomp
    except ImportError:
        raise ImportError("no binding for libseccomp: install python3-seccomp (or pyseccomp from PyPI)") from None

TOKENS = {
    "SCMP_ARCH_X86_64": "X86_64",
    "SCMP_ARCH_X86": "X86",
    "SCMP_ARCH_X32": "X32",
    "SCMP_ARCH_AARCH64": "AARCH64",
    "SCMP_ARCH_ARM": "ARM",
}
PYSECCOMP = seccomp.__name__ == "pyseccomp"
OPTIMIZE_TREE = 2  # SCMP_FLTATR_CTL_OPTIMIZE: a binary tree over the numbers instead of one long chain
LONGEST_BPF = 4096 * 8


class CompileError(Exception):
    """libseccomp refused a rule, or the program is not what the section means; str() is one line for people."""


def _action(answer: tuple[str, int]) -> Any:
    name, errno = answer
    if name == "SCMP_ACT_ERRNO":
        return seccomp.ERRNO(errno)
    if name == "SCMP_ACT_TRACE":
        return seccomp.TRACE(errno)
    return {
        "SCMP_ACT_ALLOW": seccomp.ALLOW,
        "SCMP_ACT_LOG": seccomp.LOG,
        "SCMP_ACT_TRAP": seccomp.TRAP,
        "SCMP_ACT_NOTIFY": seccomp.NOTIFY,
        "SCMP_ACT_KILL_THREAD": seccomp.KILL,
        "SCMP_ACT_KILL_PROCESS": seccomp.KILL_PROCESS,
    }[name]


def _arg(entry: dict[str, Any]) -> Any:
    index, op, value, value_two = oci_seccomp.condition(entry)
    operator = getattr(seccomp, op.removeprefix("SCMP_CMP_"))
    return seccomp.Arg(index, operator, value, value_two)


def _arch(token: str) -> Any:
    """An architecture as the binding takes it: libseccomp's own wants an object, pyseccomp the bare number."""
    value = getattr(seccomp.Arch, TOKENS[token])
    return value if PYSECCOMP else seccomp.Arch(value)


def _machine() -> Any:
    return seccomp.system_arch() & 0xFFFF_FFFF if PYSECCOMP else seccomp.Arch()


def _only(context: Any, arch: Any) -> None:
    native = _machine()
    if int(native) == int(arch):
        return
    context.add_arch(arch)
    context.remove_arch(native)


def compile_section(section: dict[str, Any], arch: str, bad_arch: str | None = None) -> bytes:
    """The program (packed struct sock_filter) that a runtime on a machine of `arch` makes of the section.

    bad_arch: the action for calls of other ABIs; left out: libseccomp's own, SCMP_ACT_KILL, as with the runtimes.
    Raises CompileError when libseccomp refuses, ValueError on a section that no runtime takes.
    """
    default = oci_seccomp.action(section.get("defaultAction"), section.get("defaultErrnoRet"))
    context = seccomp.SyscallFilter(_action(default))
    _only(context, _arch(oci_seccomp.ARCH_TOKENS[arch]))
    for token in section.get("architectures") or ():
        extra = _arch(token)
        if not context.exist_arch(extra):
            context.add_arch(extra)
    if bad_arch is not None:
        context.set_attr(seccomp.Attr.ACT_BADARCH, _action(oci_seccomp.action(bad_arch)))
    if section.get("syscalls"):
        # libseccomp 2.5.4 builds a broken tree when there are no rules at all.
        context.set_attr(seccomp.Attr.CTL_OPTIMIZE, OPTIMIZE_TREE)
    for entry in section.get("syscalls") or ():
        answer = oci_seccomp.action(entry.get("action"), entry.get("errnoRet"))
        if answer == default:
            continue
        _add_entry(context, entry, _action(answer))
    return _export(context)


def _add_entry(context: Any, entry: dict[str, Any], action: Any) -> None:
    args = entry.get("args") or ()
    indices = [arg["index"] for arg in args]
    for name in entry.get("names") or ():
        if not known(name):
            continue
        try:
            if len(set(indices)) < len(indices):
                for arg in args:
                    context.add_rule(action, name, _arg(arg))
            else:
                context.add_rule(action, name, *[_arg(arg) for arg in args])
        except (RuntimeError, OSError) as error:
            raise CompileError(f"libseccomp refuses a rule for {name}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    text = str(error)
    for number, name in errno_names.errorcode.items():
        if f"-{number})" in text:
            return f"{name} ({os.strerror(number)})"
    return text


def known(name: str) -> bool:
    """Whether libseccomp knows the call on any architecture; runtimes skip rules for the others."""
    number: int = seccomp.resolve_syscall(_machine(), name)
    return number != -1


def _export(context: Any) -> bytes:
    descriptor = os.memfd_create("seccomp.bpf", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "w+b") as file:
        context.export_bpf(file)
        return os.pread(file.fileno(), LONGEST_BPF + 8, 0)


def version() -> str:
    """The binding and its API level, for the record of what compiled a policy."""
    return f"{seccomp.__name__}, libseccomp API level {seccomp.get_api()}"
