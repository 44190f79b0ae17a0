"""What does the log cost with up to ten million records behind it: to append, to verify, to prove one record?"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from bench import estimate, picture
from bench.alternate import alternate
from bench.arms import Bench
from bench.result import Result, load
from bench.row import Row
from fhir_hook.audit import checkpoint, note, proof, signing, tree, verification
from fhir_hook.audit.checkpoint import Signed
from fhir_hook.audit.places import Places
from fhir_hook.store import log

TITLE = "The log"
SECONDS = 8.0  # of appending, at each size
SIZES = (10**3, 10**4, 10**5, 10**6, 10**7)
ARMS = ("append", "bare")
RATES = ("verify", "verify with one process", "verify, processor time", "checkpoint")
KINDS = (*RATES, "proof", "proof read", "memory of verify")
BODY = '"event":"decision","decision":"confined","x":"' + "x" * 330 + '"}\n'
"""With time, seq and prev a record of some 480 bytes, between an outcome and a decision of a small plan."""


def measure(bench: Bench, share: float) -> None:
    """Makes a log of each size where the product has it, and asks; what was there is put back."""
    places = Places.default()
    kept = bench.host.directory()
    _move(places.log, kept / "log")
    _move(places.tree, kept / "tree")
    try:
        blocks = []
        for size in SIZES if bench.full else SIZES[:-1]:
            _append(bench, places, size, SECONDS * share)
            blocks.append([float(size), *_audit(places, size)])
            _empty(places)
        bench.result("log", "s, KiB", ["records", *KINDS], blocks).save()
    finally:
        _empty(places)
        _move(kept / "log", places.log)
        _move(kept / "tree", places.tree)


def _move(source: Path, target: Path) -> None:
    """Moves what is in a directory, which may be a mount point itself."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir() if source.is_dir() else []:
        shutil.move(path, target / path.name)


def _empty(places: Places) -> None:
    for place in (places.log, places.tree):
        for path in place.iterdir():
            path.unlink()


def _append(bench: Bench, places: Places, size: int, seconds: float) -> None:
    """Milliseconds that one append takes, and a bare write and fdatasync of as many bytes, in turn."""
    _write(places.log / "decisions.jsonl", size)
    fields = {"event": "decision", "decision": "confined", "x": "x" * 250}
    length = len(log.encoded(log.append(fields), ""))
    bare = places.log / "bare"
    arms: dict[str, Callable[[], float]] = {
        "append": lambda: _timed(lambda: log.append(fields)),
        "bare": lambda: _timed(lambda: _bare(bare, b"x" * length)),
    }
    blocks = alternate(f"append with {size:,} records behind", arms, seconds, 500)
    bare.unlink()
    bench.result(f"log-append-{size}", "ms", list(ARMS), blocks, length=length).save()


def _write(path: Path, size: int) -> None:
    prev = log.FIRST_PREV
    with path.open("wb", buffering=1 << 20) as file:
        for seq in range(size):
            when = f"2026-{seq // 2_678_400 % 12 + 1:02}-{seq // 86_400 % 28 + 1:02}T{seq // 3600 % 24:02}:00:00"
            line = f'{{"time":"{when}.{seq % 10**6:06}Z","seq":{seq},"prev":"{prev}",{BODY}'.encode()
            file.write(line)
            prev = sha256(line).hexdigest()


