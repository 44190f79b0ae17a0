"""What the system tests look at: a process's kernel state, what its filters answer, the log, an image's marker file."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fhir_hook.core import bpf, bpf_classify, capabilities
from fhir_hook.core.syscalls_x86_64 import NUMBERS
from fhir_hook.kernel import readback
from host.machine import Host, proc_status

HOOK = Path("/usr/libexec/fhir-hook/hook")
SHARED_HOOKS = Path("/usr/share/containers/oci/hooks.d")
STATE = Path("/var/lib/fhir-hook")
SETTINGS = Path("/etc/fhir-hook")
LOG = Path("/var/log/fhir-hook/decisions.jsonl")
# Podman with the hook that every engine runs, but not the precreate one: the live path.
LIVE = ("--hooks-dir", str(SHARED_HOOKS))
FHIR, PLAIN = "probe:hapi", "probe:plain"
HAPI_SOURCE = "https://github.com/hapifhir/hapi-fhir-jpaserver-starter"
# What "the same kernel state" means: all but how many filters there are, which the two paths differ in.
STATUS = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
# Calls that no FHIR server makes and that Podman's own profile or a capability would let through.
DENIED = ("unshare", "mount", "ptrace", "bpf", "keyctl", "add_key", "io_uring_setup")

Records = list[dict[str, Any]]


def kernel_state(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status that a plan is about."""
    status = proc_status(pid)
    return {key: status[key] for key in STATUS}


def caps(status: dict[str, str]) -> dict[str, list[str]]:
    """The five sets of a status, by capability names."""
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    return {key: capabilities.names(int(status[key], 16)) for key in sets}


def confined(status: dict[str, str]) -> bool:
    """Whether a status shows a filter, no_new_privs and no capability: what the profile hapi makes of a container."""
    return (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1") and not any(caps(status).values())


def filters(pid: int) -> list[bpf.Program]:
    """The kernel's copies of a process's filters, oldest first."""
    return [bpf.decode(program) for program in readback.filters(pid)]


def answer(programs: list[bpf.Program], nr: int, arch: int, args: tuple[int, ...]) -> tuple[str, int]:
    """What stacked filters answer: the strictest action, of equal ones the newest filter's (seccomp_run_filters())."""
    best = bpf.RET_ALLOW
    for program in reversed(programs):
        value = bpf.run(program, nr, arch, 0, args)
        if _signed(value) < _signed(best):
            best = value
    return bpf.decision(best)


def _signed(value: int) -> int:
    action = value & 0xFFFF_0000
    return action - (1 << 32) if action & 0x8000_0000 else action


def differences(left: list[bpf.Program], right: list[bpf.Program]) -> list[str]:
    """Calls that two stacks of filters answer differently: every number, foreign ABIs, all values the filters know."""
    if left == right:
        return []
    every = [*range(0, 480), 1000, 1 << 20, 0xFFFF_FFFF]
    x32 = [bpf.X32_BIT | nr for nr in (*range(0, 480, 9), *range(512, 548, 5))]
    numbers = {"x86_64": [*every, *x32], "x86": [*range(0, 450, 9), 102, 120, 310], "aarch64": [*range(0, 450, 45)]}
    known = _known([*left, *right])
    found = []
    for name, calls in numbers.items():
        for nr in calls:
            for args in _arguments([*left, *right], bpf.ARCH[name], nr, known):
                one, other = answer(left, nr, bpf.ARCH[name], args), answer(right, nr, bpf.ARCH[name], args)
                if one != other:
                    found.append(f"{_name(nr)} on {name} with {args}: {one} and {other}")
                    break
    return found


def _known(programs: list[bpf.Program]) -> list[int]:
    """The values that programs compare arguments with: what follows a load from behind seccomp_data.args."""
    values, loaded = {0, 1}, 0
    for program in programs:
        for code, _, _, k in program:
            if code == bpf.LD_ABS:
                loaded = k
            elif loaded >= 16 and (code & ~bpf.X_SOURCE in bpf.JUMPS or code & ~bpf.X_SOURCE in bpf.ALU):
                values |= {k, k + 1 & bpf.WORD}
    return sorted(values)


def _arguments(programs: list[bpf.Program], arch: int, nr: int, known: list[int]) -> Iterator[tuple[int, ...]]:
    yield (0,) * 6
    if all(len(bpf_classify.answers(program, arch, nr)) == 1 for program in programs):
        return
    chance = random.Random(nr)
    for index in range(6):
        for value in known:
            for odd in (value, value | 1 << 32):
                yield tuple(odd if i == index else 0 for i in range(6))
    for _ in range(100):
        yield tuple(chance.choice(known) for _ in range(6))


def _name(nr: int) -> str:
    return next((name for name, number in NUMBERS.items() if number == nr), str(nr))


def tried(output: str) -> dict[str, str]:
    """What the probe's try program printed, by attempt."""
    return {name: result for name, _, result in (line.partition(" ") for line in output.splitlines())}


@contextlib.contextmanager
def watching(host: Host, user: str | None = None) -> Iterator[Records]:
    """The records that are appended meanwhile, in the list that is yielded, when the block ends."""
    before = len(host.records(user))
    seen: Records = []
    try:
        yield seen
    finally:
        seen += host.records(user)[before:]


def codes(record: dict[str, Any]) -> list[str]:
    """The codes of a record's reasons and findings."""
    return [item["code"] for item in [*record.get("reasons", []), *record.get("findings", [])]]


def only(records: Records, **members: Any) -> dict[str, Any]:
    """The one record with these members."""
    found = [record for record in records if all(record.get(key) == value for key, value in members.items())]
    assert len(found) == 1, f"{len(found)} records with {members} among {records}"
    return found[0]


def unbroken(path: Path = LOG) -> bool:
    """Whether seq and prev of the log at `path` hold from its first record to its last."""
    from fhir_hook.store import log_reader

    return not [entry.problem for entry in log_reader.entries(path) if entry.problem]


def wait_until(holds: Callable[[], bool], what: str, timeout: float = 10) -> None:
    """Wait for something to become true; AssertionError saying `what` when it doesn't."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"waited {timeout} s in vain for: {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs: neither gone nor a zombie."""
    try:
        return proc_status(pid)["State"][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError, KeyError):
        return False


def policy_index() -> dict[str, Any]:
    """selectors.json of the policy in force."""
    index: dict[str, Any] = json.loads((STATE / "selectors.json").read_text())
    return index
