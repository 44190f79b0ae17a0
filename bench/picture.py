"""Pictures of what was measured, as SVG: the same bytes from the same results, also for the colour-blind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.estimate import Estimate
from bench.row import NO, UNCLEAR, Row

# Okabe and Ito's colours for the colour-blind
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#9A9A9A")
MARKERS = "os^DvPX*"
BLUE, ORANGE, GREY, INK = COLOURS[0], COLOURS[1], COLOURS[7], "#222222"
STYLE = {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "fhir-hook", "text.color": INK}
Series = Mapping[str, tuple[Sequence[float], Sequence[Estimate]]]


class PictureError(Exception):
    """The picture can't be drawn; str() is one line."""


@contextlib.contextmanager
def figure(path: Path, title: str, columns: int, size: tuple[float, float], **more: Any) -> Iterator[list[Any]]:
    """The axes of a new figure of `columns` plots beside each other, written to `path` at the end."""
    try:
        import matplotlib
    except ImportError:
        raise PictureError("pictures need matplotlib: apt-get install python3-matplotlib") from None
    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context(STYLE):
        drawn, axes = pyplot.subplots(1, columns, figsize=size, layout="constrained", squeeze=False, **more)
        for axis in axes[0]:
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
        try:
            yield list(axes[0])
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn.savefig(path, format="svg", facecolor="white", metadata={"Date": None, "Title": title})
        finally:
            pyplot.close(drawn)


def forest(path: Path, title: str, rows: Sequence[Row]) -> None:
    """A dot and its interval for each row, and a line where its goal is; each unit has a plot of its own."""
    units = list(dict.fromkeys(row.unit for row in rows))
    tallest = max(len([row for row in rows if row.unit == unit]) for unit in units)
    with figure(path, title, len(units), (10 if len(units) == 1 else 15, 0.3 * tallest + 1.0)) as axes:
        for axis, unit in zip(axes, units, strict=True):
            _forest(axis, unit, [row for row in rows if row.unit == unit])


def _forest(axis: Any, unit: str, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        at = row.compared
        colour = GREY if row.goal is None or row.reached == UNCLEAR else ORANGE if row.reached == NO else BLUE
        axis.plot([at.low, at.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axis.plot([at.value], [place], color=colour, marker="s" if row.reached == NO else "o", markersize=5)
        if row.goal is not None:
            axis.plot([row.goal], [place], color=INK, marker="|", markersize=12)
    if not unit:
        axis.axvline(1.0, color=GREY, linewidth=0.8, linestyle=":")
    if unit == "" and max(row.compared.value for row in rows) > 3 * min(row.compared.value for row in rows) > 0:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("{x:g}")
    axis.set_yticks(range(len(rows)), [row.what.replace("`", "") for row in rows])
    axis.invert_yaxis()
    words = f"{unit} more, or in all" if unit else "ratio"
    axis.set_xlabel(f"{words}; | goal, ● reached, ■ missed, grey: no goal, or can't tell".replace("µ", "u"))


def lines(path: Path, title: str, plots: Mapping[str, Series], across: str, up: str) -> None:
    """Plots beside each other, both axes logarithmic: name of the series -> its places and what was found there."""
    with figure(path, title, len(plots), (max(7.0, 2.9 * len(plots)), 4.0), sharey=True) as axes:
        for axis, (words, series) in zip(axes, plots.items(), strict=True):
            axis.set(xscale="log", yscale="log", xlabel=words or across)
            for scale in (axis.xaxis, axis.yaxis):
                scale.set_major_formatter("{x:,g}")
                scale.set_minor_formatter("")
            for number, (name, (places, found)) in enumerate(series.items()):
                look = {"color": COLOURS[number % 8], "marker": MARKERS[number % 8], "markersize": 4}
                axis.plot(places, [at.value for at in found], label=name, linewidth=1.2, **look)
                axis.fill_between(
                    places, [at.low for at in found], [at.high for at in found],
                    color=COLOURS[number % 8], alpha=0.2, linewidth=0,
                )  # fmt: skip
            axis.grid(True, which="major", alpha=0.3)
            if len(series) > 1:
                axis.legend(frameon=False, fontsize=8)
        axes[0].set_ylabel(up)
        axes[0].set_ylim(bottom=min(1.0, axes[0].get_ylim()[0]))