def _bare(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    os.write(fd, data)
    os.fdatasync(fd)
    os.close(fd)


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    act()
    return (time.perf_counter_ns() - began) / 1e6


def _audit(places: Places, size: int) -> list[float]:
    """A value for each of KINDS: seconds, but KiB read for the proof, and MiB that verifying holds at most."""
    signer = note.Signer("bench.example/log", b"b" * 32)
    with tree.locked(places.tree):
        began = time.perf_counter()
        state = tree.update(places.tree, places.log).state
        took = time.perf_counter() - began
    at = checkpoint.Checkpoint("bench.example/log", state.size, state.root)
    signed = checkpoint.opened(checkpoint.sign(at, [signer]), [signer.verifier])
    signing.publish(places, signed.data)
    verify = []
    for workers in (0, 1):
        began, used = time.perf_counter(), time.process_time()
        assert verification.verify(places.log, [signed], places.tree, workers).good
        verify.append(time.perf_counter() - began)
    verify.append(time.process_time() - used)
    proofs = sorted(_proof(places, size * part // 100, signed) for part in range(1, 100, 7))
    return [*verify, took, proofs[-1][0], max(read for _, read in proofs), _memory(places, str(signer.verifier))]


def _proof(places: Places, seq: int, signed: Signed) -> tuple[float, float]:
    before, began = _read(), time.perf_counter()
    proof.inclusion(places.log, places.tree, seq, signed)
    return time.perf_counter() - began, (_read() - before) / 1024


def _read() -> int:
    """Bytes that this process has read (proc_pid_io(5))."""
    return int(Path("/proc/self/io").read_text().split()[1])


def _memory(places: Places, key: str) -> float:
    """MiB of the largest process of the command that verifies with one process."""
    code = (
        "import resource, runpy, sys\nsys.argv[0] = 'fhir-hook'\n"
        "try:\n    runpy.run_module('fhir_hook.cli.main', run_name='__main__')\n"
        "finally:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
    )
    argv = ["/usr/bin/python3", "-c", code, "log", "verify", "--log", places.log, "--key", key, "--workers", "1"]
    argv += ["--checkpoint", places.checkpoint]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(root)})
    return int(done.stderr.split()[-1]) / 1024


def results() -> list[Result]:
    """What was kept of it."""
    return [found for found in [load("log"), *(load(f"log-append-{size}") for size in SIZES)] if found]


def says() -> str:
    """One sentence of it."""
    found = [(size, result) for size in SIZES if (result := load(f"log-append-{size}"))]
    over = [estimate.difference(result.arm("append"), result.arm("bare")).value for _, result in found]
    return (
        f"An append takes {min(over):.2f} to {max(over):.2f} ms more than a bare write that reaches the disk, with "
        f"{found[0][0]:,} to {found[-1][0]:,} records behind it."
    )


def rows() -> list[Row]:
    """Appending at each size, then the rest at the largest."""
    audit, found, appends = load("log"), [], {}
    for size in SIZES:
        result = load(f"log-append-{size}")
        if result is None:
            continue
        over = estimate.difference(result.arm("append"), result.arm("bare"))
        append, bare = (estimate.of(result.arm(arm)).value for arm in ARMS)
        appends[float(size)] = result.arm("append")
        words = f"log: append with {size:,} records behind, over a bare write and fdatasync"
        found.append(Row(words, f"{bare:.2f} ms", f"{append:.2f} ms", over, "ms", 1))
    if len(appends) > 1:
        slope = estimate.exponent(list(appends), list(appends.values()))
        found.append(Row("log: append, exponent over these sizes", "", f"{slope.value:.3f}", slope, "", 0.1))
    return found + (_audit_rows(audit) if audit else [])


def _audit_rows(result: Result) -> list[Row]:
    sizes = result.arm("records")
    last = dict(zip(result.arms, result.blocks[-1], strict=True))
    count = f"{int(last['records']):,} records"
    found = []
    for kind in RATES:
        each = last[kind] / last["records"] * 1e6
        slope = estimate.slope(sizes, result.arm(kind))
        words = f"log: {kind}, {count}, per record (exponent {slope:.2f})"
        rate = f"{last['records'] / last[kind]:,.0f}/s"
        found.append(Row(words, "", rate, estimate.exact(each), "us", 5 if kind in RATES[::2] else None))
    took = estimate.exact(last["proof"] * 1000)
    found.append(Row(f"log: proof of one of {count}", "", f"{took.value:.1f} ms", took, "ms", 50))
    read = last["proof read"]
    found.append(Row("log: read for that proof", "", f"{read:.0f} KiB", estimate.exact(read), "KiB", 1024))
    least = min(result.arm("memory of verify"))
    memory = estimate.exact(last["memory of verify"])
    found.append(Row(f"log: verify, memory, {count}", f"{least:.0f} MiB", f"{memory.value:.0f} MiB", memory, "MiB"))
    return found


def draw(path: Path) -> None:
    """Milliseconds over the number of records."""
    appends = {float(size): found for size in SIZES if (found := load(f"log-append-{size}"))}
    series = {
        words: (list(appends), [estimate.of(found.arm(arm)) for found in appends.values()])
        for arm, words in zip(ARMS, ("append", "bare write and fdatasync"), strict=True)
    }
    audit = load("log")
    for kind in ("verify", "checkpoint", "proof") if audit else ():
        if audit:
            found = [estimate.exact(seconds * 1000) for seconds in audit.arm(kind)]
            series[kind] = (audit.arm("records"), found)
    picture.lines(path, TITLE, {"": series}, "records in the log", "ms")
