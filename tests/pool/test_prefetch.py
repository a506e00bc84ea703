"""Which models' files to prefetch."""

import pytest

from workbench.pool.prefetch import likely_next

SIZES = {"a": 10, "b": 10, "c": 10}
DAY_S = 86400.0


def uses(models: str):
    """One use of each, ten seconds apart."""
    return [(model, index * 10.0) for index, model in enumerate(models)]


def test_what_was_used_most_comes_first():
    assert likely_next(uses("abcbcbdd"), SIZES, 100) == ["b", "c", "a"]


def test_what_was_used_lately_comes_first():
    history = [*uses("aaa"), ("b", DAY_S), ("d", DAY_S)]
    assert likely_next(history, SIZES, 100) == ["b", "a"]


def test_what_followed_the_model_used_last_comes_first():
    history = uses("bbbbbacacad")
    assert likely_next([*history, ("x", 110.0)], SIZES, 100)[0] == "b"
    assert likely_next([*history, ("a", 110.0)], SIZES, 100)[0] == "c"


def test_a_repeated_use_is_no_switch():
    candidates = SIZES | {"d": 10}
    assert likely_next(uses("dbdbdddddddd"), candidates, 100)[0] == "b"


def test_goes_to_the_next_that_fits_and_never_above_the_budget():
    history, sizes = uses("aaaabbbccd"), {"a": 50, "b": 60, "c": 30, "d": 20}
    assert likely_next(history, sizes, 100) == ["a", "c", "d"]
    assert likely_next(history, sizes, 99) == ["a", "c"]
    assert likely_next(history, sizes, 19) == []
    assert likely_next(history, sizes, -5) == []


@pytest.mark.parametrize("history", [[], uses("xy")])
def test_does_not_guess_at_what_was_never_used(history):
    assert likely_next(history, SIZES, 100) == []


def test_ties_are_broken_the_same_way_each_time():
    history = [("c", 5.0), ("a", 5.0), ("b", 5.0), ("d", 5.0)]
    assert likely_next(history, SIZES, 20) == likely_next(history, dict(reversed(SIZES.items())), 20)
