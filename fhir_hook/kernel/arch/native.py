"""The layout of the machine that this process runs on."""

from __future__ import annotations

import posix

from fhir_hook.kernel.arch.layout import Layout


def _layout(machine: str) -> Layout:
    if machine == "x86_64":
        from fhir_hook.kernel.arch.x86_64 import X86_64

        return X86_64()
    if machine == "aarch64":
        from fhir_hook.kernel.arch.aarch64 import Aarch64

        return Aarch64()
    raise OSError(f"fhir-hook attaches to processes on x86_64 and aarch64 only, not on {machine}")


LAYOUT = _layout(posix.uname().machine)
