"""A bursty trace over six models where two fit: what the pool's policy makes of it.

Six catalog entries, two of each demo model, are asked for in bursts (`benchmarks/traces.py`). The trace is
played twice through the service, each request at its time whether or not earlier ones were answered: once
under the pool's own policy, which groups requests by model, and once under plain first come, first served
(`benchmarks/first_come.py`).

The trace is paced by what requests are measured to cost first, one at a time: it lasts as long as serving
its requests one after the other, in order, takes. So on average first come, first served could just keep up,
but falls behind in every burst, while grouping needs about half as many switches and answers requests for
one model together. TTFT counts from a request's time in the trace. `serving_share` is the share of the time
with any request there, waiting or being answered, in which at least one was being answered.

`best_order_mean_s` is the least mean TTFT of any order of loads, found with the whole trace known, for the
measured mean costs and without what loads and answers cost one another (`benchmarks/best_order.py`).

The bound on a wait: after `fairness_wait`, no newcomer joins a busy model whose place the request needs, so
that place is free once the answers under way are complete. Requests for each of the other models may be
ahead, once each, as what is asked for later comes later. So no request waits longer than `fairness_wait`
plus, for each model, the longest answer, eviction and load.
"""

import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.asking import TimedAnswer, pool_at_rest, timed_answer, until
from benchmarks.best_order import best_waits
from benchmarks.first_come import first_come
from benchmarks.report import Figures, parser, percentile, publish
from benchmarks.traces import Arrival, bursty_trace, in_order_s, misses_in_order, paced
from workbench.pool.policy import Plan, PoolView
from workbench.service import Workbench
from workbench.telemetry.logs import configure_logs
from workbench.values import SamplingOptions

DEMO = Path("data/demo")
MODELS = ("adder-1", "counter-1", "storyteller-1", "adder-2", "counter-2", "storyteller-2")
"""The most popular first; each name begins with the demo model it is a copy of."""
PLACES = 2
KV_CACHE_BYTES = 64 << 20
BUDGET_BYTES = 140 << 20
"""Holds PLACES of the models."""
WORKERS = 3
"""One more than places, so that a model can be loaded while another is cleaned up after."""
CALIBRATION_ROUNDS = 3
GREEDY = SamplingOptions(temperature=0, max_tokens=16)
ALL_SWAPS = 1_000_000


class PolicyTrial(Workbench):
    """A Workbench whose policy can be exchanged while it runs."""

    def use_policy(self, decide: Callable[[PoolView], Plan]) -> None:
        """Ask `decide` from now on."""
        assert self._controller is not None
        self._controller._decide = decide


@dataclass(frozen=True, slots=True)
class Costs:
    """What single requests were measured to cost, in seconds."""

    switch_s: float
    """Mean of what a switch adds to the time to first token."""
    warm_ttft_s: float
    eviction_s: float
    """The longest wait for room."""
    service_s: dict[str, float]
    """By model: mean time of an answer once its model serves."""


@dataclass(frozen=True, slots=True)
class Played:
    """One request of the trace, in seconds since its beginning."""

    at: float
    first_at: float
    ended_at: float

    @property
    def ttft_s(self) -> float:
        return self.first_at - self.at


def question(model: str, chance: random.Random) -> str:
    """Something that the demo model behind `model` can answer."""
    kind = model.partition("-")[0]
    if kind == "adder":
        return f"{chance.randrange(10, 100)} + {chance.randrange(10, 100)}"
    if kind == "counter":
        start = chance.randrange(1, 60)
        return f"Count from {start} to {start + 10}"
    return f"Tell me a story about a {chance.choice(('fox', 'bear', 'cat', 'dog', 'hen', 'owl'))}"


async def calibrate(workbench: Workbench) -> Costs:
    """Ask for one model after the other, so that each has to be loaded, and once more for each."""
    chance = random.Random(0)
    switched: list[TimedAnswer] = []
    warm: dict[str, list[TimedAnswer]] = {model: [] for model in MODELS}
    for turn in range(CALIBRATION_ROUNDS + 1):
        for model in MODELS:
            first = await timed_answer(workbench, model, question(model, chance), GREEDY)
            again = await timed_answer(workbench, model, question(model, chance), GREEDY)
            if not first.stats.switch_s or again.stats.switch_s:
                raise RuntimeError(
                    f"{model} was on the device when it should not be, or the other way round."
                )
            if turn:  # the first round warms caches up
                switched.append(first)
                warm[model].append(again)
    warm_ttft_s = statistics.mean(ttft_s(answer) for answers in warm.values() for answer in answers)
    swaps = workbench.catalog.recent_swaps(CALIBRATION_ROUNDS * len(MODELS))
    return Costs(
        switch_s=statistics.mean(map(ttft_s, switched)) - warm_ttft_s,
        warm_ttft_s=warm_ttft_s,
        eviction_s=max(swap.wait_s for swap in swaps),
        service_s={
            model: statistics.mean(answer.last_at - answer.asked_at for answer in answers)
            for model, answers in warm.items()
        },
    )


def ttft_s(answer: TimedAnswer) -> float:
    """Seconds from asking to the first text."""
    return answer.first_at - answer.asked_at


