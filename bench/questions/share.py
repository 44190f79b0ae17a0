"""What does the hook itself take beyond starting its interpreter?"""

from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from bench import estimate
from bench.alternate import alternate
from bench.arms import HOOK, HOOK_ENVIRONMENT, Bench, BenchError, timed
from bench.result import Result, load
from bench.row import Row

TITLE = "The hook's own share"
SECONDS = 50.0
BARE = ["/usr/bin/python3", "-IS", "-c", "pass"]
CHECKING = {"CHECK": "1"}
OTHERS = ("conventional", "checking")


def measure(bench: Bench, share: float) -> None:
    """Times the hook's stages and the bare interpreter on the same input, as the engine and the runtime call them."""
    plain, plain_config = bench.config("probe:plain", "sleeper")
    fhir, fhir_config = bench.config("probe:hapi", "sleeper")
    directory = bench.host.directory()
    plain_bundle = _bundle(directory / "plain", plain_config, plain)
    fhir_bundle = _bundle(directory / "fhir", fhir_config, fhir)
    edited = subprocess.run([HOOK, "precreate"], input=fhir_config, stdout=subprocess.PIPE, check=True).stdout
    gate_bundle = _bundle(directory / "gate", edited, fhir)
    entry = json.loads(edited)["hooks"]["createRuntime"][-1]
    conventional = str(bench.conventional().parent / "hook")
    arms: dict[str, Callable[[], float]] = {
        "bare": lambda: _timed(BARE, plain_bundle / "config.json"),
        "bare again": lambda: _timed(BARE, plain_bundle / "config.json"),
        "plain precreate": lambda: _timed([HOOK, "precreate"], plain_bundle / "config.json"),
        "plain prestart": lambda: _timed([HOOK, "prestart"], plain_bundle / "state.json"),
        "fhir precreate": lambda: _timed([HOOK, "precreate"], fhir_bundle / "config.json"),
        "fhir gate": lambda: _timed([entry["path"], *entry["args"][1:]], gate_bundle / "state.json"),
        "fhir prestart": lambda: _attached(fhir_bundle),
        "plain conventional": lambda: _timed([conventional], plain_bundle / "config.json"),
        "fhir conventional": lambda: _timed([conventional], fhir_bundle / "config.json"),
        "fhir checking": lambda: _timed([conventional], fhir_bundle / "config.json", CHECKING),
    }
    processor: dict[str, list[float]] = {name: [] for name in arms}
    both = {name: lambda arm=arm, name=name: _with_processor_time(arm, processor[name]) for name, arm in arms.items()}
    try:
        blocks = alternate("the hook's stages", both, SECONDS * share)
    finally:
        bench.remove(plain, fhir)
    # The first value is of the block that alternate() throws away.
    used = zip(*(processor[name][1:] for name in arms), strict=True)
    kept = {name: [block[number] for block in blocks] for number, name in enumerate(arms)}
    kept |= {f"{name} cpu": values for name, values in zip(arms, zip(*used, strict=True), strict=True)}
    beside = [name for name in arms if not name.endswith(OTHERS)]
    _save(bench, "share", [*beside, *(f"{name} cpu" for name in beside)], kept)
    _save(bench, "share-conventional", list(arms), kept)


def _save(bench: Bench, name: str, arms: list[str], kept: Mapping[str, Sequence[float]]) -> None:
    bench.result(name, "ms", arms, [list(block) for block in zip(*(kept[arm] for arm in arms), strict=True)]).save()


def _timed(argv: list[str], stdin: Path, more: Mapping[str, str] = MappingProxyType({})) -> float:
    return timed(argv, stdin, env={**HOOK_ENVIRONMENT, **more})


def _with_processor_time(arm: Callable[[], float], used: list[float]) -> float:
    """Runs an arm; appends the milliseconds of processor time that its process took, which other work can't lengthen.

    An attacher that goes on is not in it.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = arm()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used.append(round((after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1e3, 4))
    return took


def _bundle(path: Path, config: bytes, container: str) -> Path:
    path.mkdir()
    (path / "config.json").write_bytes(config)
    _state(path, container, 1)
    return path


def _state(bundle: Path, container: str, pid: int) -> None:
    state = {"ociVersion": "1.0.2", "id": container, "status": "created", "pid": pid, "bundle": str(bundle)}
    (bundle / "state.json").write_text(json.dumps(state))


def _attached(bundle: Path) -> float:
    """The prestart hook on a process that waits, as the runtime's init does while hooks run."""
    with subprocess.Popen(["/usr/bin/sleep", "60"]) as init:
        try:
            _wait_for(lambda: Path(f"/proc/{init.pid}/comm").read_text() == "sleep\n")
            _state(bundle, json.loads((bundle / "state.json").read_text())["id"], init.pid)
            took = _timed([HOOK, "prestart"], bundle / "state.json")
            if _tracer(init.pid) == 0:
                raise BenchError("the prestart hook returned, and nobody traces the process that it was called for")
            return took
        finally:
            init.kill()


