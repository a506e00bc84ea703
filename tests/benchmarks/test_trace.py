import statistics
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from benchmarks.first_come import first_come
from benchmarks.trace import MODELS, Played, question, serving_share
from benchmarks.traces import Arrival, bursty_trace, in_order_s, misses_in_order, paced
from workbench.pool.policy import DeviceView, PoolView, RunnerView, WaiterView, WorkerView


def test_a_trace_is_the_same_for_the_same_seed():
    assert bursty_trace("abc", 50, 7) == bursty_trace("abc", 50, 7)
    assert bursty_trace("abc", 50, 7) != bursty_trace("abc", 50, 8)


@pytest.mark.parametrize("seed", range(5))
def test_a_trace_is_in_order_and_begins_at_once(seed):
    trace = bursty_trace("abc", 300, seed)
    times = [arrival.at for arrival in trace]
    assert len(trace) == 300
    assert times[0] == 0
    assert times == sorted(times)


def test_the_first_model_is_the_most_popular():
    counts = Counter(arrival.model for arrival in bursty_trace("abcd", 4000, 1))
    assert counts["a"] == pytest.approx(2 * counts["b"], rel=0.15)
    assert counts["a"] == pytest.approx(4 * counts["d"], rel=0.25)


def test_requests_come_in_bursts():
    times = [arrival.at for arrival in bursty_trace("ab", 4000, 1)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(1, rel=0.2)
    assert statistics.median(gaps) < 0.15  # 0.69 without bursts
    assert statistics.stdev(gaps) > 2  # 1 without


@pytest.mark.parametrize(
    ("asked", "misses"), [("aaaa", 1), ("abab", 2), ("abcabc", 6), ("abacab", 4), ("aabbcc", 3)]
)
def test_the_least_recently_used_model_gives_way(asked, misses):
    assert misses_in_order(asked, slots=2) == misses


def test_serving_in_order_takes_the_switches_and_the_answers():
    trace = [Arrival(0.0, model) for model in "abcab"]
    assert in_order_s(trace, 2, 0.5, {"a": 1.0, "b": 2.0, "c": 4.0}) == pytest.approx(5 * 0.5 + 10.0)


def test_a_paced_trace_has_its_duration_and_keeps_its_proportions():
    trace = paced([Arrival(0.0, "a"), Arrival(1.0, "b"), Arrival(4.0, "c")], duration_s=2.0)
    assert trace == [Arrival(0.0, "a"), Arrival(0.5, "b"), Arrival(2.0, "c")]


def test_every_model_is_asked_what_it_can_answer():
    class First:
        def randrange(self, start, stop):
            return start

        def choice(self, choices):
            return choices[0]

    assert {question(model, First()) for model in MODELS} == {
        "10 + 10",
        "Count from 1 to 11",
        "Tell me a story about a fox",
    }


def test_serving_share_counts_overlapping_answers_once():
    played = [Played(0.0, 1.0, 3.0), Played(0.5, 2.0, 4.0), Played(10.0, 10.5, 11.0)]
    assert serving_share(played) == pytest.approx((3.0 + 0.5) / (4.0 + 1.0))


EMPTY = PoolView(
    now=100.0,
    fairness_wait=10.0,
    devices=(DeviceView("cpu", budget_bytes=20, max_workers=3, spare_workers=0),),
    workers=(),
    runners=(),
    waiters=(),
)


def view(serving, waiting, in_flight=0):
    """A pool with room for two models and a warm worker; both arguments name models by letters."""
    return replace(
        EMPTY,
        runners=tuple(RunnerView(model, "cpu", "serving", 10, in_flight) for model in serving),
        workers=(
            *(WorkerView(f"w{model}", "cpu", "taken") for model in serving),
            WorkerView("warm", "cpu", "warm"),
        ),
        waiters=tuple(WaiterView(number, model, 10, 100.0) for number, model in enumerate(waiting)),
    )


def test_first_come_goes_ahead_while_models_serve():
    assert first_come(view("ab", "abba")).grants == (0, 1, 2, 3)


def test_nobody_overtakes_the_first_that_waits():
    plan = first_come(view("a", "acaa"))
    assert plan.grants == (0,)
    assert [load.model for load in plan.loads] == ["c"]


def test_only_the_first_that_waits_is_looked_at():
    plan = first_come(view("", "ab"))
    assert [load.model for load in plan.loads] == ["a"]


def test_room_is_made_whoever_waits_behind():
    plan = first_come(view("ab", "cab"))
    assert len(plan.evictions) == 1
    assert not plan.grants


def test_a_busy_model_is_waited_for():
    plan = first_come(view("ab", "c", in_flight=1))
    assert not plan.evictions
    assert not plan.loads