async def play(workbench: Workbench, trace: Sequence[Arrival]) -> list[Played]:
    """Send each request at its time."""
    chance = random.Random(0)
    questions = [question(arrival.model, chance) for arrival in trace]
    began = time.perf_counter()

    async def send(arrival: Arrival, text: str) -> Played:
        await asyncio.sleep(began + arrival.at - time.perf_counter())
        answer = await timed_answer(workbench, arrival.model, text, GREEDY)
        return Played(arrival.at, answer.first_at - began, answer.last_at - began)

    return await asyncio.gather(*map(send, trace, questions))


def serving_share(played: Sequence[Played]) -> float:
    """Share of the time with requests there in which at least one was being answered."""
    answering = _covered([(request.first_at, request.ended_at) for request in played])
    return answering / _covered([(request.at, request.ended_at) for request in played])


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Length of the union of the spans."""
    covered, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return covered


def figures_of(prefix: str, played: Sequence[Played], switches: int) -> Figures:
    """What one play of the trace came to."""
    ttfts = [request.ttft_s for request in played]
    return {
        f"{prefix}ttft_mean_s": round(statistics.mean(ttfts), 3),
        f"{prefix}ttft_p50_s": round(statistics.median(ttfts), 3),
        f"{prefix}ttft_p95_s": round(percentile(ttfts, 0.95), 3),
        f"{prefix}longest_wait_s": round(max(ttfts), 3),
        f"{prefix}switches": switches,
        f"{prefix}serving_share": round(serving_share(played), 3),
    }


async def play_under(workbench: Workbench, trace: Sequence[Arrival]) -> tuple[list[Played], int, float]:
    """(what became of the requests, switches, seconds of the longest load) under the present policy."""
    await pool_at_rest(workbench)
    before = len(workbench.catalog.recent_swaps(ALL_SWAPS))
    played = await play(workbench, trace)
    await pool_at_rest(workbench)
    swaps = workbench.catalog.recent_swaps(ALL_SWAPS)
    swaps = swaps[: len(swaps) - before]
    return played, len(swaps), max(swap.total_s - swap.wait_s for swap in swaps)


async def measure(requests: int, seed: int) -> Figures:
    """Figures of both policies on one trace."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        data = Path(folder)
        async with PolicyTrial(
            data_dir=data,
            memory_budget=BUDGET_BYTES,
            kv_cache_bytes=KV_CACHE_BYTES,
            max_workers=WORKERS,
            max_queued=requests,
        ) as workbench:
            for model in MODELS:
                shutil.copytree(DEMO / model.partition("-")[0], data / model)
                await workbench.add_local_model(data / model, model)
            await workbench.warm_engine()
            await until(lambda: workbench.pool().warm)
            costs = await calibrate(workbench)
            trace = bursty_trace(MODELS, requests, seed)
            trace = paced(trace, in_order_s(trace, PLACES, costs.switch_s, costs.service_s))
            grouped, switches, longest_load_s = await play_under(workbench, trace)
            workbench.use_policy(first_come)
            in_order, switches_in_order, _ = await play_under(workbench, trace)
            fairness_wait = workbench.settings.fairness_wait
    figures: Figures = {
        "requests": requests,
        "duration_s": round(trace[-1].at, 1),
        "switch_s": round(costs.switch_s, 4),
        "service_s": round(statistics.mean(costs.service_s.values()), 4),
        "warm_ttft_s": round(costs.warm_ttft_s, 4),
        "misses_in_order": misses_in_order([arrival.model for arrival in trace], PLACES),
    }
    figures |= figures_of("", grouped, switches) | figures_of("first_come_", in_order, switches_in_order)
    figures |= compare(figures, trace, costs)
    longest_answer_s = max(request.ended_at - request.first_at for request in grouped)
    bound_s = fairness_wait + len(MODELS) * (longest_answer_s + costs.eviction_s + longest_load_s)
    figures["wait_bound_s"] = round(bound_s, 3)
    figures["wait_bound_holds"] = float(str(figures["longest_wait_s"])) <= bound_s
    return figures


def compare(figures: Figures, trace: Sequence[Arrival], costs: Costs) -> Figures:
    """How far the policy is from first come, first served, and from the best order."""
    best = [wait + costs.warm_ttft_s for wait in best_waits(trace, PLACES, costs.switch_s, costs.service_s)]
    p95_s, mean_s = float(str(figures["ttft_p95_s"])), float(str(figures["ttft_mean_s"]))
    return {
        "p95_speedup": round(float(str(figures["first_come_ttft_p95_s"])) / p95_s, 2),
        "best_order_mean_s": round(statistics.mean(best), 3),
        "best_order_p95_s": round(percentile(best, 0.95), 3),
        "mean_over_best_order": round(mean_s / statistics.mean(best), 2),
    }


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--requests", type=int, default=240)
    arguments.add_argument("--seed", type=int, default=1, help="another one, another trace")
    options = arguments.parse_args()
    configure_logs("warning", as_json=False)  # to standard error
    publish(asyncio.run(measure(options.requests, options.seed)), options.json)


if __name__ == "__main__":
    main()