def _tracer(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("TracerPid:")[1].split()[0])


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        if time.monotonic() > end:
            raise BenchError("sleep did not start")
        time.sleep(0.001)


def results() -> list[Result]:
    """What was kept of it."""
    return [found for name in ("share", "share-conventional") if (found := load(name))]


# words, stages, goal in milliseconds
COMPARED: tuple[tuple[str, tuple[str, ...], float | None], ...] = (
    ("not FHIR, precreate", ("plain precreate",), 4),
    ("not FHIR, prestart", ("plain prestart",), 4),
    ("FHIR, precreate", ("fhir precreate",), None),
    ("FHIR, gate", ("fhir gate",), None),
    ("FHIR, native: precreate and gate, two interpreters", ("fhir precreate", "fhir gate"), 16),
    ("FHIR, live: prestart, one interpreter and a fork", ("fhir prestart",), 16),
    ("noise: bare interpreter against itself", ("bare again",), None),
)


# stages, the conventional hook that does as much, words, goal
CONVENTIONAL: tuple[tuple[tuple[str, ...], str, str, float | None], ...] = (
    (("plain precreate",), "plain conventional", "not FHIR", 0.4),
    (("fhir precreate", "fhir gate"), "fhir conventional", "FHIR, native: both stages", 0.4),
    (("fhir precreate", "fhir gate"), "fhir checking", "FHIR, native: both stages, one that checks a schema", None),
)


def says() -> str:
    """One sentence of it."""
    result, other = load("share"), load("share-conventional")
    if result is None:
        return ""
    bare, plain = (estimate.of(result.arm(arm)).value for arm in ("bare", "plain precreate"))
    words = f"The bare interpreter takes {bare:.1f} ms, the hook for a container that is not FHIR {plain:.1f} ms"
    if other is None:
        return f"{words}."
    ratio = estimate.ratio(other.arm("plain precreate"), other.arm("plain conventional")).value
    return f"{words}, which is {ratio:.2f} of what the same takes in conventional Python."


def rows() -> list[Row]:
    """Milliseconds over as many bare interpreters as the stages start; processor time in brackets."""
    own, other = load("share"), load("share-conventional")
    found = [_row(own, *compared) for compared in COMPARED] if own else []
    return found + ([_against(other, *compared) for compared in CONVENTIONAL] if other else [])


def _against(result: Result, stages: tuple[str, ...], base: str, words: str, goal: float | None) -> Row:
    ratio = estimate.paired(
        lambda conventional, *values: sum(values) / conventional,
        result.arm(base),
        *(result.arm(name) for name in stages),
    )
    sides = [
        estimate.paired(lambda *values: sum(values), *(result.arm(name) for name in names)).value
        for names in ((base,), stages)
    ]
    bare = estimate.of(result.arm("bare")).value * len(stages)
    why = f"{bare:.0f} of the {sides[1]:.0f} ms are {len(stages)} starts of the interpreter, the other hook has one"
    what = f"hook against conventional Python hook: {words}"
    return Row(what, f"{sides[0]:.1f} ms", f"{sides[1]:.1f} ms", ratio, goal=goal, why=why)


def _row(result: Result, words: str, stages: tuple[str, ...], goal: float | None) -> Row:
    wall, processor = (
        [
            estimate.paired(lambda *values: sum(values), *(result.arm(f"{name}{kind}") for name in names)).value
            for names in (["bare"] * len(stages), stages)
        ]
        for kind in ("", " cpu")
    )
    over = estimate.paired(
        lambda bare, *values: sum(values) - len(values) * bare,
        result.arm("bare"),
        *(result.arm(name) for name in stages),
    )
    without, measured = (f"{a:.1f} ms ({b:.1f})" for a, b in zip(wall, processor, strict=True))
    return Row(f"hook over bare interpreter (processor time): {words}", without, measured, over, "ms", goal)
