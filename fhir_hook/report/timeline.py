"""The timeline of a report: bars for each hour or day, as SVG that needs nothing but the page's style sheet."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from xml.sax.saxutils import escape

KINDS = ("confined", "other", "refused")  # from the bottom up
MOST_BARS, _LEAST_BARS = 92, 24
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _DENIALS = 1000, 190, 56, 24, 12, 26
_STEPS = (1, 3, 6, 12, 24, 24 * 7, 24 * 28, 24 * 91)  # hours
_LABELS, _LONG_LABELS = 8, 6
Hours = Counter[tuple[str, str]]


class Bar:
    """What happened in the hours from `start` on: counts by kind."""

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.counts: Counter[str] = Counter()

    @property
    def height(self) -> int:
        """Decisions, all kinds together."""
        return sum(self.counts[kind] for kind in KINDS)


class Timeline:
    """`bars` that are `step` hours wide each, from counts by (hour, kind)."""

    def __init__(self, hours: Hours) -> None:
        times = sorted({hour for hour, _ in hours if hour})
        self.bars: list[Bar] = []
        self.step = _STEPS[0]
        if not times:
            return
        first, last = (datetime.strptime(t, "%Y-%m-%dT%H").replace(tzinfo=UTC) for t in (times[0], times[-1]))
        span = (last - first) / timedelta(hours=1) + 1
        self.step = next((step for step in _STEPS if span / step <= MOST_BARS), int(span // MOST_BARS) + 1)
        first = first.replace(hour=0 if self.step >= 24 else first.hour - first.hour % self.step)
        width = timedelta(hours=self.step)
        count = max((last - first) // width + 1, _LEAST_BARS)
        first = min(first, first + width * ((last - first) // width + 1 - _LEAST_BARS))  # what happened is at the end
        self.bars = [Bar(first + width * at) for at in range(min(count, MOST_BARS + 24))]
        for (hour, kind), number in hours.items():
            if hour:
                at = (datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC) - first) // width
                self.bars[at].counts[kind] += number

    @property
    def per(self) -> str:
        """How wide a bar is."""
        named = {1: "hour", 24: "day", 168: "week", 672: "4 weeks", 2184: "13 weeks"}
        return named.get(self.step, f"{self.step} hours")

    def label(self, bar: Bar) -> str:
        """When a bar begins, as the axis says it (UTC)."""
        return bar.start.strftime("%d %b %H:%M" if self.step < 24 else "%d %b %Y" if self.step > 24 else "%d %b")

    def svg(self) -> str:
        """The picture; every text in it is made here, none is taken from the log."""
        top = _rounded(max((bar.height for bar in self.bars), default=0))
        drawn = [*self._grid(top)]
        denials = any(bar.counts["denial"] for bar in self.bars)
        for at, bar in enumerate(self.bars):
            drawn += self._bar(at, bar, top)
            if denials:
                drawn += self._denials(at, bar)
        drawn += self._axis(denials)
        total = sum((bar.counts for bar in self.bars), Counter[str]())
        said = ", ".join(f"{total[kind]:,} {kind}" for kind in (*KINDS, "denial") if total[kind])
        title = escape(f"Decisions for each {self.per}: {said or 'none'}")
        height = _HEIGHT + (_DENIALS if denials else 0)
        return (
            f'<svg class="timeline" viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="timeline-title">'
            f'<title id="timeline-title">{title}</title>'
            '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><rect width="6" height="6" class="refused"/>'
            '<path d="M0 0V6" class="hatch"/></pattern></defs>' + "".join(drawn) + "</svg>"
        )

    def _x(self, at: float) -> float:
        return _LEFT + (_WIDTH - _LEFT) * at / max(1, len(self.bars))

    def _grid(self, top: int) -> list[str]:
        lines = []
        for share in (0, 0.5, 1) if top > 1 else (0, 1):
            y = _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * share
            lines.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH}"/>')
            place = f'x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end"'
            lines.append(f'<text class="axis" {place}>{top * share:,.0f}</text>')
        return lines

    def _bar(self, at: int, bar: Bar, top: int) -> list[str]:
        if not bar.height:
            return []
        room, y = _HEIGHT - _BOTTOM - _TOP, float(_HEIGHT - _BOTTOM)
        width = max(1.5, min(34.0, (self._x(1) - self._x(0)) * 0.78))
        x = (self._x(at) + self._x(at + 1) - width) / 2
        parts = []
        for kind in KINDS:
            if bar.counts[kind]:
                height = max(2.0, room * bar.counts[kind] / top)
                y -= height
                size = f'width="{width:.1f}" height="{height:.1f}"'
                parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" {size}/>')
        return [f"<g>{self._said(bar)}", *parts, "</g>"]

    def _denials(self, at: int, bar: Bar) -> list[str]:
        if not bar.counts["denial"]:
            return []
        x, y = (self._x(at) + self._x(at + 1)) / 2, _HEIGHT + _DENIALS - 16
        return [f'<g>{self._said(bar)}<path class="denial" d="M{x - 5:.1f} {y - 9}h10l-5 10z"/></g>']

    def _said(self, bar: Bar) -> str:
        counts = ", ".join(f"{bar.counts[kind]:,} {kind}" for kind in (*KINDS, "denial") if bar.counts[kind])
        return f"<title>{escape(f'{self.label(bar)}: {counts}')}</title>"

    def _axis(self, denials: bool) -> list[str]:
        labels = []
        places = range(len(self.bars))
        days = [at for at in places if self.bars[at].start.hour == 0]
        named = days if 1 < self.step < 24 and len(days) > 3 else list(places)
        most = _LABELS if named is days or self.step >= 24 else _LONG_LABELS
        for at in named[:: max(1, -(-len(named) // most))]:
            x, y = self._x(at + 0.5), _HEIGHT - 6
            anchor = "start" if x < _LEFT + 40 else "end" if x > _WIDTH - 40 else "middle"
            said = self.bars[at].start.strftime("%d %b") if named is days else self.label(self.bars[at])
            labels.append(f'<text class="axis" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(said)}</text>')
        if denials:
            y = _HEIGHT + _DENIALS - 16
            labels.append(f'<text class="axis" x="{_LEFT - 8}" y="{y}" text-anchor="end">denied</text>')
        return labels


def _rounded(number: int) -> int:
    """The next number for the top of the axis that is round and, beyond 1, even: its half is named, too."""
    power = 1
    for step in (1, 2, 4, 6, 8, 10):
        if number <= step:
            return step
    while True:
        for step in (12, 16, 20, 24, 30, 40, 50, 60, 80, 100):
            if number <= step * power:
                return step * power
        power *= 10
