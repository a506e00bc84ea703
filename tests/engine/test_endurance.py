"""Fifty switches: the same answers, and no growth."""

import asyncio
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.engine.helpers import ask, until, worker_of
from workbench.values import SamplingOptions

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

QUESTIONS = {
    "adder": "38 + 47",
    "counter": "Count from 7 to 31",
    "storyteller": "Tell me a story about a fox",
}
"""One model more than workers, so that each worker comes to serve each model."""
SHORT = SamplingOptions(temperature=0, max_tokens=16)
SETTLE = 10
"""Switches, at least, until caches are full."""
RSS_SLACK = 16 << 20
RETURN_S = 30
"""Time for what ended work has given back late: a socket that lingers, a thread on its way out."""


@dataclass(frozen=True)
class Usage:
    """What a process holds: threads by name, descriptors by what they lead to."""

    rss: int
    threads: Counter[str]
    descriptors: Counter[str]

    @classmethod
    def of(cls, pid: int) -> "Usage":
        folder = Path(f"/proc/{pid}")
        threads, descriptors = Counter[str](), Counter[str]()
        for thread in (folder / "task").iterdir():
            with suppress(OSError):  # it has just ended
                threads[(thread / "comm").read_text().strip()] += 1
        for descriptor in (folder / "fd").iterdir():
            with suppress(OSError):
                descriptors[re.sub(r"\[\d+\]", "", str(descriptor.readlink()))] += 1
        return cls(psutil.Process(pid).memory_info().rss, threads, descriptors)

    def beyond(self, earlier: "Usage") -> Iterator[str]:
        """What is more than it was earlier, in words."""
        for what in ("threads", "descriptors"):
            now, then = getattr(self, what), getattr(earlier, what)
            if now.total() > then.total():
                yield f"{now.total()} {what} instead of {then.total()}, more of {dict(now - then)}"


@pytest.mark.timeout(600)
async def test_fifty_switches_leave_everything_as_it_was(workbench):
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.1) for _ in range(8)))  # all threads of its pool
    await ask(workbench, "storyteller", QUESTIONS["storyteller"], options=SHORT)  # not the first below
    await until(lambda: all(worker.state != "starting" for worker in workbench.pool().workers))
    expected: dict[str, str] = {}
    served: set[tuple[int, str]] = set()
    before: dict[int, Usage] = {}
    for switch in range(50):
        model = list(QUESTIONS)[switch % len(QUESTIONS)]
        answer = await ask(workbench, model, QUESTIONS[model], options=SHORT)
        assert answer.stats.switch_s > 0
        assert answer.text == expected.setdefault(model, answer.text)
        served.add((worker_of(workbench, model).pid, model))
        workers = workbench.pool().workers
        if not before and switch >= SETTLE and len(served) == len(workers) * len(QUESTIONS):
            before = await settled_usage(workbench)
    assert before, f"not every worker has served every model: {served}"
    after = await settled_usage(workbench)
    assert after.keys() == before.keys(), "a worker was replaced"
    with suppress(TimeoutError):
        await until(lambda: not growth(before, usage(workbench)), RETURN_S)
    assert growth(before, usage(workbench)) == []
    assert all(after[pid].rss - before[pid].rss < RSS_SLACK for pid in after)


def usage(workbench) -> dict[int, Usage]:
    """Usage of the app and each worker, by process."""
    return {pid: Usage.of(pid) for pid in [os.getpid(), *(w.pid for w in workbench.pool().workers)]}


def growth(before: dict[int, Usage], after: dict[int, Usage]) -> list[str]:
    """Which process holds more than before, and of what."""
    names = {pid: "the app" if pid == os.getpid() else f"worker {pid}" for pid in after}
    return [f"{names[pid]} has {more}" for pid in after for more in after[pid].beyond(before[pid])]


async def settled_usage(workbench) -> dict[int, Usage]:
    """Usage with no model loaded, the last unload cleaned up, and nothing given back since the last look."""
    for runner in workbench.pool().runners:
        await workbench.unload(runner.model)
    seen: dict[int, Usage] = {}

    def settled() -> bool:
        nonlocal seen
        earlier, seen = seen, usage(workbench)
        pool = workbench.pool()
        return (
            not pool.runners
            and all(worker.state == "warm" for worker in pool.workers)
            and not any(thread.name == "dispose" for thread in threading.enumerate())
            and earlier.keys() == seen.keys()
            and not growth(seen, earlier)
        )

    await until(settled)
    return seen
