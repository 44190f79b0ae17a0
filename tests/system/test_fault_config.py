"""config.json of 100 MiB, 100,000 levels deep, with keys twice, NaN, lone surrogates, wrong types; and closed pipes."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host.machine import Host, parse_status
from system.support import FHIR, HAPI_SOURCE, HOOK, PLAIN, codes, confined, only, unbroken, watching

Edit = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def configs(host: Host) -> Iterator[dict[str, bytes]]:
    """config.json as Podman hands it to a precreate hook, of created containers that stay in the store."""
    top = host.directory()
    script = top / "save"
    script.write_text(f"#!/bin/sh\nexec tee {top}/saved\n")
    script.chmod(0o755)
    hook = {"version": "1.0.0", "hook": {"path": str(script)}, "when": {"always": True}, "stages": ["precreate"]}
    (top / "hook.json").write_text(json.dumps(hook))
    found, ids = {}, []
    for tag in (FHIR, PLAIN):
        id = host.podman("create", "--network", "none", tag, "true", check=True).stdout.strip()
        ids.append(id)
        host.podman("--hooks-dir", top, "start", id, check=True)
        found[tag] = (top / "saved").read_bytes()
    yield found
    host.podman("rm", "-f", *ids)


def precreate(data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([HOOK, "precreate"], input=data, capture_output=True, timeout=60, check=False)


def _member(key: str, value: str) -> Edit:
    """Put a member in front of all others."""
    return lambda data: b'{"%s":%s,' % (key.encode(), value.encode()) + data[1:]


def _last(key: str, value: str) -> Edit:
    return lambda data: data.rstrip()[:-1] + b',"%s":%s}' % (key.encode(), value.encode())


def _with(path: str, value: Any) -> Edit:
    """Set the member at a path of keys."""

    def edit(data: bytes) -> bytes:
        document = json.loads(data)
        *parents, last = path.split(".")
        at = document
        for key in parents:
            at = at[key]
        at[last] = value
        return json.dumps(document).encode()

    return edit


DEEP = "[" * 100_000 + "]" * 100_000
# What is no JSON for the hook, or too much: it can't be put into any plan.
UNREADABLE: dict[str, Edit] = {
    "100,000 levels": _member("x", DEEP),
    "100,000 levels, never closed": lambda data: data + b"[" * 100_000,
    "NaN": _member("x", "NaN"),
    "Infinity": _member("x", "-Infinity"),
    "a number out of range": _member("x", "1e999"),
    "a number of 5,000 digits": _member("x", "1" * 5000),
    "no UTF-8": lambda data: data.replace(b'"ociVersion"', b'"\xff\xfe"'),
    "cut off": lambda data: data[: len(data) // 2],
    "text behind it": lambda data: data + b"{}",
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "a control character": lambda data: data.replace(b'"ociVersion"', b'"oci\x00Version"'),
}
# What the hook reads, and does not take: two readers could disagree, or a member has a type that means nothing.
AMBIGUOUS: dict[str, Edit] = {
    "process twice": _member("process", '{"args":["x"]}'),
    "linux twice": _last("linux", "{}"),
    "root twice": _member("root", '{"path":"/"}'),
    "annotations twice, inside": lambda data: data.replace(b'"annotations":{', b'"annotations":{"a":"1","a":"2",', 1),
    "Linux, which Go takes for linux": _last("Linux", "{}"),
    "PROCESS": _last("PROCESS", "{}"),
    "capabilities that are a string": _with("process.capabilities", "CAP_SYS_ADMIN"),
    "a capability that is a number": _with("process.capabilities.bounding", [7]),
    "process that is a list": _with("process", []),
    "seccomp that is a list": _with("linux.seccomp", []),
    "a seccomp rule that is a string": _with("linux.seccomp.syscalls", ["all"]),
    "a seccomp action that is none": _with("linux.seccomp.defaultAction", "SCMP_ACT_MAYBE"),
    "a seccomp argument that is a string": _with(
        "linux.seccomp.syscalls", [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": "all"}]
    ),
}
# What is odd and harmless.
GOOD: dict[str, Edit] = {
    "as it is": lambda data: data,
    "100 MiB of environment": _with("process.env", ["X=" + "x" * (100 << 20)]),
    "100 MiB of annotation": _with("annotations.x", "y" * (100 << 20)),
    "500 levels": _member("x", "[" * 500 + "]" * 500),
    "lone surrogates": _member("x", '["\\ud800","\\udc00\\ud800"]'),
    "a lone surrogate in an annotation": lambda data: data.replace(
        b'"annotations":{', b'"annotations":{"\\udfff":"\\ud800",', 1
    ),
    "a number of 300 digits": _member("x", "1" * 300),
    "null members": lambda data: data.rstrip()[:-1] + b',"vm":null,"windows":null}',
    "an annotation of another type": _with("annotations.x", 5),
    "200,000 mounts": _with("mounts", [{"destination": f"/{n}", "source": "x"} for n in range(200_000)]),
}


@pytest.mark.parametrize("form", list(UNREADABLE))
def test_a_config_that_is_no_json_never_lets_fhir_through_and_is_handed_on_for_others(
    configs: dict[str, bytes], form: str
) -> None:
    """For others the engine's own parser says what is wrong: the bytes are passed on."""
    fhir = precreate(UNREADABLE[form](configs[FHIR]))
    assert (fhir.returncode, fhir.stdout) == (1, b"")
    other = UNREADABLE[form](configs[PLAIN])
    done = precreate(other)
    assert (done.returncode, done.stdout) == (0, other)
    assert b"Traceback" not in fhir.stderr + done.stderr


