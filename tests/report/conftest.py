"""Fixtures: the real command on a log of its own, a page as a browser sees it, and a log that real containers wrote."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from audit.conftest import Bench
from host.machine import Host
from support.sandbox import Sandbox

BROWSER = "chromium"
MARKER = "a-patients-name-1970"
"""In arguments, environment and mounts of a container; nothing that the product writes may hold it."""
_WITHOUT_NETWORK = ("unshare", "--net", "--map-root-user")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A host with an empty log."""
    return Bench(Sandbox(tmp_path / "host"))


class Page(HTMLParser):
    """A page's elements with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.words.append(data)

    @property
    def text(self) -> str:
        """All text with single spaces."""
        return " ".join(" ".join(self.words).split())


class Browser:
    """Headless Chromium without a network."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _run(self, page: Path, *options: str) -> str:
        assert shutil.which(BROWSER), f"{BROWSER} is missing: apt-get install chromium"
        argv = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
                f"--user-data-dir={self._directory / 'profile'}", *options, page.as_uri()]  # fmt: skip
        done = subprocess.run([*_WITHOUT_NETWORK, *argv], capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def screenshot(self, page: Path, width: int, height: int, *options: str) -> Path:
        """A picture of the page in a window of that size."""
        picture = self._directory / f"{page.stem}-{width}{''.join(options)}.png"
        self._run(page, f"--window-size={width},{height}", f"--screenshot={picture}", *options)
        return picture

    def paper(self, page: Path) -> Path:
        """The page as PDF on paper."""
        pdf = self._directory / f"{page.stem}.pdf"
        self._run(page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
        return pdf

    def measured(self, page: Path, width: int) -> dict[str, int]:
        """What a script finds in a copy of the page that lets it run: widths, and how much was loaded."""
        script = """<script>document.title = JSON.stringify({
          wide: document.documentElement.scrollWidth, window: innerWidth,
          loaded: performance.getEntriesByType("resource").length, scripts: document.scripts.length - 1,
          images: document.images.length})</script>"""
        copy = self._directory / f"measured-{page.stem}-{width}.html"
        html = page.read_text("utf-8")
        before, _, after = html.partition('<meta http-equiv="Content-Security-Policy"')
        assert after, "the page has no Content-Security-Policy"
        copy.write_text(before + after.partition(">")[2] + script, "utf-8")
        found = Page(self._run(copy, f"--window-size={width},1000", "--dump-dom"))
        line = next(word for word in found.words if word.startswith('{"wide"'))
        measured: dict[str, int] = json.loads(line)
        return measured


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Headless Chromium."""
    return Browser(tmp_path_factory.mktemp("browser"))


def colours(png: Path) -> set[bytes]:
    """The colours of every fourth pixel of a picture."""
    from matplotlib import image

    pixels = (image.imread(png)[::2, ::2, :3] * 255).astype("uint8")
    return {bytes(pixel) for row in pixels for pixel in row}


@pytest.fixture
def written(bench: Bench, tmp_path: Path) -> Callable[..., Path]:
    """Runs 'fhir-hook report' and returns the page."""

    def write(*options: str | Path, name: str = "report") -> Path:
        to = tmp_path / f"{name}.html"
        bench("report", "-o", to, *options, check=True)
        return to

    return write


class Real:
    """A log that real containers wrote on the private host, and one of them that runs around the hook."""

    def __init__(self, host: Host, bypassed: str) -> None:
        self.host = host
        self.bypassed = bypassed


@pytest.fixture(scope="session")
def real(host: Host) -> Iterator[Real]:
    """Confined, refused, privileged and complaining starts, changes of settings, a signed log; once per session."""
    config = Path("/etc/fhir-hook/config.toml")
    kept = config.read_text() if config.exists() else ""

    def run(name: str, *options: str, tag: str = "probe:hapi") -> None:
        host.podman("run", "--rm", "--network", "none", "--name", name, *options, tag, "true")

    def settings(text: str) -> None:
        config.write_text(text)
        host.run(["fhir-hook", "policy", "compile"], check=True)

    host.load("probe:hapi")
    host.derive("probe:hapi", "report-refused:latest", "--label", "io.fhir-hook.profile=nothere")
    secret = host.directory() / MARKER
    secret.mkdir()
    options = ("-e", f"PASSWORD={MARKER}", "-v", f"{secret}:/data:ro", "--entrypoint", "true")
    host.podman("run", "--rm", "--network", "none", "--name", "report-good", *options, "probe:hapi", MARKER, check=True)
    run("report-privileged", "--privileged", "--security-opt", "seccomp=unconfined")
    run("report-bad", tag="report-refused:latest")
    settings('mode = "complain"\n')
    run("report-complains")
    settings(kept)
    host.run(["fhir-hook", "log", "key", "new"])
    bypassed = host.start("probe:hapi", "--name", "report-bypassed", command=["sleeper"], hooks=False)
    yield Real(host, bypassed)
    host.podman("rm", "-f", "-t", "0", bypassed)
