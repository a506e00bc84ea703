"""Many switches, one after the other: the same answers and no growth.

The three demo models and a mid-size one (287 million random weights) take turns, in a random order in which
every request needs a switch: two workers hold at most two demo models or the mid-size one. Each greedy
answer is compared with the model's first (`identical_output`).

What the app and its workers hold together is read twice, both times with no model loaded, every worker warm
and nothing going on: after `SETTLING` switches, by when all workers have started and all models are prepared,
and at the end. The difference is the growth: resident memory, threads, descriptors, and segments of shared
memory on the whole machine. Resident memory counts the maps of prepared weights that workers keep, which are
page cache; private memory doesn't. No worker may be replaced in between: that is an error, and the limit at
which Workbench does so for age is lifted.

`switch_start_…` and `switch_end_…` are times from request to first text in the first and last fifth of the
switches between the readings: a drift would show there.
"""

import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.asking import pool_at_rest, timed_answer, until
from benchmarks.footprint import Footprint, footprint, settled
from benchmarks.random_models import random_model
from benchmarks.report import Figures, parser, percentile, publish
from workbench.service import Workbench
from workbench.telemetry.logs import configure_logs
from workbench.values import SamplingOptions

QUESTIONS = {
    "adder": "38 + 47",
    "counter": "Count from 7 to 31",
    "storyteller": "Tell me a story about a fox",
    "mid": "What is there to see in a small town by the sea?",
}
GREEDY = SamplingOptions(temperature=0, max_tokens=16)
KV_CACHE_BYTES = 64 << 20
BUDGET_BYTES = 650 << 20
"""Holds the mid-size model, or all demo models; not both."""
WORKERS = 2
SETTLING = 20
APP_THREADS = 32
"""As many as asyncio's own pool of threads can have, or more."""


@dataclass
class Course:
    """What happened on the way."""

    first_answers: dict[str, str] = field(default_factory=dict)
    different_answers: int = 0
    switches_s: list[float] = field(default_factory=list)


def turns(models: Sequence[str], seed: int) -> Iterator[str]:
    """Models without end, in random order: all of them once, then all again, none within two of its last."""
    chance = random.Random(seed)
    last: tuple[str, ...] = ()
    while True:
        order = chance.sample(models, len(models))
        if set(order[:1]) & set(last) or set(order[:2]) & set(last[-1:]):
            continue
        yield from order
        last = tuple(order[-2:])


async def switch(workbench: Workbench, model: str, course: Course) -> None:
    """One request that needs a switch.

    Raises:
        RuntimeError: it needed none.
    """
    answer = await timed_answer(workbench, model, QUESTIONS[model], GREEDY)
    if not answer.stats.switch_s:
        raise RuntimeError(f"{model} was on the device when it should not be.")
    course.switches_s.append(answer.first_at - answer.asked_at)
    course.different_answers += answer.text != course.first_answers.setdefault(model, answer.text)


async def settle(workbench: Workbench, order: Iterator[str], course: Course) -> None:
    """Have every thread of the app and every worker there, and every cache filled."""
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.05) for _ in range(APP_THREADS)))
    for number in range(SETTLING):
        await switch(workbench, next(order), course)
        if number == 0:
            await until(lambda: _warm(workbench) == WORKERS - 1)
        if number < len(QUESTIONS):  # each model's first
            await _prepared(workbench, number + 1)


def _warm(workbench: Workbench) -> int:
    return sum(worker.state == "warm" for worker in workbench.pool().workers)


async def _prepared(workbench: Workbench, count: int) -> None:
    """Wait until so many models are prepared."""
    await until(lambda: len(list(workbench.settings.prepared_dir.glob("*.json"))) >= count)


@dataclass(frozen=True, slots=True)
class Reading:
    """The pool at rest."""

    workers: dict[str, int]
    """Process of each worker."""
    app_rss_bytes: int
    together: Footprint
    """What the app and all workers hold."""


async def read(workbench: Workbench) -> Reading:
    """Bring the pool to rest and read what it holds."""
    await pool_at_rest(workbench)
    workers = {worker.id: worker.pid for worker in workbench.pool().workers if worker.pid is not None}
    together = await settled(lambda: footprint([os.getpid(), *workers.values()]))
    return Reading(workers, footprint([os.getpid()]).rss_bytes, together)


def growth(before: Reading, after: Reading) -> Figures:
    """What is there now that was not there before; less than 0 where there is less.

    Raises:
        RuntimeError: a worker was replaced, so that nothing can be compared.
    """
    if before.workers != after.workers:
        raise RuntimeError(f"A worker was replaced: there were {before.workers}, there are {after.workers}.")
    return {
        "rss_growth_mb": _mb(after.together.rss_bytes - before.together.rss_bytes),
        "private_growth_mb": _mb(after.together.private_bytes - before.together.private_bytes),
        "app_rss_growth_mb": _mb(after.app_rss_bytes - before.app_rss_bytes),
        "threads_growth": after.together.threads - before.together.threads,
        "fds_growth": after.together.descriptors - before.together.descriptors,
        "shm_growth": len(after.together.shared_memory) - len(before.together.shared_memory),
    }


def _mb(count: int) -> float:
    return round(count / (1 << 20), 1)


def drift(switches_s: Sequence[float]) -> Figures:
    """Median and 95th percentile of the first and the last fifth."""
    fifth = max(1, len(switches_s) // 5)
    return {
        f"switch_{name}_{figure}_s": round(value, 4)
        for name, part in (("start", switches_s[:fifth]), ("end", switches_s[-fifth:]))
        for figure, value in (("p50", statistics.median(part)), ("p95", percentile(part, 0.95)))
    }


async def measure(count: int, seed: int) -> Figures:
    """Figures of `count` switches after those that settle the pool."""
    mid = await asyncio.to_thread(random_model, "mid")
    course, order = Course(), turns(list(QUESTIONS), seed)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as data:
        async with Workbench(
            data_dir=Path(data),
            model_roots=(mid.parent,),
            memory_budget=BUDGET_BYTES,
            kv_cache_bytes=KV_CACHE_BYTES,
            max_workers=WORKERS,
            worker_max_swaps=10 * (count + SETTLING),
        ) as workbench:
            await workbench.add_local_model(mid, "mid")
            await workbench.warm_engine()
            await until(lambda: workbench.pool().warm)
            await settle(workbench, order, course)
            before = await read(workbench)
            course.switches_s.clear()
            for _ in range(count):
                await switch(workbench, next(order), course)
            after = await read(workbench)
    return {
        "switches": count,
        **growth(before, after),
        "rss_mb": _mb(after.together.rss_bytes),
        "identical_output": not course.different_answers,
        **drift(course.switches_s),
    }


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--switches", type=int, default=500, help="after those that settle the pool")
    arguments.add_argument("--seed", type=int, default=1, help="another one, another order")
    options = arguments.parse_args()
    configure_logs("warning", as_json=False)  # to standard error
    publish(asyncio.run(measure(options.switches, options.seed)), options.json)


if __name__ == "__main__":
    main()
