"""The worker's own helpers."""

import os
import threading

import pytest

from workbench.pool.worker_main import _nicely


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_work_is_done_at_a_low_priority_and_leaves_the_caller_its_own():
    before = niceness()
    assert _nicely(19, niceness) == 19
    assert niceness() == before


def test_who_is_nicer_already_stays_so():
    assert _nicely(12, lambda: _nicely(3, niceness)) == 12


def test_an_error_comes_back():
    with pytest.raises(ZeroDivisionError):
        _nicely(19, lambda: 1 / 0)