@pytest.mark.parametrize("form", list(AMBIGUOUS))
def test_a_config_that_can_be_read_in_two_ways_refuses_fhir_only(
    host: Host, configs: dict[str, bytes], form: str
) -> None:
    with watching(host) as records:
        fhir = precreate(AMBIGUOUS[form](configs[FHIR]))
    _is_refusal(fhir, "FH114")
    assert only(records, event="decision")["decision"] == "refused"
    other = AMBIGUOUS[form](configs[PLAIN])
    done = precreate(other)
    assert (done.returncode, done.stdout) == (0, other)


def _is_refusal(done: subprocess.CompletedProcess[bytes], code: str) -> None:
    """Either no answer, which Podman takes for a refusal, or a config whose createRuntime entry refuses."""
    if done.returncode == 0:
        entry = json.loads(done.stdout)["hooks"]["createRuntime"][-1]
        assert entry["path"].startswith(f"/usr/libexec/fhir-hook/refused/{code}")
        assert Path(entry["path"]).exists()
        assert entry["args"][1:3] == ["refuse", code]
    else:
        assert done.stdout == b""


@pytest.mark.parametrize("form", list(GOOD))
def test_a_config_that_is_odd_and_harmless_is_confined(host: Host, configs: dict[str, bytes], form: str) -> None:
    began = time.monotonic()
    with watching(host) as records:
        done = precreate(GOOD[form](configs[FHIR]))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["process"]["noNewPrivileges"] is True
    assert answer["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert "gate" in answer["hooks"]["createRuntime"][-1]["args"]
    assert only(records, event="decision")["decision"] == "confined"
    other = GOOD[form](configs[PLAIN])
    done = precreate(other)
    assert (done.returncode, done.stdout) == (0, other)
    assert time.monotonic() - began < 20


def test_hooks_of_a_wrong_type_never_lose_the_gate(configs: dict[str, bytes]) -> None:
    for value in ([], "x", {"createRuntime": "x"}, {"createRuntime": [5]}):
        done = precreate(_with("hooks", value)(configs[FHIR]))
        if done.returncode == 0:
            assert json.loads(done.stdout)["hooks"]["createRuntime"][-1]["path"].startswith("/usr/libexec/fhir-hook/")


def test_podman_itself_with_an_environment_and_annotations_as_large_as_a_command_line_holds(
    host: Host, run: Callable[..., Any], runtime: str, user: str | None
) -> None:
    options = [word for n in range(12) for word in ("--env", f"E{n}=" + "x" * 120_000)]
    options += ["--annotation", "a b\\=\x01é😀" + "y" * 100_000, "--annotation", "linux=process"]
    done = run(FHIR, "status", options=options, runtime=runtime, user=user)
    if "rgument list too long" in done.stderr:
        # The kernel's own limit for the container's program; what counts is that the hook was no obstacle.
        options = [word for n in range(5) for word in ("--env", f"E{n}=" + "x" * 120_000)]
        done = run(FHIR, "status", options=options, runtime=runtime, user=user)
    assert done.returncode == 0, done.stderr[-500:]
    assert confined(parse_status(done.stdout))


LIVE_FORMS: dict[str, Edit] = {
    "annotations twice, the last empty": _last("annotations", "{}"),
    "annotations twice, the first empty": _member("annotations", "{}"),
    "Annotations beside annotations": _last("Annotations", '{"org.opencontainers.image.source":"x"}'),
    "only ANNOTATIONS": lambda data: data.replace(b'"annotations"', b'"ANNOTATIONS"'),
    "process twice": lambda data: _last("process", json.dumps(json.loads(data)["process"]))(data),
    "lone surrogates": _member("x", '"\\ud800"'),
    "a lone surrogate in an annotation": _with("annotations.x", "\ud800"),
    "9,000 levels": _member("x", "[" * 9000 + "]" * 9000),
    "100,000 levels": _member("x", DEEP),
    "NaN": _member("x", "NaN"),
    "100 MiB of annotation": _with("annotations.x", "y" * (100 << 20)),
    "100 MiB of something unknown": _with("x", "y" * (100 << 20)),
    "a capability that is a number": _with("process.capabilities.bounding", [7]),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
}


@pytest.mark.parametrize("form", list(LIVE_FORMS))
def test_a_bundle_whose_config_is_odd_runs_confined_or_not_at_all(
    host: Host, enrolled: dict[str, Path], runtime: str, form: str
) -> None:
    """Whatever the runtime makes of it. The other image's bundle is started just as without the hook."""
    fhir = _run_bundle(host, runtime, enrolled[FHIR], LIVE_FORMS[form])
    if fhir.stdout:
        assert confined(parse_status(fhir.stdout)), f"{form} on {runtime} ran unconfined"
    else:
        assert fhir.returncode != 0


@pytest.mark.parametrize("form", ["process twice", "lone surrogates", "9,000 levels", "NaN"])
def test_an_odd_bundle_of_another_image_starts_if_it_does_without_the_hook(
    host: Host, enrolled: dict[str, Path], runtime: str, form: str
) -> None:
    without = _run_bundle(host, runtime, enrolled[PLAIN], lambda data: LIVE_FORMS[form](_without_hooks(data)))
    done = _run_bundle(host, runtime, enrolled[PLAIN], LIVE_FORMS[form])
    assert (done.returncode == 0, done.stdout) == (without.returncode == 0, without.stdout)


def _without_hooks(data: bytes) -> bytes:
    return json.dumps({key: value for key, value in json.loads(data).items() if key != "hooks"}).encode()


@pytest.fixture(scope="module")
def enrolled(host: Host) -> dict[str, Path]:
    """Enrolled bundles of both images that run status."""
    found = {}
    for tag in (FHIR, PLAIN):
        top = host.bundle(tag, "/bin/status")
        config = json.loads((top / "config.json").read_text())
        config.setdefault("annotations", {})
        (top / "config.json").write_text(json.dumps(config, separators=(",", ":")))
        host.run(["fhir-hook", "bundle", "enroll", top], check=True)
        found[tag] = top
    return found


def _run_bundle(host: Host, runtime: str, top: Path, edit: Edit) -> Any:
    config = top / "config.json"
    original = config.read_bytes()
    try:
        config.write_bytes(edit(json.dumps(json.loads(original), separators=(",", ":")).encode()))
        state = host.directory()
        done = host.runtime(runtime, "--root", state, "run", "-b", top, f"odd-{state.name}", timeout=60)
        host.runtime(runtime, "--root", state, "delete", "--force", f"odd-{state.name}")
        shutil.rmtree(state, ignore_errors=True)
        return done
    finally:
        config.write_bytes(original)


def test_an_annotation_that_disagrees_with_the_config_on_disk_can_not_talk_the_live_path_out_of_it(
    host: Host, enrolled: dict[str, Path], runtime: str
) -> None:
    """Go merges an object that occurs twice, others take one: whichever counts, it is confined or refused."""
    label = f'{{"org.opencontainers.image.source":"{HAPI_SOURCE}"}}'
    edits = [
        lambda data: _member("annotations", label)(_with("annotations", {})(data)),
        lambda data: _last("annotations", label)(_with("annotations", {})(data)),
        lambda data: _last("aNNotations", label)(_with("annotations", {})(data)),
    ]
    for edit in edits:
        done = _run_bundle(host, runtime, enrolled[FHIR], edit)
        assert not done.stdout or confined(parse_status(done.stdout))


@pytest.mark.parametrize("closed", ["reader gone", "closed", "full device"])
def test_the_hook_s_stdout_can_not_be_written(configs: dict[str, bytes], closed: str) -> None:
    """Podman gets no config and refuses; the hook ends at once, says nothing confusing, and the log is whole."""
    commands = {
        "reader gone": f"{HOOK} precreate | exec 0<&-; exit ${{PIPESTATUS[0]}}",
        "closed": f"{HOOK} precreate >&-",
        "full device": f"{HOOK} precreate >/dev/full",
    }
    for data in (configs[FHIR], configs[PLAIN]):
        big = _with("process.env", ["X=" + "x" * (1 << 20)])(data)
        done = subprocess.run(["bash", "-c", commands[closed]], input=big, capture_output=True, timeout=30, check=False)
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
    assert unbroken()


def test_stdin_or_stderr_that_is_closed_makes_the_hook_fail_closed(
    configs: dict[str, bytes], marker: Callable[..., Any]
) -> None:
    done = subprocess.run(["bash", "-c", f"{HOOK} precreate <&-"], capture_output=True, timeout=30, check=False)
    assert done.stdout == b""
    for stage in ("precreate", "prestart"):
        words = ["bash", "-c", f"{HOOK} {stage} 2>&-"]
        done = subprocess.run(words, input=configs[FHIR], capture_output=True, timeout=30, check=False)
        if stage == "precreate":
            assert json.loads(done.stdout)["process"]["noNewPrivileges"] is True


def test_the_gate_refuses_a_config_that_was_changed_after_precreate(host: Host, runtime: str) -> None:
    """Another hook's precreate edit, or a hand in the bundle, between our edit and the runtime."""
    top = host.bundle(FHIR, "/bin/status")
    config = json.loads((top / "config.json").read_text())
    id = host.podman("create", "--network", "none", FHIR, "status", check=True).stdout.strip()
    host.podman("start", "-a", id, check=True)
    hooks = host.config(id)["hooks"]["createRuntime"]
    host.podman("rm", "-f", id)
    (top / "config.json").write_text(json.dumps({**config, "hooks": {"createRuntime": hooks}}))
    with watching(host) as records:
        done = host.runtime(runtime, "--root", host.directory(), "run", "-b", top, f"changed-{runtime}")
    assert done.returncode != 0
    assert done.stdout == ""
    assert codes(only(records, event="outcome")) == ["FH107"]


def test_the_hook_called_wrongly_says_how_and_does_nothing() -> None:
    for words in ([], ["poststart"], ["precreat"]):
        done = subprocess.run([HOOK, *words], input=b"{}", capture_output=True, timeout=30, check=False)
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"fhir-hook --help" in done.stderr
