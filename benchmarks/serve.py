"""What Workbench costs once a model runs: against a stock vLLM server on the same model.

Both sides are warm and get the same greedy requests over HTTP with the same flags (eager, KV cache bytes,
context length), at 1, 8 and 32 concurrent streams, each of which asks again as soon as it is answered. They
take turns, and who begins changes from round to round; the processes of the idle side are stopped meanwhile,
because what they do while nothing is asked would slow the other down: left running on 2 cores, a stock server
takes up to half of one, Workbench up to 0.09. (Figures before 2026-11-22 are of that kind.) A ratio is
Workbench's figure over vLLM's in the same round; printed is the median of the rounds, and all of them.

Requests are sent and timed by the client of vLLM's own benchmark, for each side in a process of its own.
Workbench is run as its users run it: it asks for a key, logs JSON, and has its metrics scraped while it
answers.

The main figures are of a mid-size model (287 million random weights, answers of one length); those named
`tiny_…` are of a demo model, whose steps are so short that they show what either side spends around them,
and `traced_tiny_…` of the same with traces sent to a collector.
"""

import asyncio
import contextlib
import http.server
import itertools
import statistics
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.load import Loaded
from benchmarks.random_models import random_model
from benchmarks.report import Figures, parser, publish
from benchmarks.vllm_load import VllmLoad
from benchmarks.vllm_server import MODEL, vllm_server
from benchmarks.workbench_server import Address, serving

STREAMS = (1, 8, 32)
REQUESTS = {1: 4, 8: 16, 32: 32}
"""By the number of streams; in all streams together."""
DEMO = Path("data/demo")
CONTEXT_LENGTH = 2048
"""The models' own."""
SCRAPE_S = 5.0
SETTLE_S = 1.0
"""For what a side has to catch up with after it was stopped."""
HEROES = ("fox", "bear", "cat", "dog", "hen", "owl", "frog", "wolf", "duck", "lion", "mole", "crab")


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure with."""

    folder: Path
    kv_cache_bytes: int
    max_tokens: int
    prompt: str
    """With a place for a hero."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Both sides at one number of streams, one after the other."""

    workbench: Loaded
    vllm: Loaded


