"""A Kubernetes node in the private host: containerd 2, kubelet, and an API server with its etcd, for one machine.

There is no scheduler and no controller: pods name their node, and what only a controller does is not to be had.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from host.machine import ROOT, Host, Result

SHIM = "/usr/libexec/fhir-hook/fhir-runc"
CONFIG = Path("/etc/containerd/config.toml")
DROPIN = Path("/etc/containerd/conf.d/50-fhir-hook.toml")
STORE = Path("/var/lib/containerd")
SOCKET = "/run/containerd/containerd.sock"
NAME, ADDRESS = "node", "10.88.77.1"
CLASS = ROOT / "packaging/kubernetes/runtimeclass.yaml"
PAUSE = "localhost/pause:1"
# The CRI plugin's settings that this machine needs: a pause image that was made here, and no CAP_SYS_RESOURCE.
SETTINGS = f"""
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{PAUSE}'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni']
conf_dir = '/etc/cni/kubernetes'
"""
IMPORTS = "imports = ['/etc/containerd/conf.d/*.toml']\n"
ADDRESSES = {"type": "host-local", "subnet": "10.88.78.0/24"}
BRIDGE = {"type": "bridge", "bridge": "kube0", "isGateway": True, "ipam": ADDRESSES}


class Node:
    """The node; `programs` is the directory of what tests/kubernetes/go builds."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.top = host.directory()
        done = host.run([ROOT / "tests/kubernetes/go/build"], check=True, timeout=30)
        self.programs = Path(done.stdout.strip())
        # containerd takes the first one of the path, and Debian's may be there
        Path("/usr/local/sbin/containerd-shim-runc-v2").symlink_to(self.programs / "containerd-shim-runc-v2")
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._write_files()

    def start(self) -> None:
        """Start everything; AssertionError with the log of what does not come up."""
        for words in (["link", "add", "node0", "type", "bridge"], ["addr", "add", f"{ADDRESS}/24", "dev", "node0"]):
            self.host.run(["ip", *words], check=True)
        self.host.run(["ip", "link", "set", "node0", "up"], check=True)
        self.start_containerd()
        self.load_pause()
        self._begin("etcd", f"--data-dir={self.top}/etcd", "--unsafe-no-fsync", "--log-level=warn")
        self.start_apiserver()
        own = (f"--hostname-override={NAME}", f"--node-ip={ADDRESS}", f"--root-dir={self.top}/kubelet")
        self._begin("kubelet", f"--config={self.top}/kubelet.yaml", f"--kubeconfig={self.top}/kubeconfig", *own)
        ready = "{.status.conditions[?(@.type=='Ready')].status}"
        self.wait("kubelet", lambda: self.get("node", NAME, ready) == "True", 60)

    def _write_files(self) -> None:
        (self.top / "manifests").mkdir()
        STORE.mkdir(exist_ok=True)  # /var/lib is an overlay here, which can't hold another one
        self.host.run(["mount", "--bind", self.host.directory(), STORE], check=True)
        for directory in (CONFIG.parent, Path("/etc/cni/kubernetes")):
            directory.mkdir(parents=True, exist_ok=True)
        network = {"cniVersion": "1.0.0", "name": "pods", "plugins": [BRIDGE]}
        Path("/etc/cni/kubernetes/10-bridge.conflist").write_text(json.dumps(network))
        self.host.run(["ssh-keygen", "-q", "-t", "rsa", "-m", "PEM", "-N", "", "-f", self.top / "key"], check=True)
        insecure = {"insecure-skip-tls-verify": True}
        (self.top / "kubeconfig").write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"https://{ADDRESS}:6443", **insecure}}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }))  # fmt: skip
        (self.top / "tokens").write_text('secret,admin,1,"system:masters"\n')
        # What a node needs whose machine has cgroup v1, swap, and a file system that cAdvisor does not know.
        (self.top / "kubelet.yaml").write_text(json.dumps({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"}, "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "cgroupDriver": "cgroupfs", "failCgroupV1": False, "failSwapOn": False, "enforceNodeAllocatable": [],
            "staticPodPath": f"{self.top}/manifests", "fileCheckFrequency": "1s", "syncFrequency": "2s",
            "localStorageCapacityIsolation": False, "makeIPTablesUtilChains": False, "oomScoreAdj": 0,
            "evictionHard": {"memory.available": "1Mi"}, "imageGCHighThresholdPercent": 100, "resolvConf": "",
            "nodeStatusUpdateFrequency": "2s",
        }))  # fmt: skip

    def _apiserver(self) -> list[str]:
        options = {
            "etcd-servers": "http://127.0.0.1:2379", "cert-dir": f"{self.top}/certificates",
            "advertise-address": ADDRESS, "endpoint-reconciler-type": "none",
            "service-cluster-ip-range": "10.88.79.0/24", "authorization-mode": "AlwaysAllow",
            "token-auth-file": f"{self.top}/tokens", "service-account-issuer": "https://node",
            "service-account-key-file": f"{self.top}/key", "service-account-signing-key-file": f"{self.top}/key",
            "disable-admission-plugins": "ServiceAccount,TaintNodesByCondition",
            "kubelet-preferred-address-types": "InternalIP", "allow-privileged": "true",
        }  # fmt: skip
        return [f"--{name}={value}" for name, value in options.items()]

    def _begin(self, name: str, *options: str) -> None:
        with (self.top / f"{name}.log").open("ab") as said:
            words = [str(self.programs / name), *options]
            self._running[name] = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said)

    def start_containerd(self) -> None:
        """Start containerd with /etc/containerd/config.toml, and wait until it answers."""
        self._begin("containerd")
        self.wait("containerd", lambda: self.ctr("plugins", "ls", "id==runtime").returncode == 0, 30)

    def start_apiserver(self) -> None:
        """Start the API server, and wait until it is ready."""
        self._begin("kube-apiserver", *self._apiserver())
        self.wait("kube-apiserver", lambda: self.kubectl("get", "--raw", "/readyz").returncode == 0, 120)

    def stop(self, name: str, how: int = signal.SIGTERM) -> None:
        """End one of the programs; containers outlive containerd, and pods the kubelet."""
        process = self._running.pop(name)
        process.send_signal(how)
        process.wait(60)

    def stop_all(self) -> None:
        """End all programs, the newest first; containers go with the private host."""
        for name in reversed(list(self._running)):
            self.stop(name, signal.SIGKILL)

    def wait(self, name: str, holds: Callable[[], bool], seconds: float) -> None:
        """Wait until something holds; AssertionError with the end of the log of `name` when it does not."""
        end = time.monotonic() + seconds
        while not holds():
            alive = self._running[name].poll() is None
            log = (self.top / f"{name}.log").read_text(errors="replace")
            assert time.monotonic() < end and alive, f"{name}: {log[-6000:]}"
            time.sleep(0.2)

    def ctr(self, *words: str | Path, **more: Any) -> Result:
        """One ctr command in the namespace of Kubernetes."""
        return self.host.run([self.programs / "ctr", "-a", SOCKET, "-n", "k8s.io", *words], **more)

    def kubectl(self, *words: str | Path, **more: Any) -> Result:
        """One kubectl command."""
        done = self.host.run([self.programs / "kubectl", f"--kubeconfig={self.top}/kubeconfig", *words], **more)
        if done.returncode != 0:
            print("kubectl", *words, ":", done.stderr)  # which pytest shows of a test that fails
        return done

    def get(self, kind: str, name: str, path: str) -> str:
        """A member of an object, by its JSONPath; "" where there is none."""
        return self.kubectl("get", kind, name, "-o", f"jsonpath={path}").stdout

    def says(self, name: str, path: str, value: str) -> bool:
        """Whether a member of a pod, by its JSONPath, has this value."""
        return self.get("pod", name, path) == value

    def load(self, tag: str) -> str:
        """An image of the tests; its name."""
        self.ctr("images", "import", self.host.images.archive(tag), check=True)
        return f"localhost/{tag}"

    def load_pause(self) -> None:
        """The image of the sandboxes' container: Debian's catatonit, which waits with -P."""
        archive = self.top / "pause.tar"
        made = self.host.run(["buildah", "from", "scratch"], check=True).stdout.strip()
        self.host.run(["buildah", "copy", "-q", made, "/usr/bin/catatonit", "/pause"], check=True)
        self.host.run(["buildah", "config", "--entrypoint", '["/pause", "-P"]', made], check=True)
        self.host.run(["buildah", "commit", "-q", "--rm", made, f"oci-archive:{archive}:{PAUSE}"], check=True)
        self.ctr("images", "import", archive, check=True)

    def derive(self, base: str, tag: str, *options: str) -> str:
        """An image made by Host.derive, in containerd's store; its name."""
        self.host.derive(base, tag, *options)
        archive = self.host.directory() / "image.tar"
        self.host.podman("save", "-q", "--format", "oci-archive", "-o", archive, tag, check=True)
        self.ctr("images", "import", archive, check=True)
        return f"localhost/{tag}"

    def apply(self, manifest: dict[str, Any]) -> None:
        """Create an object."""
        self.kubectl("create", "-f", "-", input=json.dumps(manifest), check=True)

    def begin(self, name: str, *containers: dict[str, Any], **spec: Any) -> None:
        """Create a pod on this node, and wait until it runs or has ended; AssertionError with its state if not."""
        self.apply(pod(name, *containers, **spec))
        self.wait("kubelet", lambda: self.get("pod", name, "{.status.phase}") in ("Running", "Succeeded", "Failed"), 60)

    def ready(self, name: str, seconds: float = 60) -> None:
        """Wait until a pod is ready."""
        done = self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={seconds}s")
        assert done.returncode == 0, self.kubectl("describe", "pod", name).stdout

    def write_static(self, manifest: dict[str, Any]) -> None:
        """Give the kubelet a static pod."""
        del manifest["spec"]["nodeName"]
        (self.top / "manifests" / f"{manifest['metadata']['name']}.json").write_text(json.dumps(manifest))

    def remove_static(self, name: str) -> None:
        """Take a static pod away."""
        (self.top / "manifests" / f"{name}.json").unlink(missing_ok=True)

    def static_pods(self) -> set[tuple[str, bool]]:
        """(name, ready) of the kubelet's pods that come from files, as it says itself."""
        listed = json.loads(self.host.run(["curl", "-sSk", f"https://{ADDRESS}:10250/pods"], check=True).stdout)
        found = set()
        for one in listed["items"] or []:
            if one["metadata"]["annotations"].get("kubernetes.io/config.source") == "file":
                states = one["status"].get("containerStatuses", [])
                ready = bool(states) and all(state["ready"] for state in states)
                found.add((one["metadata"]["name"].removesuffix(f"-{NAME}"), ready))
        return found

    def log(self, name: str, container: str = "") -> str:
        """What the one container of a pod that has ended, or the named one, printed."""
        self.wait("kubelet", lambda: self.get("pod", name, "{.status.phase}") in ("Succeeded", "Failed"), 60)
        return self.kubectl("logs", name, *(("-c", container) if container else ()), check=True).stdout

    def id(self, name: str, container: str = "", kind: str = "containerStatuses") -> str:
        """The id of the one container of a pod, or of the named one."""
        where = f"?(@.name=='{container}')" if container else "0"
        return self.get("pod", name, f"{{.status.{kind}[{where}].containerID}}").removeprefix("containerd://")

    def pid(self, id: str) -> int:
        """The first process of a container."""
        rows = [line.split() for line in self.ctr("tasks", "ls", check=True).stdout.splitlines()[1:]]
        return next(int(row[1]) for row in rows if row[0] == id)

    def remove(self, *names: str) -> None:
        """Remove pods; all of them without names."""
        self.kubectl("delete", "pod", "--grace-period=1", *(names or ("--all",)), check=True, timeout=180)


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """The manifest of a pod on this node whose containers' images are here already."""
    for key in ("containers", "initContainers"):
        listed = list(containers) if key == "containers" else spec.get(key, [])
        if listed:
            spec[key] = [{"name": f"c{at}", "imagePullPolicy": "Never", **one} for at, one in enumerate(listed)]
    metadata = {"name": name, **spec.pop("metadata", {})}
    usual = {"nodeName": NAME, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
    usual |= {"automountServiceAccountToken": False, "enableServiceLinks": False, "dnsPolicy": "Default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**usual, **spec}}


def runs(image: str, *command: str, **more: Any) -> dict[str, Any]:
    """A container of a pod: its image, and its command where that is not the image's."""
    return {"image": image, **({"command": list(command)} if command else {}), **more}
