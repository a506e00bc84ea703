"""Percentiles by nearest rank, half a percent wide."""

import math
import random

import pytest

from workbench.telemetry.histogram import Histogram

SHARES = (0.5, 0.95, 0.99, 1.0)


def filled(values) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@pytest.mark.parametrize("count", [1, 2, 3, 19, 20, 100, 5000])
def test_percentiles_are_those_of_the_sorted_values(count):
    values = [random.Random(count).lognormvariate(-3, 2) for _ in range(count)]
    exact = [sorted(values)[math.ceil(share * count) - 1] for share in SHARES]
    assert filled(values).percentiles(SHARES) == pytest.approx(exact, rel=0.00501)


def test_nothing_took_no_time():
    assert filled([0.0, 0.0, 1e-9]).percentiles(SHARES) == [0.0] * 4


def test_an_empty_one_has_no_percentiles():
    assert Histogram().percentiles(SHARES) == []


def test_what_is_removed_was_never_there():
    first, second = filled([0.1, 0.2, 0.2, 7.0]), filled([0.3, 0.2])
    both = filled([])
    both.merge(first)
    both.merge(second)
    assert both.count == 6
    both.remove(first)
    assert (both.count, both.percentiles(SHARES)) == (2, second.percentiles(SHARES))
    assert both._buckets == second._buckets, "and nothing is kept of it"


def test_memory_does_not_grow_with_the_values():
    histogram = filled(random.Random(1).uniform(0.01, 10) for _ in range(50_000))
    assert len(histogram._buckets) < 720
