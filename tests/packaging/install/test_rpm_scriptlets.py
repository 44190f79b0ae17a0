"""The RPM's scriptlets really run, by Debian's rpm on a Debian root: a Fedora or RHEL was not to be had."""

from __future__ import annotations

from packaging_root import FHIR, PLAIN, Packages, Root, confined, untouched

DEPENDENCIES = ("rpm", "python3-click", "python3-cryptography", "python3-jinja2", "python3-jsonschema", "python3-prctl",
                "python3-psutil", "python3-rich", "python3-seccomp", "python3-yaml")  # fmt: skip


def test_scriptlets_put_it_in_force_keep_it_through_an_upgrade_and_take_it_out(fresh: Root, packages: Packages) -> None:
    fresh.apt("update")
    fresh.apt("install", *DEPENDENCIES)
    fresh.load_images()
    assert untouched(fresh.state(FHIR))
    rpm = ["rpm", "--nodeps"]
    fresh.run([*rpm, "-i", fresh.share(packages.rpm())])
    assert confined(fresh.state(FHIR)) and untouched(fresh.state(PLAIN))
    fresh.run([*rpm, "-U", fresh.share(packages.rpm("0.2.0"))])
    assert confined(fresh.state(FHIR)) and untouched(fresh.state(PLAIN))
    assert [path.name.partition("-")[0] for path in (fresh.path / "usr/lib/fhir-hook").iterdir()] == ["0.2.0"]
    fresh.run([*rpm, "-e", "fhir-hook"])
    assert untouched(fresh.state(FHIR)) and untouched(fresh.state(PLAIN))
    events = [(r["what"], r["reason"]) for r in fresh.records() if r["event"] == "hook"]
    assert [what for what, _ in events] == ["installed", "upgraded", "removed"]
    assert events[1][1] == "rpm 0.2.0-1"
