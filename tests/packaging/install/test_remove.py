"""Removal, purge and reinstallation: nothing is left that blocks or changes a container."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from packaging_root import DEFAULT_BOUNDING, FHIR, PLAIN, USER, Packages, Root, confined, untouched

SITE = '[engine]\nhooks_dir = ["/srv/hooks", "/usr/share/containers/oci/hooks.d"]\n'
DROPIN = "/etc/containers/containers.conf.d/50-fhir-hook.conf"
SHARED = "/usr/share/containers/oci/hooks.d/50-fhir-hook.json"


@pytest.fixture
def again(installed: Root, packages: Packages) -> Iterator[Root]:
    """The root with the package, whatever the test before made of it."""
    installed.dpkg("-i", installed.share(packages.deb()))
    yield installed


def left(root: Root) -> list[str]:
    """Files of the product in the root."""
    words = ["find", "/", "-xdev", "-path", "/srv", "-prune", "-o", "-path", "/home", "-prune", "-o", "-path", "/proc",
             "-prune", "-o", "-path", "/var/lib/dpkg", "-prune", "-o", "-iname", "*fhir*hook*", "-print"]  # fmt: skip
    return root.run(words).stdout.splitlines()


def profile(root: Root, name: str) -> str:
    """A profile like the generic one for JVMs, for no image in particular."""
    document = json.loads(root.read("/usr/share/fhir-hook/profiles/fhir-jvm.json"))
    document = {key: value for key, value in document.items() if key not in ("match", "generic")}
    return json.dumps({**document, "name": name})


def test_after_removal_nothing_blocks_or_changes_a_container(again: Root, runtime: str) -> None:
    names = ["stays-fhir", "stays-other"]
    for name, tag in zip(names, (FHIR, PLAIN), strict=True):
        again.podman("run", "-d", "--network", "none", "--name", name, tag, "sleeper", runtime=runtime, check=True)
    said = again.apt("remove", "fhir-hook")
    try:
        assert "tar --zstd -cf fhir-hook-log.tar.zst" in said.stderr + said.stdout
        assert not again.exists(DROPIN) and not again.exists(SHARED)
        for who in (None, USER):
            assert untouched(again.state(FHIR, runtime=runtime, user=who))
            assert untouched(again.state(PLAIN, runtime=runtime, user=who))
        # What ran while it was confined stays so, can be entered, stopped, and started without the hook.
        show = ("exec", names[0], "status")
        assert f"CapBnd:\t{'0' * 16}" in again.podman(*show, runtime=runtime, check=True).stdout
        again.podman("restart", "-t", "0", *names, runtime=runtime, check=True)
        assert f"CapBnd:\t{DEFAULT_BOUNDING}" in again.podman(*show, runtime=runtime, check=True).stdout
    finally:
        again.podman("rm", "-f", "-t", "0", *names, runtime=runtime)


def test_settings_profiles_and_log_stay_until_purge(again: Root) -> None:
    again.write("/etc/fhir-hook/config.toml", 'generic = "complain"\n')
    again.write("/etc/fhir-hook/profiles/own.json", profile(again, "own"))
    again.run(["fhir-hook", "policy", "compile"])
    again.apt("remove", "fhir-hook")
    kept = left(again)
    assert {"/etc/fhir-hook", "/var/log/fhir-hook", "/var/lib/fhir-hook"} <= set(kept)
    assert not [path for path in kept if path.startswith("/usr/")]
    assert again.exists("/etc/fhir-hook/profiles/own.json") and again.exists("/etc/fhir-hook/config.toml")
    again.apt("purge", "fhir-hook")
    assert left(again) == []
    assert untouched(again.state(FHIR)) and untouched(again.state(PLAIN))


def test_installed_again_it_finds_the_settings_and_goes_on_with_the_log(again: Root, packages: Packages) -> None:
    again.write("/etc/fhir-hook/config.toml", 'undetermined = "refuse"\n')
    before = len(again.records())
    again.apt("remove", "fhir-hook")
    again.apt("install", again.share(packages.deb()))
    assert "undetermined = refuse" in again.run(["fhir-hook", "policy", "show"]).stdout
    assert confined(again.state(FHIR)) and untouched(again.state(PLAIN))
    events = [r["what"] for r in again.records()[before:] if r["event"] == "hook"]
    assert events == ["removed", "installed"]
    assert again.run(["fhir-hook", "log"]).returncode == 0
    again.run(["rm", "/etc/fhir-hook/config.toml"])
    again.run(["fhir-hook", "policy", "compile"])


def test_a_removal_works_although_python_does_not(again: Root) -> None:
    again.run(["mv", "/usr/bin/python3", "/usr/bin/python3.away"])
    try:
        again.dpkg("--remove", "--force-depends", "fhir-hook", check=False)
        assert not again.exists(DROPIN) and not again.exists(SHARED)
        assert untouched(again.state(FHIR)) and untouched(again.state(PLAIN))
    finally:
        again.run(["mv", "/usr/bin/python3.away", "/usr/bin/python3"])


def test_an_administrators_hooks_dir_keeps_working(again: Root, packages: Packages, runtime: str) -> None:
    """It was set before the package came, keeps working with it, and is as it was when it goes."""
    again.apt("remove", "fhir-hook")
    again.write("/etc/containers/containers.conf.d/10-site.conf", SITE)
    hook = '{"version":"1.0.0","hook":{"path":"/srv/shared/site"},"when":{"always":true},"stages":["prestart"]}'
    again.write("/srv/hooks/10-site.json", hook)
    again.write("/srv/shared/site", "#!/bin/sh\ncat >/dev/null\necho ran >>/run/site-ran\n", 0o755)
    try:
        again.apt("install", again.share(packages.deb()))
        wanted = ("/srv/hooks", "/usr/share/containers/oci/hooks.d", "/usr/share/fhir-hook/podman-hooks.d")
        assert ", ".join(f'"{path}"' for path in wanted) in again.read(DROPIN)
        assert confined(again.state(FHIR, runtime=runtime)) and again.read("/run/site-ran") == "ran\n"
        again.apt("remove", "fhir-hook")
        assert untouched(again.state(FHIR, runtime=runtime)) and again.read("/run/site-ran") == "ran\nran\n"
        assert again.read("/etc/containers/containers.conf.d/10-site.conf") == SITE
    finally:
        again.run(["rm", "-f", "/run/site-ran", "/etc/containers/containers.conf.d/10-site.conf"])
        again.run(["rm", "-rf", "/srv/hooks"])


def test_a_profile_of_another_package_is_compiled_by_the_trigger(again: Root) -> None:
    again.write("/srv/vendor/usr/share/fhir-hook/profiles/vendor.json", profile(again, "vendor"))
    control = "Package: vendor-profile\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.invalid>\nDescription: x\n"
    again.write("/srv/vendor/DEBIAN/control", control)
    again.run(["chmod", "-R", "u=rwX,go=rX", "/srv/vendor"])
    again.run(["dpkg-deb", "-b", "/srv/vendor", "/srv/vendor.deb"])
    again.dpkg("-i", "/srv/vendor.deb")
    try:
        assert "vendor" in again.run(["fhir-hook", "policy", "show"]).stdout
    finally:
        again.dpkg("-r", "vendor-profile")
    assert "vendor" not in again.run(["fhir-hook", "policy", "show"]).stdout


def test_a_bad_profile_of_another_package_keeps_the_old_policy_and_says_so(again: Root) -> None:
    before = again.run(["fhir-hook", "policy", "show"]).stdout.splitlines()[0]
    again.write("/srv/bad/usr/share/fhir-hook/profiles/bad.json", "{")
    control = "Package: bad-profile\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.invalid>\nDescription: x\n"
    again.write("/srv/bad/DEBIAN/control", control)
    again.run(["chmod", "-R", "u=rwX,go=rX", "/srv/bad"])
    again.run(["dpkg-deb", "-b", "/srv/bad", "/srv/bad.deb"])
    said = again.dpkg("-i", "/srv/bad.deb")
    try:
        assert "bad.json" in said.stderr
        assert again.run(["fhir-hook", "policy", "show"]).stdout.splitlines()[0] == before
        record = [r for r in again.records() if r["event"] == "policy"][-1]
        assert record["result"] == "refused" and "bad.json" in record["problems"][0]
        assert "bad.json" in again.run(["fhir-hook", "doctor"], check=False).stdout
        assert confined(again.state(FHIR)) and untouched(again.state(PLAIN))
    finally:
        again.dpkg("-r", "bad-profile")
    assert again.run(["fhir-hook", "doctor"], check=False).returncode == 0
