"""All checks in the order in which people should read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fhir_hook.health import engines, installed, logged, off_host, platform, probe, running, state, switch
from fhir_hook.health.finding import Finding, bad

CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    switch.switched,
    installed.launcher,
    installed.starts,
    installed.ownership,
    installed.refusals,
    installed.bytecode,
    installed.others,
    switch.hook_files,
    switch.drop_in,
    switch.as_podman_says,
    switch.rootless,
    switch.other_hooks,
    switch.crio,
    engines.without_hooks,
    engines.shim,
    platform.python,
    platform.libseccomp,
    platform.kernel,
    platform.engines,
    platform.rootless,
    state.policy_in_force,
    state.watcher,
    logged.denials,
    state.log_directory,
    state.log_chain,
    off_host.held_elsewhere,
    off_host.archived,
    running.bypassed,
)


def checkup(with_probe: bool = False) -> Iterator[Finding]:
    """Run every check; one that fails itself becomes a finding, and the others are still made."""
    for check in (*CHECKS, *((probe.containers,) if with_probe else ())):
        try:
            yield from check()
        except Exception as error:  # noqa: BLE001 - a doctor must not die of what it finds
            name = f"{check.__module__.rpartition('.')[2]}.{check.__name__}"
            why = "what this check looks at is not known to be well"
            seen = f"the check failed: {type(error).__name__}: {error}"
            yield bad(name, seen, why, "this is a defect of fhir-hook: report it with this line")
