"""What is said of a request."""

import pytest

from workbench.pool.snapshot import SwapRecord
from workbench.requests import describe_switch


@pytest.mark.parametrize(
    ("source", "woken", "evicted", "wait_s", "text"),
    [
        ("disk", False, (), 0.1, "loaded from disk"),
        ("disk", False, ("a", "b"), 7.0, "loaded from disk, evicting a and b, after waiting 7 s"),
        ("host", True, ("a",), 0.0, "woken, evicting a"),
        ("disk", True, (), 0.0, "woken from disk"),
    ],
)
def test_a_switch_says_what_it_took(source, woken, evicted, wait_s, text):
    swap = SwapRecord("m", "w1", "cpu", 0.0, source, evicted, "ok", woken=woken, wait_s=wait_s)
    assert describe_switch(swap).startswith(text)
    assert ("waiting" in describe_switch(swap)) is ("waiting" in text)
