"""What open pages cost: their live panels against an app that nobody looks at.

Four streams ask a demo model without a pause, with ten pages open (two of each kind) and with none, by
turns; `throughput_ratio` is tokens per second with pages over those without, the median of pairs of turns.
`ms_per_s` is what one of the ten costs: processor time of the app per second, with pages less without, over
ten; `ms_per_s_…_alone` are what a single page of a kind adds, which has its frames made for it alone. The
pages are read by another process (`benchmarks/open_pages.py`), whose own time takes part of the machine.

`largest_frame_bytes` is the largest frame of all: of the pages that were open, and of a made-up pool of
100,000 blocks, all held, by requests far apart.
"""

import asyncio
import contextlib
import itertools
import json
import os
import statistics
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.asking import timed_answer, until
from benchmarks.load import Sample, closed_loop
from benchmarks.open_pages import open_pages
from benchmarks.report import Figures, parser, publish
from tests.made_up_kv import full
from workbench.server import PageServer, bind, build_app
from workbench.service import Workbench
from workbench.telemetry.logs import configure_logs
from workbench.ui.render import kv_frame
from workbench.values import KvCacheView, SamplingOptions

MODEL = "storyteller"
KINDS = ("chat", "kv", "latency", "pool", "models")
PAGES = KINDS * 2
STREAMS = 4
REQUESTS = 32
OPTIONS = SamplingOptions(temperature=0, max_tokens=128)
HEROES = ("fox", "bear", "cat", "dog", "hen", "owl", "frog", "wolf", "duck", "lion", "mole", "crab")
BLOCKS = 100_000
HOLDERS = 256


@dataclass(frozen=True, slots=True)
class Turn:
    """The load once."""

    tokens_per_s: float
    app_ms_per_s: float
    """Processor time of the app."""
    largest_frame_bytes: int = 0


@contextlib.asynccontextmanager
async def served(workbench: Workbench) -> AsyncIterator[str]:
    """The page of a workbench on a free port; yields its address."""
    server = PageServer(build_app(workbench), bind("127.0.0.1", 0))
    running = asyncio.create_task(server.run_until_stopped())
    await server.wait_started()
    try:
        yield server.url
    finally:
        server.stop()
        await running


async def load(workbench: Workbench, numbers: Iterator[int]) -> Turn:
    """Ask and measure."""

    async def answer(prompt: str) -> Sample:
        timed = await timed_answer(workbench, MODEL, prompt, OPTIONS)
        return Sample.of(
            timed.first_at - timed.asked_at, timed.last_at - timed.asked_at, timed.stats.completion_tokens
        )

    heroes = itertools.islice(itertools.cycle(HEROES), REQUESTS)
    prompts = [f"Tell me a story about a {hero}, number {next(numbers)}" for hero in heroes]
    before = _cpu_s()
    loaded = await closed_loop(answer, prompts, STREAMS)
    return Turn(loaded.tokens_per_s, 1000 * (_cpu_s() - before) / loaded.seconds)


def _cpu_s() -> float:
    times = psutil.Process(os.getpid()).cpu_times()
    return times.user + times.system


async def looked_at(workbench: Workbench, url: str, pages: Sequence[str], numbers: Iterator[int]) -> Turn:
    """The load while pages are open."""
    async with open_pages(url, pages) as seen:
        turn = await load(workbench, numbers)
    return Turn(turn.tokens_per_s, turn.app_ms_per_s, seen.largest_frame_bytes)


async def measure(rounds: int) -> Figures:
    """Figures of pairs of turns; a round before them warms everything up."""
    numbers = itertools.count(1)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as data:
        async with Workbench(data_dir=Path(data)) as workbench, served(workbench) as url:
            await until(lambda: workbench.pool().warm)
            await workbench.load(MODEL)
            await until(lambda: all(worker.state != "starting" for worker in workbench.pool().workers))
            await looked_at(workbench, url, PAGES, numbers)
            pairs = []
            for number in range(rounds):
                if number % 2:
                    with_pages = await looked_at(workbench, url, PAGES, numbers)
                    without = await load(workbench, numbers)
                else:
                    without = await load(workbench, numbers)
                    with_pages = await looked_at(workbench, url, PAGES, numbers)
                pairs.append((with_pages, without))
            alone = {kind: await looked_at(workbench, url, [kind], numbers) for kind in KINDS}
    return figures_of(pairs, alone)


def figures_of(pairs: Sequence[tuple[Turn, Turn]], alone: dict[str, Turn]) -> Figures:
    """Medians of pairs of (with pages, without), and what a single page of each kind costs."""
    ratios = [with_pages.tokens_per_s / without.tokens_per_s for with_pages, without in pairs]
    costs = [(with_pages.app_ms_per_s - without.app_ms_per_s) / len(PAGES) for with_pages, without in pairs]
    idle = statistics.median(without.app_ms_per_s for _, without in pairs)
    figures: Figures = {
        "throughput_ratio": round(statistics.median(ratios), 4),
        "throughput_ratio_all": [round(ratio, 4) for ratio in ratios],
        "tokens_per_s": round(statistics.median(without.tokens_per_s for _, without in pairs), 1),
        "ms_per_s": round(statistics.median(costs), 2),
        "ms_per_s_all": [round(cost, 2) for cost in costs],
    }
    for kind, turn in alone.items():
        figures[f"ms_per_s_{kind}_alone"] = round(turn.app_ms_per_s - idle, 2)
    made_up = synthetic_frame_bytes()
    seen = [turn.largest_frame_bytes for turn, _ in pairs] + [
        turn.largest_frame_bytes for turn in alone.values()
    ]
    figures["largest_frame_bytes"] = max(made_up, *seen)
    figures["synthetic_frame_bytes"] = made_up
    return figures


def synthetic_frame_bytes() -> int:
    """Bytes of the frame of a pool of `BLOCKS` blocks."""
    view = KvCacheView("made-up", full(BLOCKS, HOLDERS))
    return len(json.dumps(kv_frame.frame({}, Workbench().pool(), [view])).encode())


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=6, help="pairs of turns")
    options = arguments.parse_args()
    configure_logs("warning", as_json=False)  # to standard error
    publish(asyncio.run(measure(options.rounds)), options.json)


if __name__ == "__main__":
    main()
