"""Limits at times that the tests choose."""

import pytest

from workbench.access.limits import DAY_S, Limits, Running, Usage
from workbench.errors import TooManyRequestsError

MIDNIGHT = 20_000 * DAY_S


def refusal(usage: Usage, limits: Limits, now: float = 0.0, wall: float = MIDNIGHT) -> TooManyRequestsError:
    with pytest.raises(TooManyRequestsError) as refused:
        usage.check("ci", limits, now, wall)
    return refused.value


def test_requests_are_counted_over_the_last_minute_and_the_wait_is_exact():
    usage, limits = Usage(), Limits(requests_per_minute=3)
    for now in (0.0, 10.0, 50.0):
        usage.check("ci", limits, now, MIDNIGHT)
        usage.begin(limits, now)
    error = refusal(usage, limits, now=55.0)
    assert "3 requests in the last minute" in str(error)
    assert error.retry_after_s == pytest.approx(5.0)
    refusal(usage, limits, now=59.9)
    usage.check("ci", limits, 55.0 + error.retry_after_s, MIDNIGHT)
    usage.begin(limits, 60.0)
    assert refusal(usage, limits, now=60.0).retry_after_s == pytest.approx(10.0)


def test_a_refused_request_does_not_count():
    usage, limits = Usage(), Limits(requests_per_minute=1)
    usage.begin(limits, 0.0)
    for now in range(1, 60):
        refusal(usage, limits, now=float(now))
    usage.check("ci", limits, 60.0, MIDNIGHT)


def test_tokens_are_counted_by_the_day_and_the_wait_is_until_midnight():
    usage, limits = Usage(), Limits(tokens_per_day=100)
    usage.charge(99, MIDNIGHT + 10)
    usage.check("ci", limits, 0.0, MIDNIGHT + 20)
    usage.charge(50, MIDNIGHT + 20)
    error = refusal(usage, limits, wall=MIDNIGHT + DAY_S - 100)
    assert "100 tokens of today" in str(error)
    assert error.retry_after_s == pytest.approx(100)
    usage.check("ci", limits, 0.0, MIDNIGHT + DAY_S)
    usage.charge(1, MIDNIGHT + DAY_S)
    assert usage.tokens_of(20_001) == 1


def test_what_runs_is_limited_and_the_wait_is_that_for_the_next_end():
    usage, limits = Usage(), Limits(concurrency=2)
    for _ in range(2):
        usage.check("ci", limits, 0.0, MIDNIGHT)
        usage.begin(limits, 0.0)
    assert refusal(usage, limits).retry_after_s == pytest.approx(0.5), "a first guess of a second, for two"
    usage.running.end(30.0)
    usage.check("ci", limits, 30.0, MIDNIGHT)
    usage.begin(limits, 30.0)
    assert refusal(usage, limits).retry_after_s == pytest.approx(15.0)


def test_expected_times_follow_what_requests_take():
    running = Running()
    for _ in range(100):
        running.begin()
        running.end(4.0)
    running.begin()
    assert running.next_end_s() == pytest.approx(4.0)


def test_without_limits_nothing_is_kept():
    usage = Usage()
    for now in range(1000):
        usage.check("ci", Limits(), float(now), MIDNIGHT)
        usage.begin(Limits(), float(now))
    assert len(usage._begun) == 0
