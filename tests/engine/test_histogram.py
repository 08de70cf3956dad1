"""Counts by size, against a count by hand."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.histogram import Histogram


@given(st.lists(st.tuples(st.floats(-10, 10), st.integers(1, 5))), st.sets(st.floats(-9, 9), min_size=1))
def test_each_value_is_counted_once_below_its_bound(values: list[tuple[float, int]], borders: set[float]) -> None:
    """A value at a bound belongs below it, as Prometheus' `le` says."""
    bounds = tuple(sorted(borders))
    histogram = Histogram(bounds)
    for value, times in values:
        histogram.observe(value, times)
    edges = pairwise((float("-inf"), *bounds, float("inf")))
    wanted = [sum(times for value, times in values if low < value <= high) for low, high in edges]
    assert histogram.spread.counts == wanted
