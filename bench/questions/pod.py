"""How much later is a pod ready when fhir-runc is its runtime?"""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Callable
from statistics import median

from bench import estimate
from bench.alternate import alternate
from bench.arms import Bench
from bench.result import Result, load
from bench.row import Row
from kubernetes.kubernetes_node import CLASS, CONFIG, IMPORTS, NAME, SETTINGS, Node, pod, runs

TITLE = "A pod on a Kubernetes node"
SECONDS = 240.0
# kind of pod: its image, its command
PODS = {"plain": ("probe:plain", ("sleeper",)), "fhir": ("fhirstarter:4.2.0", ())}
COMPARED = (("plain", "not FHIR"), ("fhir", "FHIR (fhirstarter 4.2.0)"))
GOAL = 1.03


def measure(bench: Bench, share: float) -> None:
    """Times pods from their creation to their readiness, with the RuntimeClass and without. Only in full: it needs a
    node, whose programs `make test-kubernetes` builds."""
    if not bench.full:
        return
    node = _node(bench)
    try:
        arms: dict[str, Callable[[], float]] = {}
        for kind, (tag, command) in PODS.items():
            image = node.load(tag)
            for name, spec in (("runc", {}), ("again", {}), ("shim", {"runtimeClassName": "fhir"})):
                arms[f"{kind} {name}"] = lambda image=image, command=command, spec=spec: _pod(
                    node, runs(image, *command), spec
                )
        blocks = alternate("pods from creation to readiness", arms, SECONDS * share)
        bench.result("pod", "ms", list(arms), blocks).save()
    finally:
        node.stop_all()


def _node(bench: Bench) -> Node:
    node = Node(bench.host)
    CONFIG.write_text(f"version = 3\n{IMPORTS}{SETTINGS}")
    bench.host.run(["fhir-hook", "engine", "configure", "containerd"], check=True)
    node.start()
    node.kubectl("apply", "-f", CLASS, check=True)
    node.kubectl("label", "node", NAME, "fhir-hook/configured=true", check=True)
    return node


_NUMBERS = itertools.count()


def _pod(node: Node, container: dict[str, object], spec: dict[str, object]) -> float:
    """Milliseconds until a pod is ready; it is removed again."""
    name = f"bench-{next(_NUMBERS)}"
    manifest = pod(name, dict(container), **spec)
    words = [str(node.programs / "kubectl"), f"--kubeconfig={node.top}/kubeconfig", "wait", f"pod/{name}"]
    began = time.perf_counter()
    node.apply(manifest)
    subprocess.run([*words, "--for=condition=Ready", "--timeout=60s"], stdout=subprocess.DEVNULL, check=True)
    took = time.perf_counter() - began
    node.remove(name)
    return took * 1e3


def results() -> list[Result]:
    """What was kept of it."""
    found = load("pod")
    return [found] if found else []


def says() -> str:
    """One sentence of it."""
    return (
        "The kubelet looks at its containers once a second, so that a pod is ready in the same second or the next: "
        "a few milliseconds of the runtime rarely show."
    )


def rows() -> list[Row]:
    """Ratios of the time from creation to readiness."""
    found = []
    for result in results():
        for kind, words in COMPARED:
            for arm, what, goal in (("shim", words, GOAL), ("again", f"noise: {words}, runc against itself", None)):
                with_, without = result.arm(f"{kind} {arm}"), result.arm(f"{kind} runc")
                compared = estimate.ratio(with_, without)
                name = f"pod from creation to readiness, containerd and kubelet: {what}"
                found.append(Row(name, f"{median(without):.0f} ms", f"{median(with_):.0f} ms", compared, "", goal))
    return found
