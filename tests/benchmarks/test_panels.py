"""What the panels benchmark makes of its turns."""

import pytest

from benchmarks.open_pages import Seen
from benchmarks.panels import KINDS, PAGES, Pair, Turn, figures_of


def pair(tokens_per_s: float, app_ms_per_s: float, largest: int = 0) -> Pair:
    """Beside a turn without pages of 100 tokens and 200 ms a second."""
    return Pair(Turn(tokens_per_s, app_ms_per_s), Turn(100, 200), Seen(1, largest, largest, 3.0))


def test_a_page_costs_what_its_tokens_do_not_account_for():
    assert pair(99, 210).ratio == 0.99
    assert pair(99, 210).ms_per_s == pytest.approx(210 - 0.99 * 200)


def test_figures_are_medians_of_pairs_and_tell_their_spread():
    together = [pair(98, 216), pair(99, 208, largest=70_000), pair(150, 330), pair(97, 214), pair(100, 210)]
    figures = figures_of(together, {kind: [pair(100, 200 + i)] for i, kind in enumerate(KINDS)})
    assert figures["throughput_ratio"] == 0.99
    assert figures["throughput_ratio_spread"] == [0.98, 1.0]
    assert figures["ms_per_s"] == pytest.approx(20 / len(PAGES))
    assert [figures[f"ms_per_s_{kind}_alone"] for kind in KINDS] == [0, 1, 2, 3, 4]
    assert figures["largest_frame_bytes"] == 70_000
