"""The timeline: whatever the hours, every decision is in one bar, and the picture is well-formed."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from fhir_hook.report.timeline import KINDS, MOST_BARS, Timeline

TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2199, 12, 31)).map(lambda time: time.strftime("%Y-%m-%dT%H"))
HOURS = st.dictionaries(st.tuples(TIMES, st.sampled_from((*KINDS, "denial"))), st.integers(1, 1 << 53), max_size=8)


@given(HOURS)
def test_every_count_is_in_one_bar_and_the_picture_is_well_formed(hours: dict[tuple[str, str], int]) -> None:
    timeline = Timeline(Counter(hours))
    assert sum(sum(bar.counts.values()) for bar in timeline.bars) == sum(hours.values())
    assert len(timeline.bars) <= MOST_BARS + 24
    ElementTree.fromstring(timeline.svg())


def test_what_happened_in_one_hour_is_the_last_of_a_day() -> None:
    bars = Timeline(Counter({("2026-11-21T10", "confined"): 3})).bars
    assert len(bars) == 24 and bars[-1].counts["confined"] == 3 and bars[-1].start.hour == 10
