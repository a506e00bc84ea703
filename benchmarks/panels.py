"""What open pages cost: their live panels against an app that nobody looks at.

Four streams ask a demo model without end. By turns ten pages are open (two of each kind) or none, a few
seconds each, over and over; neighbouring turns make a pair, and every other pair begins with the pages, so
that what drifts, drifts for both. `throughput_ratio` is tokens per second with pages over those without, the
median of the pairs; half of them lie in `throughput_ratio_spread`, and `throughput_ratio_error` is what the
median may be beside the truth (its standard error).

`ms_per_s` is what one of the ten costs: processor time of the app per second with pages, less what the same
tokens cost without, over ten. `ms_per_s_…_alone` are what a single page of a kind adds, which has its frames
made for it alone. That is less than the app's time for four streams differs by from turn to turn; so it is
measured while one short answer follows another, which changes what pages show just as often.

The pages are read by another process (`benchmarks/open_pages.py`); real ones are read by other machines,
while this one's time, `reader_ms_per_s`, is lost to the engine and so is in the ratio.

`largest_frame_bytes` is the largest frame of all: of the pages that were open, and of a made-up pool of
100,000 blocks, all held, by requests far apart.
"""

import asyncio
import contextlib
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.asking import until
from benchmarks.open_pages import Seen, open_pages
from benchmarks.report import Figures, parser, percentile, publish
from tests.made_up_kv import full
from workbench.server import PageServer, bind, build_app
from workbench.service import Workbench
from workbench.telemetry.logs import configure_logs
from workbench.ui.render import kv_frame
from workbench.values import KvCacheView, SamplingOptions, Token

MODEL = "storyteller"
KINDS = ("chat", "kv", "latency", "pool", "models")
PAGES = KINDS * 2
HEROES = ("fox", "bear", "cat", "dog", "hen", "owl", "frog", "wolf", "duck", "lion", "mole", "crab")
TURN_S = 5.0
SETTLE_S = 1.0
"""After pages have been opened or closed, before a turn begins."""
MEDIAN_ERROR = 1.2533
"""Standard error of a median over that of a mean."""
BLOCKS = 100_000
HOLDERS = 256


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is asked."""

    streams: int
    max_tokens: int
    pause_s: float = 0.0
    """After each answer."""


FULL = Pace(streams=4, max_tokens=128)
LIGHT = Pace(streams=1, max_tokens=16, pause_s=0.3)


@dataclass(frozen=True, slots=True)
class Turn:
    """Some seconds of the load."""

    tokens_per_s: float
    app_ms_per_s: float
    """Processor time of the app."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two neighbouring turns."""

    looked_at: Turn
    alone: Turn
    seen: Seen
    """What the pages were sent meanwhile."""

    @property
    def ratio(self) -> float:
        """Tokens per second with pages over those without."""
        return self.looked_at.tokens_per_s / self.alone.tokens_per_s

    @property
    def ms_per_s(self) -> float:
        """Processor time of the app for all pages together."""
        return self.looked_at.app_ms_per_s - self.ratio * self.alone.app_ms_per_s


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


class Load:
    """Streams that ask again as soon as they are answered, as long as the context lasts."""

    def __init__(self, workbench: Workbench, pace: Pace) -> None:
        self._workbench = workbench
        self._pace = pace
        self._prompts = (
            f"Tell me a story about a {hero}, number {number}"
            for number, hero in enumerate(itertools.cycle(HEROES))
        )
        self._tokens = 0
        self._streams: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Load":
        self._streams = [asyncio.create_task(self._ask()) for _ in range(self._pace.streams)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for stream in self._streams:
            stream.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)

    async def _ask(self) -> None:
        options = SamplingOptions(temperature=0, max_tokens=self._pace.max_tokens)
        for prompt in self._prompts:
            before = 0
            async with contextlib.aclosing(self._workbench.chat(MODEL, prompt, options=options)) as events:
                async for event in events:
                    if isinstance(event, Token):
                        self._tokens += event.token_count - before
                        before = event.token_count
            await asyncio.sleep(self._pace.pause_s)

    async def turn(self) -> Turn:
        """What is got and spent in `TURN_S` from now on.

        Raises:
            WorkbenchError: a request failed.
        """
        await asyncio.sleep(SETTLE_S)
        tokens, began, busy = self._tokens, time.perf_counter(), time.process_time()
        done, _ = await asyncio.wait(self._streams, timeout=TURN_S, return_when=asyncio.FIRST_COMPLETED)
        for stream in done:
            stream.result()
        seconds = time.perf_counter() - began
        return Turn((self._tokens - tokens) / seconds, 1000 * (time.process_time() - busy) / seconds)


async def pairs(load: Load, url: str, pages: Sequence[str], count: int) -> list[Pair]:
    """Turns with pages and without, alternately."""
    found = []
    for number in range(count):
        alone = None if number % 2 else await load.turn()
        async with open_pages(url, pages) as seen:
            looked_at = await load.turn()
        found.append(Pair(looked_at, alone or await load.turn(), seen))
    return found


async def measure(rounds: int, rounds_alone: int) -> Figures:
    """Figures of pairs of turns; one before them warms everything up."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as data:
        async with Workbench(data_dir=Path(data)) as workbench, served(workbench) as url:
            await until(lambda: workbench.pool().warm)
            await workbench.load(MODEL)
            await until(lambda: all(worker.state != "starting" for worker in workbench.pool().workers))
            async with Load(workbench, FULL) as load:
                await pairs(load, url, PAGES, 1)
                together = await pairs(load, url, PAGES, rounds)
            async with Load(workbench, LIGHT) as load:
                alone = {kind: await pairs(load, url, [kind], rounds_alone) for kind in KINDS}
    return figures_of(together, alone)


def figures_of(together: Sequence[Pair], alone: dict[str, list[Pair]]) -> Figures:
    """Medians of pairs with all pages open, and of those with a single one by its kind."""
    ratios = [pair.ratio for pair in together]
    costs = [pair.ms_per_s / len(PAGES) for pair in together]
    figures: Figures = {
        "throughput_ratio": round(statistics.median(ratios), 4),
        "throughput_ratio_spread": [round(percentile(ratios, share), 4) for share in (0.25, 0.75)],
        "throughput_ratio_error": round(MEDIAN_ERROR * statistics.stdev(ratios) / len(ratios) ** 0.5, 4),
        "throughput_ratio_all": [round(ratio, 4) for ratio in ratios],
        "tokens_per_s": round(statistics.median(pair.alone.tokens_per_s for pair in together), 1),
        "ms_per_s": round(statistics.median(costs), 2),
        "ms_per_s_all": [round(cost, 2) for cost in costs],
        "reader_ms_per_s": round(statistics.median(pair.seen.reader_ms_per_s for pair in together), 2),
    }
    for kind, found in alone.items():
        figures[f"ms_per_s_{kind}_alone"] = round(statistics.median(pair.ms_per_s for pair in found), 2)
    made_up = synthetic_frame_bytes()
    seen = [pair.seen.largest_frame_bytes for pair in itertools.chain(together, *alone.values())]
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
    arguments.add_argument("--rounds", type=int, default=24, help="pairs of turns with all pages")
    arguments.add_argument("--rounds-alone", type=int, default=4, help="pairs of turns for each kind of page")
    options = arguments.parse_args()
    configure_logs("warning", as_json=False)  # to standard error
    publish(asyncio.run(measure(options.rounds, options.rounds_alone)), options.json)


if __name__ == "__main__":
    main()
