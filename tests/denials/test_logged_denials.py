"""The setting log.denials: denials of enforced profiles in the kernel's log, and runtimes that can't do it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from denials.conftest import Watch
from host.machine import Host
from system.support import FHIR, LIVE, SETTINGS

pytestmark = pytest.mark.timeout(300)
Start = Callable[..., str]
RUNC = Path("/usr/sbin/runc")
DROPIN = SETTINGS / "config.d" / "60-denials.toml"


@pytest.fixture
def denials(product: Host) -> Iterator[Callable[[str], str]]:
    """Put log.denials in force; what the compilation said."""

    def put(value: str) -> str:
        DROPIN.parent.mkdir(exist_ok=True)
        DROPIN.write_text(f'[log]\ndenials = "{value}"\n')
        return product.run(["fhir-hook", "policy", "compile"], check=True).stderr

    yield put
    product.podman("rm", "-a", "-f", "-t", "0")
    DROPIN.unlink(missing_ok=True)
    product.run(["fhir-hook", "policy", "compile"], check=True)


@pytest.fixture
def without_runc(product: Host) -> Iterator[None]:
    """A host on which crun is the only runtime."""
    aside = RUNC.with_name("aside")
    RUNC.rename(aside)
    yield
    if aside.exists():
        aside.rename(RUNC)


def live(host: Host, runtime: str) -> str:
    """A FHIR container whose filter is attached by fhir-hook itself."""
    words = ("run", "-d", "--network", "none", FHIR, "sleeper")
    return host.podman(*LIVE, *words, runtime=runtime, check=True).stdout.strip()


def doctor(host: Host) -> dict[str, str]:
    """What the doctor says of the setting."""
    found = json.loads(host.run(["fhir-hook", "doctor", "--json"]).stdout)["findings"]
    return next(finding for finding in found if finding["check"] == "denials.logged")


def decided(watch: Watch, container: str) -> dict[str, object]:
    """The decision's record."""
    return next(r for r in watch.records("decision") if r["container"]["id"] == container)


def seen(watch: Watch, container: str) -> list[tuple[str, str]]:
    """Calls of a container on record, with what became of them."""
    return [(r["call"], r["action"]) for r in watch.of(container)]


def test_attack_the_flag_does_not_stop_containers_on_a_runtime_that_refuses_it(
    watch: Watch, start: Start, denials: Callable[[str], str]
) -> None:
    """runc 1.1 is here, so no runtime is asked: Podman does not say which one it will take."""
    said = denials("all")
    assert "runc" in said and "1.2" in said
    watch.begin("--json")
    container = start(FHIR, command=["sleeper"], runtime="runc")
    watch.wait(lambda: container in {r["container"]["id"] for r in watch.watch("unobservable")})
    watch.end()
    record = decided(watch, container)
    assert record["path"] == "native" and "logged" not in record["seccomp"]
    finding = doctor(watch.host)
    assert finding["level"] == "note" and str(RUNC) in finding["seen"] and finding["repair"]


@pytest.mark.parametrize(("value", "runtime"), [("live", "runc"), ("all", "crun")])
def test_what_is_denied_is_logged_where_the_filter_is_attached_live(
    watch: Watch, denials: Callable[[str], str], value: str, runtime: str
) -> None:
    denials(value)
    watch.begin("--json")
    container = live(watch.host, runtime)
    watch.wait(lambda: ("pause", "errno") in seen(watch, container))
    watch.end()
    assert decided(watch, container)["seccomp"]["logged"] is True
    assert container not in {r["container"]["id"] for r in watch.watch("unobservable")}


def test_what_is_denied_is_logged_natively_where_every_runtime_can(
    watch: Watch, start: Start, denials: Callable[[str], str], without_runc: None
) -> None:
    assert denials("all") == ""
    assert doctor(watch.host)["level"] == "good"
    watch.begin("--json")
    container = start(FHIR, command=["sleeper"], runtime="crun")
    watch.wait(lambda: ("pause", "errno") in seen(watch, container))
    watch.end()
    assert decided(watch, container)["seccomp"]["logged"] is True
    assert container not in {r["container"]["id"] for r in watch.watch("unobservable")}
    outcome = next(r for r in watch.records("outcome") if r["container"]["id"] == container)
    assert outcome["stage"] == "gate"


def test_a_runtime_that_came_later_and_refuses_the_flag_is_named_with_the_repair(
    watch: Watch, start: Start, denials: Callable[[str], str], without_runc: None
) -> None:
    denials("all")
    RUNC.with_name("aside").rename(RUNC)
    finding = doctor(watch.host)
    assert finding["level"] == "bad" and str(RUNC) in finding["seen"]
    assert finding["repair"] == "fhir-hook policy compile"
    done = watch.host.run(["fhir-hook", "policy", "compile", "--if-changed"], check=True)
    assert "nothing changed" not in done.stdout and str(RUNC) in done.stderr
    start(FHIR, command=["sleep", "100"], runtime="runc")


def test_it_is_off_unless_somebody_sets_it(
    watch: Watch, start: Start, denials: Callable[[str], str], without_runc: None
) -> None:
    denials("off")
    watch.begin("--json")
    containers = [start(FHIR, command=["sleeper"], runtime="crun"), live(watch.host, "crun")]
    watch.wait(lambda: set(containers) <= {r["container"]["id"] for r in watch.watch("unobservable")})
    time.sleep(1)
    watch.end()
    assert [seen(watch, container) for container in containers] == [[], []]
    assert all("logged" not in decided(watch, container)["seccomp"] for container in containers)