class Side:
    """A server, and the process that loads it."""

    def __init__(self, address: Address, load: VllmLoad) -> None:
        self._root = _listener_on(address.port)
        self._load = load

    async def answer(self, prompts: list[str], streams: int, max_tokens: int) -> Loaded:
        """Have all prompts answered, `streams` at a time."""
        return await self._load(prompts, streams, max_tokens)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Have none of its processes run meanwhile."""
        with contextlib.ExitStack() as stack:
            for process in [self._root, *self._root.children(recursive=True)]:
                stack.callback(process.resume)
                process.suspend()
            yield


class WorkbenchSide(Side):
    """Has its metrics scraped all the while."""

    def __init__(self, address: Address, load: VllmLoad) -> None:
        super().__init__(address, load)
        self._address = address

    async def answer(self, prompts: list[str], streams: int, max_tokens: int) -> Loaded:
        async with _scraped(self._address):
            return await super().answer(prompts, streams, max_tokens)


def _listener_on(port: int) -> psutil.Process:
    """The server that was told to listen on `port`."""
    return next(
        process for process in psutil.Process().children() if f"--port {port}" in " ".join(process.cmdline())
    )


class Contest:
    """A running Workbench and a running vLLM server with the same model."""

    def __init__(self, subject: Subject, workbench: Side, vllm: Side) -> None:
        self._subject = subject
        self._workbench = workbench
        self._vllm = vllm
        self._numbers = itertools.count(1)

    async def turn(self, streams: int, vllm_first: bool) -> Turn:
        """Load one side, then the other, with the same prompts."""
        heroes = itertools.islice(itertools.cycle(HEROES), REQUESTS[streams])
        prompts = [self._subject.prompt.format(hero=hero, number=next(self._numbers)) for hero in heroes]
        loaded = {}
        for is_vllm in (vllm_first, not vllm_first):
            busy, idle = (self._workbench, self._vllm)[:: -1 if is_vllm else 1]
            with idle.stopped():
                await asyncio.sleep(SETTLE_S)
                loaded[is_vllm] = await busy.answer(prompts, streams, self._subject.max_tokens)
        return Turn(loaded[False], loaded[True])


async def measure(subject: Subject, workbench: Address, vllm: Address, rounds: int) -> list[dict[int, Turn]]:
    """For each round, a turn at each number of streams; a round before them warms both sides up."""
    async with VllmLoad(workbench) as workbench_load, VllmLoad(vllm) as vllm_load:
        contest = Contest(subject, WorkbenchSide(workbench, workbench_load), Side(vllm, vllm_load))
        played = [
            {streams: await contest.turn(streams, bool(number % 2)) for streams in STREAMS}
            for number in range(rounds + 1)
        ]
    return played[1:]


@contextlib.asynccontextmanager
async def _scraped(workbench: Address) -> AsyncIterator[None]:
    """Have Workbench's metrics read as Prometheus does, only three times as often.

    Raises:
        httpx.HTTPError: they could not be read.
    """
    headers = {"Authorization": f"Bearer {workbench.key}"}
    async with httpx.AsyncClient(base_url=workbench.url, headers=headers, timeout=60) as client:

        async def scrape() -> None:
            while True:
                (await client.get("/metrics")).raise_for_status()
                await asyncio.sleep(SCRAPE_S)

        scraping = asyncio.create_task(scrape())
        try:
            yield
        finally:
            scraping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await scraping


@contextlib.contextmanager
def _collector() -> Iterator[str]:
    """The URL of an OTLP collector that takes traces and forgets them.

    Raises:
        RuntimeError: it was sent none.
    """
    taken = 0

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal taken
            taken += len(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
    if not taken:
        raise RuntimeError("No trace was sent, so that nothing can be said of tracing.")


def figures_of(prefix: str, rounds: Sequence[dict[int, Turn]]) -> Figures:
    """Ratios and absolute figures of one model, each the median of its rounds."""
    figures: Figures = {}
    for streams in rounds[0]:
        turns = [turns_of_round[streams] for turns_of_round in rounds]
        for name, ratios in (
            ("throughput", [turn.workbench.tokens_per_s / turn.vllm.tokens_per_s for turn in turns]),
            ("tpot", [turn.workbench.tpot_s / turn.vllm.tpot_s for turn in turns]),
        ):
            figures[f"{prefix}{name}_ratio_{streams}"] = round(statistics.median(ratios), 3)
            figures[f"{prefix}{name}_ratio_{streams}_all"] = [round(ratio, 3) for ratio in ratios]
        for side in ("workbench", "vllm"):
            loads = [getattr(turn, side) for turn in turns]
            for figure, digits in (("tokens_per_s", 1), ("ttft_s", 4), ("tpot_s", 5)):
                median = statistics.median(getattr(load, figure) for load in loads)
                figures[f"{prefix}{side}_{figure}_{streams}"] = round(median, digits)
    one_stream = [turns_of_round[1] for turns_of_round in rounds]
    added_s = [turn.workbench.ttft_s - turn.vllm.ttft_s for turn in one_stream]
    figures[f"{prefix}ttft_added_ms"] = round(1000 * statistics.median(added_s), 2)
    figures[f"{prefix}ttft_added_all_ms"] = [round(1000 * seconds, 2) for seconds in added_s]
    return figures


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=3, help="measured, after one discarded")
    arguments.add_argument("--only", choices=("mid", "tiny"), help="one of the models")
    options = arguments.parse_args()
    figures: Figures = {}
    if options.only != "tiny":
        prompt = "{number}. What does a {hero} do all day long?"
        mid = Subject(random_model("mid"), 512 << 20, 32, prompt)
        figures |= _figures_against_vllm(mid, options.rounds, ("",))
    if options.only != "mid":
        prompt = "Tell me a story about a {hero}"
        teller = Subject(DEMO / "storyteller", 64 << 20, 128, prompt)
        figures |= _figures_against_vllm(teller, options.rounds, ("tiny_", "traced_tiny_"))
    publish(figures, options.json)


def _figures_against_vllm(subject: Subject, rounds: int, prefixes: Sequence[str]) -> Figures:
    """Figures of one model, with a Workbench of its own for each prefix."""
    figures: Figures = {}
    with vllm_server(subject.folder, subject.kv_cache_bytes, CONTEXT_LENGTH) as client:
        vllm = Address(str(client.base_url), MODEL)
        for prefix in prefixes:
            with contextlib.ExitStack() as stack:
                endpoint = stack.enter_context(_collector()) if prefix.startswith("traced") else ""
                running = serving(subject.folder, subject.kv_cache_bytes, endpoint)
                workbench = stack.enter_context(running)
                played = asyncio.run(measure(subject, workbench, vllm, rounds))
            figures |= figures_of(prefix, played)
    return figures


if __name__ == "__main__":
    main()
