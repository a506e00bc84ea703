"""Windows that slide: what leaves, what stays, what few values can't tell."""

import pytest

from workbench.telemetry.windows import NOTHING, Counts, Span, Window

SPAN = Span("test", "test", slot_s=10, slots=6)
NOW = 1_000_000


def test_a_window_begins_empty():
    picture = Window(SPAN).picture(NOW)
    assert picture.counts == NOTHING
    assert picture.spreads["ttft"].count == 0
    assert picture.spreads["ttft"].p50 is None
    assert picture.curves["ttft"] == (None,) * 6
    assert picture.ends_at == NOW + 10


def test_what_happened_leaves_with_its_slot():
    window = Window(SPAN)
    window.add(NOW, times={"ttft": 1.0})
    window.add(NOW, Counts(tokens=5, ok=1))
    window.add(NOW + 30, times={"ttft": 3.0})
    window.add(NOW + 30, Counts(tokens=7, failed=1))
    picture = window.picture(NOW + 59)
    assert picture.counts == Counts(tokens=12, ok=1, failed=1)
    assert [bool(point) for point in picture.curves["ttft"]] == [True, False, False, True, False, False]
    picture = window.picture(NOW + 60)
    assert picture.counts == Counts(tokens=7, failed=1)
    assert picture.spreads["ttft"].count == 1
    assert picture.spreads["ttft"].p50 == pytest.approx(3.0, rel=0.01)
    assert window.picture(NOW + 10_000).spreads["ttft"].count == 0


def test_percentiles_wait_for_enough_values():
    window = Window(SPAN)
    for number in range(1, 20):
        window.add(NOW, times={"total": number})
    spread = window.picture(NOW).spreads["total"]
    assert (spread.count, spread.p95, spread.p99) == (19, None, None)
    assert spread.p50 == pytest.approx(10, rel=0.01)
    assert spread.longest == pytest.approx(19, rel=0.01)
    for number in range(20, 101):
        window.add(NOW, times={"total": number})
    spread = window.picture(NOW).spreads["total"]
    assert [spread.p50, spread.p95, spread.p99] == pytest.approx([50, 95, 99], rel=0.01)


def test_a_curve_follows_what_is_added_to_its_slot():
    window = Window(SPAN)
    window.add(NOW, times={"ttft": 1.0})
    assert window.picture(NOW).curves["ttft"][-1] == pytest.approx((1.0, 1.0), rel=0.01)
    window.add(NOW, times={"ttft": 2.0})
    assert window.picture(NOW).curves["ttft"][-1] == pytest.approx((1.0, 2.0), rel=0.01)


def test_what_lasts_is_in_each_slot_that_it_lasted_in():
    window = Window(SPAN)
    window.hold(NOW + 5, NOW + 25, waiting=2, batch=0)
    window.hold(NOW + 25, NOW + 31, waiting=0, batch=1)
    picture = window.picture(NOW + 50)
    assert [step.waiting for step in picture.steps] == [2, 2, 2, 0, 0, 0]
    assert [step.batch for step in picture.steps] == [0, 0, 1, 1, 0, 0]
    assert (picture.counts.waiting, picture.counts.batch) == (2, 1)
    assert window.picture(NOW + 90).counts == NOTHING, "the most of what has left is not the most"


def test_what_is_older_than_the_window_is_dropped_and_what_is_late_finds_its_slot():
    window = Window(SPAN)
    window.add(NOW + 50, Counts(tokens=1))
    window.add(NOW + 20, Counts(tokens=2))
    window.add(NOW - 10, Counts(tokens=4))
    picture = window.picture(NOW + 50)
    assert [step.tokens for step in picture.steps] == [0, 0, 2, 0, 0, 1]
    assert picture.counts.tokens == 3


def test_windows_of_the_past_are_added():
    past, window = Window(SPAN), Window(SPAN)
    for at in range(NOW - 100, NOW + 30, 10):
        past.add(at, times={"ttft": 1.0})
        past.add(at, Counts(ok=1))
    window.add(NOW + 40, times={"ttft": 2.0})
    window.add(NOW + 20, Counts(ok=1))
    window.merge(past)
    picture = window.picture(NOW + 40)
    assert [step.ok for step in picture.steps] == [1, 1, 1, 2, 0, 0]
    assert picture.spreads["ttft"].count == 5
    picture = window.picture(NOW + 70)
    assert picture.counts.ok == 2
    assert picture.spreads["ttft"].count == 2
