"""Estimates of switches: a model's own first, then by size, then none. And of the length of answers."""

import pytest

from workbench.telemetry.estimates import (
    FARTHEST,
    KEPT,
    KEPT_ANSWERS,
    UNKNOWN_ANSWER,
    AnswerLengths,
    SwitchEstimates,
)

MB = 10**6
SIZES = {"small": 10 * MB, "middle": 100 * MB, "large": 200 * MB, "new": 150 * MB}


def estimates(*swaps: tuple[str, bool, float]) -> SwitchEstimates:
    made = SwitchEstimates()
    for model, woken, total_s in swaps:
        made.add(model, woken, total_s, 0.0)
    return made


def test_nothing_is_known_at_first():
    assert SwitchEstimates().seconds("small", False, SIZES) is None


def test_a_model_is_expected_to_take_the_median_of_its_own_last_switches():
    made = estimates(*(("small", False, seconds) for seconds in [9.0] * KEPT + [0.5, 0.3, 0.4, 7.0, 0.2]))
    assert made.seconds("small", False, SIZES) == 0.4


def test_wakes_and_loads_are_apart():
    made = estimates(("small", False, 0.4), ("small", True, 0.01))
    assert made.seconds("small", True, SIZES) == 0.01
    assert made.seconds("small", False, SIZES) == 0.4


def test_a_long_wait_for_a_worker_is_not_the_switch():
    made = SwitchEstimates()
    made.add("small", False, total_s=15.3, wait_s=15.0)
    assert made.seconds("small", False, SIZES) == pytest.approx(0.3)
    made.add("large", False, total_s=0.5, wait_s=0.2)
    assert made.seconds("large", False, SIZES) == 0.5, "what room takes is a switch's own"


@pytest.mark.parametrize(
    ("weight_bytes", "seconds"),
    [(150 * MB, 1.5), (100 * MB, 1.0), (1 * MB, 0.1), (300 * MB, 3.0), (FARTHEST * 200 * MB + 1, None)],
)
def test_a_model_never_loaded_is_compared_by_size(weight_bytes, seconds):
    made = estimates(("small", False, 0.1), ("middle", False, 1.0), ("large", False, 2.0))
    assert made.seconds("new", False, SIZES | {"new": weight_bytes}) == (seconds and pytest.approx(seconds))


def test_a_first_load_is_compared_with_first_loads():
    made = estimates(("middle", False, 5.0), *[("middle", False, 0.8)] * KEPT)
    assert made.seconds("middle", False, SIZES) == 0.8
    assert made.seconds("new", False, SIZES | {"new": 100 * MB}) == 5.0


def test_the_first_load_is_known_though_long_ago():
    made = SwitchEstimates()
    made.add_first("middle", 5.0, 0.0)
    made.add("middle", False, 0.8, 0.0)
    assert made.seconds("new", False, SIZES | {"new": 100 * MB}) == 5.0


def test_models_of_one_size_count_with_their_median():
    sizes = {"a": MB, "b": MB, "c": MB, "new": MB}
    made = estimates(("a", True, 0.1), ("b", True, 0.3), ("c", True, 0.2))
    assert made.seconds("new", True, sizes) == 0.2


def test_models_whose_size_is_not_known_say_nothing():
    made = estimates(("gone", False, 1.0), ("small", False, 0.1))
    assert made.seconds("new", False, SIZES) is None, "15 times the only size measured"
    assert made.seconds("new", False, {"small": 10 * MB, "new": 0}) is None


def test_an_answer_is_expected_to_be_as_long_as_the_models_last_ones():
    lengths = AnswerLengths()
    for tokens in [9000] * KEPT_ANSWERS + [100, 300] * (KEPT_ANSWERS // 2):
        lengths.add("talker", tokens)
    assert lengths.expected_tokens("talker", 0, None) == 200
    assert lengths.expected_tokens("talker", 0, 50) == 50, "no longer than it may be"
    assert lengths.expected_tokens("talker", 4000, 50) == 1050, "with its prompt"
    assert lengths.expected_tokens("new", 0, None) == UNKNOWN_ANSWER
