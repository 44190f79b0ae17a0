"""What the engines' own protocols leave open, shown as it really is; SECURITY.md lists each."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable
from typing import Any

from host.machine import Host, parse_status, proc_status
from system.support import FHIR, HOOK, SHARED_HOOKS, alive, confined, kernel_state, tried, watching


def test_checkpoint_and_restore(host: Host, start: Callable[..., str], runtime: str) -> None:
    """Where CRIU works, a restored process has its filter back; where it doesn't, nothing is lost by trying."""
    id = start(FHIR, command=["sleeper"], runtime=runtime)
    pid = host.pid(id)
    archive = host.directory() / "checkpoint.tar.gz"
    taken = host.podman("container", "checkpoint", "--export", archive, id, runtime=runtime)
    works = host.run(["criu", "check"]).returncode == 0 and "does not support" not in taken.stderr
    assert (taken.returncode == 0) == works, taken.stderr
    if works:
        host.podman("rm", "-f", "-t", "0", id)
        host.podman("container", "restore", "--import", archive, runtime=runtime, check=True)
        assert confined(kernel_state(host.pid(id)))
    else:
        assert host.pid(id) == pid
        assert confined(kernel_state(pid)), "the container goes on, as it was"
        assert tried(host.podman("exec", id, "try", "keyctl", check=True).stdout) == {"keyctl": "EPERM"}


def test_restoring_an_imported_checkpoint_skips_precreate_and_takes_the_plan_that_the_archive_holds(
    host: Host, start: Callable[..., str]
) -> None:
    """What Podman hands to `runc restore`. The archive of a confined container carries its plan and gate.

    A stated limit: of an archive that was forged without them, nothing of ours is called at all.
    """
    spec = host.config(start(FHIR, command=["sleeper"], runtime="runc"))
    bare = {**spec, "hooks": {}, "linux": {**spec["linux"], "seccomp": None}}
    with watching(host) as records:
        kept, forged = _restored(host, spec), _restored(host, bare)
    assert kept["linux"]["seccomp"] == spec["linux"]["seccomp"]
    assert kept["process"]["noNewPrivileges"] is True
    assert kept["hooks"] == spec["hooks"]
    assert not forged.get("hooks")
    assert "seccomp" not in forged["linux"]
    assert records == [], "precreate was not called"


def _restored(host: Host, spec: dict[str, Any]) -> dict[str, Any]:
    """config.json as `podman container restore` hands it to the runtime for an archive with this one.

    The archive is complete up to the point where the runtime calls CRIU, which then finds no process images.
    """
    top = host.directory()
    runc = top / "runc"
    save = 'for a; do [ "$p" != --bundle ] || b=$a; p=$a; done; case " $* " in *" restore "*) '
    save += f'cp "$b/config.json" {top}/seen;; esac'
    runc.write_text(f'#!/bin/sh\n{save}\nexec /usr/bin/runc "$@"\n')
    runc.chmod(0o755)
    image = host.podman("image", "inspect", "-f", "{{.Id}}", FHIR, check=True).stdout.strip()
    config = {
        "id": "1" * 64, "name": "imported", "runtime": str(runc), "spec": spec, "rootfsImageID": image,
        "rootfsImageName": f"localhost/{FHIR}", "cgroupManager": "cgroupfs", "netMode": "none", "logDriver": "none",
        "shmSize": 65536000, "stopSignal": 15, "createCommand": ["podman"],
    }  # fmt: skip
    (top / "config.dump").write_text(json.dumps(config))
    (top / "spec.dump").write_text(json.dumps(spec))
    (top / "network.status").write_text("{}")
    (top / "checkpoint").mkdir()
    (top / "checkpoint" / "inventory.img").touch()
    archive = host.directory() / "checkpoint.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for name in ("checkpoint", "config.dump", "spec.dump", "network.status"):
            file.add(top / name, name)
    name = f"imported-{top.name.lower().replace('_', '-')}"
    done = host.run(["podman", "--runtime", runc, "container", "restore", "--import", archive, "--name", name])
    host.podman("rm", "-f", "--ignore", name)
    assert done.returncode != 0
    assert (top / "seen").exists(), done.stderr
    seen: dict[str, Any] = json.loads((top / "seen").read_text())
    return seen


