from itertools import islice

import pytest

from benchmarks.endurance import Reading, drift, growth, turns
from benchmarks.footprint import Footprint


def reading(
    rss_mib=100, private_mib=70, app_rss_mib=40, threads=10, descriptors=20, shared=("a",), workers=(1, 2)
):
    return Reading(
        {f"w{number}": pid for number, pid in enumerate(workers)},
        app_rss_mib << 20,
        Footprint(rss_mib << 20, private_mib << 20, threads, descriptors, frozenset(shared)),
    )


@pytest.mark.parametrize("seed", range(20))
def test_two_workers_never_hold_the_model_whose_turn_it_is(seed):
    order = list(islice(turns("abcd", seed), 400))
    for number in range(2, len(order)):
        assert order[number] not in order[number - 2 : number]


def test_all_models_have_equally_many_turns():
    order = list(islice(turns("abcd", 1), 400))
    for begin in range(0, 400, 4):
        assert set(order[begin : begin + 4]) == set("abcd")


def test_turns_are_the_same_for_the_same_seed():
    assert list(islice(turns("abcd", 3), 40)) == list(islice(turns("abcd", 3), 40))
    assert list(islice(turns("abcd", 3), 40)) != list(islice(turns("abcd", 4), 40))


def test_growth_is_what_was_not_there_before():
    after = reading(
        rss_mib=103, private_mib=72, app_rss_mib=41, threads=11, descriptors=18, shared=("a", "b", "c")
    )
    assert growth(reading(), after) == {
        "rss_growth_mb": 3.0,
        "private_growth_mb": 2.0,
        "app_rss_growth_mb": 1.0,
        "threads_growth": 1,
        "fds_growth": -2,
        "shm_growth": 2,
    }


def test_segments_that_take_the_place_of_others_are_no_growth():
    assert growth(reading(shared="ab"), reading(shared="bc"))["shm_growth"] == 0


def test_nothing_is_compared_with_a_replaced_worker():
    with pytest.raises(RuntimeError, match="replaced"):
        growth(reading(), reading(workers=(1, 3)))


def test_drift_compares_the_ends():
    figures = drift([0.1] * 10 + [9.0] * 30 + [0.2] * 10)
    assert figures == {
        "switch_start_p50_s": 0.1,
        "switch_start_p95_s": 0.1,
        "switch_end_p50_s": 0.2,
        "switch_end_p95_s": 0.2,
    }
