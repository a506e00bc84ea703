"""Fifty switches: the same answers, and no growth."""

import asyncio
import os
import threading
import time

import psutil
import pytest

from tests.engine.helpers import ask, start_workbench, until

pytestmark = pytest.mark.engine

QUESTIONS = {"adder": "38 + 47", "counter": "Count from 7 to 31"}
SETTLE = 10
"""Switches until caches of both sides are full."""
RSS_SLACK = 16 << 20


def usage(pid: int) -> tuple[int, int, int]:
    """(resident bytes, threads, descriptors) of a process."""
    process = psutil.Process(pid)
    return process.memory_info().rss, process.num_threads(), process.num_fds()


@pytest.mark.timeout(300)
async def test_fifty_switches_leave_everything_as_it_was(tmp_path):
    async with start_workbench(tmp_path, memory_budget=100 << 20) as workbench:
        await asyncio.gather(
            *(asyncio.to_thread(time.sleep, 0.1) for _ in range(8))
        )  # all threads of its pool
        await ask(workbench, "counter", QUESTIONS["counter"])
        await until(lambda: any(worker.state == "warm" for worker in workbench.pool().workers))
        expected: dict[str, str] = {}
        before: dict[int, tuple[int, int, int]] = {}
        for switch in range(50):
            model = list(QUESTIONS)[switch % 2]
            answer = await ask(workbench, model, QUESTIONS[model])
            assert answer.stats.switch_s > 0
            assert answer.text == expected.setdefault(model, answer.text)
            if not before and switch >= SETTLE and all(w.swaps > 1 for w in workbench.pool().workers):
                before = await settled_usage(workbench)
        after = await settled_usage(workbench)
    assert after.keys() == before.keys(), "a worker was replaced, or never used"
    for pid, (rss, threads, descriptors) in after.items():
        assert threads <= before[pid][1]
        assert descriptors <= before[pid][2]
        assert rss - before[pid][0] < RSS_SLACK


async def settled_usage(workbench) -> dict[int, tuple[int, int, int]]:
    """Usage of the app and each worker, with no model loaded and the last unload cleaned up."""
    for runner in workbench.pool().runners:
        await workbench.unload(runner.model)
    await until(lambda: all(worker.state == "warm" for worker in workbench.pool().workers))
    await until(lambda: not any(thread.name == "dispose" for thread in threading.enumerate()))
    return {pid: usage(pid) for pid in [os.getpid(), *(w.pid for w in workbench.pool().workers)]}