def test_a_user_who_names_other_hooks_directories_runs_without_the_hook(
    host: Host, run: Callable[..., Any], runtime: str, user: str | None
) -> None:
    """Podman lets whoever calls it choose: for an ordinary user the hook is no boundary, and for root nothing is."""
    with watching(host, user) as records:
        done = run(FHIR, "status", hooks=False, runtime=runtime, user=user, check=True)
    assert parse_status(done.stdout)["NoNewPrivs"] == "0"
    assert records == []


def test_a_hook_whose_launcher_is_missing_is_skipped_by_podman(
    host: Host, run: Callable[..., Any], runtime: str
) -> None:
    """Podman skips a hook whose path does not exist: half an installation confines nothing."""
    away = HOOK.with_name("away")
    HOOK.rename(away)
    try:
        with watching(host) as records:
            done = run(FHIR, "status", runtime=runtime, check=True)
    finally:
        away.rename(HOOK)
    assert parse_status(done.stdout)["NoNewPrivs"] == "0"
    assert records == []


def test_a_root_file_system_without_an_image_is_not_known_to_be_fhir(host: Host, runtime: str) -> None:
    """--rootfs names a directory: no image, no labels, whatever its files were copied from or mounted of."""
    roots = [host.bundle(FHIR) / "rootfs", host.podman("image", "mount", FHIR, check=True).stdout.strip() + ":O"]
    for root in roots:
        with watching(host) as records:
            words = ["run", "--rm", "--network", "none", "--rootfs", root, "/bin/status"]
            done = host.podman(*words, runtime=runtime, check=True)
        assert parse_status(done.stdout)["NoNewPrivs"] == "0"
        assert records == []
    host.podman("image", "umount", FHIR, check=True)


def test_one_broken_file_in_a_hooks_directory_refuses_every_container(host: Host, run: Callable[..., Any]) -> None:
    """Podman's rule, for anybody's file: the hook can neither cause nor prevent it."""
    broken = SHARED_HOOKS / "99-broken.json"
    broken.write_text("{")
    try:
        assert run(FHIR, "status").returncode != 0
    finally:
        broken.unlink()


def test_both_hooks_directories_together_call_the_hook_once(
    host: Host, start: Callable[..., str], runtime: str, user: str | None
) -> None:
    """The precreate file replaces the prestart file of the same name: Podman runs the one, others the other."""
    with watching(host, user) as records:
        id = start(FHIR, command=["sleeper"], runtime=runtime, user=user)
    assert [record["stage"] for record in records] == ["precreate", "gate"]
    assert "prestart" not in host.config(id, user)["hooks"]


def test_a_prestart_hook_after_a_native_edit_verifies_and_does_not_attach_again(host: Host, runtime: str) -> None:
    """An engine that runs both stages: the config carries the plan already."""
    both = host.directory()
    shutil.copy("/usr/share/fhir-hook/podman-hooks.d/50-fhir-hook.json", both / "50-a.json")
    shutil.copy(SHARED_HOOKS / "50-fhir-hook.json", both / "60-b.json")
    with watching(host) as records:
        words = ["--hooks-dir", both, "run", "--rm", "--network", "none", FHIR, "status"]
        done = host.podman(*words, runtime=runtime, check=True)
    status = parse_status(done.stdout)
    assert confined(status)
    assert status["Seccomp_filters"] == "1"
    assert [(r["event"], r["stage"], r["path"]) for r in records if r["event"] == "decision"] == [
        ("decision", "precreate", "native"), ("decision", "prestart", "native"),
    ]  # fmt: skip


def test_the_attacher_outlives_podman_run_that_is_killed(host: Host, runtime: str) -> None:
    """conmon keeps a container whose podman run was killed; it is confined all the same."""
    name = f"orphan-{runtime}"
    words = [
        "podman",
        "--runtime",
        runtime,
        "--hooks-dir",
        str(SHARED_HOOKS),
        "run",
        "--name",
        name,
        "--network",
        "none",
    ]
    process = subprocess.Popen([*words, FHIR, "sleeper"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    pid = host.pid(name)
    assert alive(pid)
    assert proc_status(pid)["TracerPid"] == "0"
    assert confined(kernel_state(pid))
    host.podman("rm", "-f", "-t", "0", name, check=True)
