"""What Workbench costs once a model runs: against a stock vLLM server on the same model.

Both sides are warm and get the same greedy requests with the same flags (eager, KV cache bytes, context
length), at 1, 8 and 32 concurrent streams, each of which asks again as soon as it is answered. They take
turns, and who begins changes from round to round; the idle side is left running, and the most that it took
of a core is printed (`…_idle_share`). A ratio is Workbench's figure over vLLM's in the same round; printed
is the median of the rounds, and all of them.

The main figures are of a mid-size model (287 million random weights, answers of one length); those named
`tiny_…` are of a demo model, whose steps are so short that they show what either side spends around them.

The vLLM server is loaded over HTTP by the client of vLLM's own benchmark, in a process of its own. Workbench
has no HTTP API yet, so it is loaded through its service call, `Workbench.chat`, which also stores each
conversation in SQLite; there, the load necessarily comes from the app's own process. Once the API exists,
the same client can load both.
"""

import asyncio
import itertools
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.asking import timed_answer, until
from benchmarks.load import Loaded, Sample, closed_loop
from benchmarks.random_models import random_model
from benchmarks.report import Figures, parser, publish
from benchmarks.vllm_load import VllmLoad
from benchmarks.vllm_server import vllm_server
from workbench.service import Workbench
from workbench.telemetry.logs import configure_logs
from workbench.values import SamplingOptions

STREAMS = (1, 8, 32)
REQUESTS = {1: 2, 8: 16, 32: 32}
"""By the number of streams; in all streams together."""
DEMO = Path("data/demo")
CONTEXT_LENGTH = 2048
"""The models' own."""
HEROES = ("fox", "bear", "cat", "dog", "hen", "owl", "frog", "wolf", "duck", "lion", "mole", "crab")


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure with."""

    name: str
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
    workbench_idle_share: float
    """What it took of a core while the other was loaded."""
    vllm_idle_share: float


class Contest:
    """A running Workbench and a running vLLM server with the same model."""

    def __init__(self, subject: Subject, workbench: Workbench, vllm: VllmLoad) -> None:
        self._subject = subject
        self._workbench = workbench
        self._vllm = vllm
        self._numbers = itertools.count(1)

    async def turn(self, streams: int, vllm_first: bool) -> Turn:
        """Load one side, then the other, with the same prompts."""
        heroes = itertools.islice(itertools.cycle(HEROES), REQUESTS[streams])
        prompts = [self._subject.prompt.format(hero=hero, number=next(self._numbers)) for hero in heroes]
        loaded, idle_shares = {}, {}
        for is_vllm in (vllm_first, not vllm_first):
            idle = self._processes_of_workbench() if is_vllm else self._processes_of_vllm()
            before = _cpu_s(idle)
            load = self._load_vllm if is_vllm else self._load_workbench
            loaded[is_vllm] = await load(prompts, streams)
            idle_shares[not is_vllm] = (_cpu_s(idle) - before) / loaded[is_vllm].seconds
        return Turn(loaded[False], loaded[True], idle_shares[False], idle_shares[True])

    async def _load_workbench(self, prompts: list[str], streams: int) -> Loaded:
        options = SamplingOptions(temperature=0, max_tokens=self._subject.max_tokens)

        async def answer(prompt: str) -> Sample:
            timed = await timed_answer(self._workbench, self._subject.name, prompt, options)
            return Sample.of(
                timed.first_at - timed.asked_at, timed.last_at - timed.asked_at, timed.stats.completion_tokens
            )

        return await closed_loop(answer, prompts, streams)

    async def _load_vllm(self, prompts: list[str], streams: int) -> Loaded:
        return await self._vllm(prompts, streams, self._subject.max_tokens)

    def _processes_of_workbench(self) -> list[psutil.Process]:
        workers = [worker.pid for worker in self._workbench.pool().workers if worker.pid is not None]
        return [psutil.Process(pid) for pid in (os.getpid(), *workers)]

    def _processes_of_vllm(self) -> list[psutil.Process]:
        ours = [*self._processes_of_workbench(), psutil.Process(self._vllm.pid)]
        return [process for process in psutil.Process().children(recursive=True) if process not in ours]


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    """Seconds that the processes have run, all cores together."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


async def measure(subject: Subject, vllm_url: str, rounds: int) -> list[dict[int, Turn]]:
    """For each round, a turn at each number of streams; a round before them warms both sides up."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as data:
        async with Workbench(
            data_dir=Path(data), model_roots=(subject.folder.parent,), kv_cache_bytes=subject.kv_cache_bytes
        ) as workbench:
            await workbench.add_local_model(subject.folder, subject.name)
            await workbench.warm_engine()
            await workbench.load(subject.name)
            await until(lambda: all(worker.state != "starting" for worker in workbench.pool().workers))
            async with VllmLoad(vllm_url) as vllm:
                contest = Contest(subject, workbench, vllm)
                played = [
                    {streams: await contest.turn(streams, bool(number % 2)) for streams in STREAMS}
                    for number in range(rounds + 1)
                ]
    return played[1:]


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
    every_turn = [turn for turns_of_round in rounds for turn in turns_of_round.values()]
    for side in ("workbench", "vllm"):
        shares = [getattr(turn, f"{side}_idle_share") for turn in every_turn]
        figures[f"{prefix}{side}_idle_share"] = round(max(shares), 3)
    return figures


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=3, help="measured, after one discarded")
    options = arguments.parse_args()
    configure_logs("warning", as_json=False)  # to standard error
    subjects = {
        "": Subject(
            "mid", random_model("mid"), 512 << 20, 32, "{number}. What does a {hero} do all day long?"
        ),
        "tiny_": Subject("teller", DEMO / "storyteller", 64 << 20, 128, "Tell me a story about a {hero}"),
    }
    figures: Figures = {}
    for prefix, subject in subjects.items():
        with vllm_server(subject.folder, subject.kv_cache_bytes, CONTEXT_LENGTH) as client:
            rounds = asyncio.run(measure(subject, str(client.base_url), options.rounds))
        figures |= figures_of(prefix, rounds)
    publish(figures, options.json)


if __name__ == "__main__":
    main()
