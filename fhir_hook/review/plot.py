"""The attack surface as a picture: calls and CVEs per filter, readable on white and without telling red from green."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fhir_hook.review.surface import Line

# Okabe and Ito's colours for the colour-blind; engines' defaults are grey
BLUE, ORANGE, GREY, INK = "#0072B2", "#E69F00", "#9A9A9A", "#222222"


class PlotError(Exception):
    """The picture can't be drawn; str() is one line."""


def svg(listed: Sequence[Line], path: Path) -> None:
    """Write the picture as SVG. Raises PlotError, also when matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise PlotError("a plot needs matplotlib: apt-get install python3-matplotlib") from None
    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "fhir-hook", "text.color": INK}):
        figure, (calls, cves) = pyplot.subplots(
            1, 2, figsize=(10, 0.42 * len(listed) + 1.3), sharey=True, layout="constrained"
        )
        _calls(calls, listed)
        _cves(cves, listed)
        try:
            figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None, "Title": "Attack surface"})
        except OSError as error:
            raise PlotError(f"{path}: {error.strerror or error}") from None
        finally:
            pyplot.close(figure)


def _calls(axes: Any, listed: Sequence[Line]) -> None:
    places = range(len(listed))
    axes.barh(places, [entry.allowed for entry in listed], color=_colours(listed), height=0.66)
    for place, entry in enumerate(listed):
        axes.text(entry.allowed + 4, place, str(entry.allowed), va="center")
    serving = [(place, entry.serving) for place, entry in enumerate(listed) if entry.serving is not None]
    if serving:
        axes.barh([place for place, _ in serving], [count for _, count in serving], color=ORANGE, height=0.28)
        axes.legend(
            handles=[_patch(BLUE, "allowed"), _patch(GREY, "engine's default"), _patch(ORANGE, "seen while serving")],
            loc="lower right", frameon=False,
        )  # fmt: skip
    axes.set_yticks(places, [entry.name for entry in listed])
    axes.invert_yaxis()
    _frame(axes, f"system calls allowed, of {listed[0].known}", listed[0].known * 1.08)


def _cves(axes: Any, listed: Sequence[Line]) -> None:
    total = listed[0].cves
    open_ = [total - entry.closed for entry in listed]
    axes.barh(range(len(listed)), open_, color=_colours(listed), height=0.66)
    for place, count in enumerate(open_):
        axes.text(count + total * 0.01, place, str(count), va="center")
    _frame(axes, f"known kernel flaws within reach, of {total}", total * 1.08)


def _patch(colour: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)


def _colours(listed: Sequence[Line]) -> list[str]:
    return [BLUE if entry.kind == "profile" else GREY for entry in listed]


def _frame(axes: Any, title: str, right: float) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlim(0, right)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(bottom=False, labelbottom=False, left=False)
