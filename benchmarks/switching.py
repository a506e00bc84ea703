"""Switches between two models through Workbench, and the same requests without a switch."""

import contextlib
import statistics
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.asking import TimedAnswer, pool_at_rest, timed_answer, until
from benchmarks.peers.measure import Question
from benchmarks.report import Figures, percentile, spread
from workbench.engine.page_cache import prefetch
from workbench.service import Workbench
from workbench.values import SamplingOptions

DISCARDED = 2
PHASES = ("wait_s", "configure_s", "create_s", "weights_s", "kv_cache_s", "attach_s")
LONG_ANSWER = 100
"""Tokens."""


@dataclass(frozen=True)
class Pair:
    """Two models that alternate."""

    name: str
    """What its figures are named after."""
    models: tuple[Path, Path]
    prompts: tuple[str, str]
    kv_cache_bytes: int
    weight_bytes: int
    """Of the larger one."""
    max_tokens: int
    device: str = "auto"

    @property
    def one_fits(self) -> int:
        """A budget in bytes that holds either model but not both."""
        return int(1.5 * (self.weight_bytes + self.kv_cache_bytes))


@contextlib.asynccontextmanager
async def running(
    pair: Pair, data_dir: Path, budget_bytes: int, sleep: bool = True
) -> AsyncIterator[Workbench]:
    """Workbench with the pair in its catalog, the engine imported and a worker warm."""
    async with Workbench(
        data_dir=data_dir,
        device=pair.device,
        memory_budget=budget_bytes,
        kv_cache_bytes=pair.kv_cache_bytes,
        sleep=sleep,
        model_roots=tuple(model.parent.resolve() for model in pair.models),
    ) as workbench:
        known = {model.name for model in workbench.models}
        for model in pair.models:
            if model.name not in known:
                await workbench.add_local_model(model, model.name)
        await workbench.warm_engine()
        await until(lambda: workbench.pool().warm)
        yield workbench


class Alternation:
    """Requests to the two models of a pair in turn; the answers to a prompt must all be the same."""

    def __init__(self, workbench: Workbench, pair: Pair) -> None:
        self._workbench = workbench
        self._pair = pair
        self._count = 0
        self._answers: dict[tuple[str, int], str] = {}

    def go_on(self, workbench: Workbench) -> None:
        """Ask another Workbench from now on, whose answers must be the same."""
        self._workbench = workbench

    async def switch(self, max_tokens: int | None = None) -> TimedAnswer:
        """Ask the model that is not on the device."""
        self._count += 1
        return await self._ask(switched=True, max_tokens=max_tokens)

    async def again(self) -> TimedAnswer:
        """Ask the same again."""
        return await self._ask(switched=False)

    async def _ask(self, switched: bool, max_tokens: int | None = None) -> TimedAnswer:
        side, tokens = self._count % 2, max_tokens or self._pair.max_tokens
        model, prompt = self._pair.models[side].name, self._pair.prompts[side]
        options = SamplingOptions(temperature=0, max_tokens=tokens)
        answer = await timed_answer(self._workbench, model, prompt, options)
        if bool(answer.stats.switch_s) is not switched:
            raise RuntimeError(f"{model} was {'not ' * switched}switched to.")
        if self._answers.setdefault((model, tokens), answer.text) != answer.text:
            raise RuntimeError(f"{model} answered differently after a switch.")
        return answer

    @property
    def questions(self) -> tuple[Question, Question]:
        """Prompts and answers, for the peers to be compared with."""
        first, second = (
            Question(model, prompt, self._answers[model.name, self._pair.max_tokens])
            for model, prompt in zip(self._pair.models, self._pair.prompts, strict=True)
        )
        return first, second


async def measure(pair: Pair, count: int) -> tuple[Figures, tuple[Question, Question]]:
    """Figures of `count` switches of a pair of which one fits, named after it, and what was answered.

    The models' own files are in the page cache. `p50_s` and so on: switches as they are, to a model that
    sleeps in its worker. `load_p50_s`: with sleep left off, from prepared weights, and its phases.
    `first_s`: the first load of each model, when nothing is prepared. `100_s`: from request to hundredth
    token. `resident_p50_s`: from one to the other while both are on the device, and `resident_warm_s` to the
    same again, in turn.
    """
    for weights in (path for model in pair.models for path in model.glob("*.safetensors")):
        prefetch(weights)  # a cold disk is none of the loader's doing
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        data_dir, name = Path(folder), pair.name
        async with running(pair, data_dir, pair.one_fits, sleep=False) as workbench:
            turns = Alternation(workbench, pair)
            first = await _first_loads(workbench, turns, data_dir)
            loads, _ = await _switches(workbench, turns, count, "loaded from disk")
            swaps = workbench.catalog.recent_swaps(count)
        async with running(pair, data_dir, pair.one_fits) as workbench:
            turns.go_on(workbench)
            switches, warm = await _switches(workbench, turns, count, "woken")
            long = [await turns.switch(LONG_ANSWER) for _ in range(4)]
        async with running(pair, data_dir, 2 * pair.one_fits) as workbench:
            resident, resident_warm = await _resident(workbench, pair, count)
    figures = spread(name, [_first_token_s(answer) for answer in switches])
    figures |= {
        f"{name}_load_p50_s": round(statistics.median(map(_first_token_s, loads)), 4),
        f"{name}_load_p95_s": round(percentile(list(map(_first_token_s, loads)), 0.95), 4),
        f"{name}_first_s": round(statistics.median(map(_first_token_s, first)), 4),
        f"{name}_warm_ttft_s": round(statistics.median(map(_first_token_s, warm)), 4),
        f"{name}_resident_p50_s": round(statistics.median(map(_first_token_s, resident)), 4),
        f"{name}_resident_warm_s": round(statistics.median(map(_first_token_s, resident_warm)), 4),
        f"{name}_100_s": round(statistics.median(a.last_at - a.asked_at for a in long), 4),
    }
    for phase in PHASES:
        median = statistics.median(getattr(swap, phase) for swap in swaps)
        figures[f"{name}_phase_{phase}"] = round(median, 4)
    return figures, turns.questions


async def _first_loads(workbench: Workbench, turns: Alternation, data_dir: Path) -> list[TimedAnswer]:
    """The first load of each model; returns once both are prepared, and two workers warm."""
    answers = []
    for number in (1, 2):
        answers.append(await turns.switch())
        await _prepared(data_dir / "prepared", number)
    await pool_at_rest(workbench)
    return answers


async def _prepared(folder: Path, count: int) -> None:
    """Wait until so many models are prepared: the record is the last thing that is written."""
    await until(lambda: len(list(folder.glob("*.json"))) >= count)


async def _switches(
    workbench: Workbench, turns: Alternation, count: int, reason: str
) -> tuple[list[TimedAnswer], list[TimedAnswer]]:
    """`count` switches, each followed by the same request without one.

    Raises:
        RuntimeError: a switch was not of the kind that `reason` begins to tell.
    """
    switches, warm = [], []
    for number in range(count + DISCARDED):
        if number in (1, DISCARDED):
            await _none_starting(workbench)
        switched, again = await turns.switch(), await turns.again()
        if number >= DISCARDED:
            if not switched.stats.switch_reason.startswith(reason):
                raise RuntimeError(f"A switch was not {reason}, but {switched.stats.switch_reason}.")
            if switched.stats.cached_prompt_tokens:
                raise RuntimeError("A part of a prompt had been read before: the switch shows too little.")
            switches.append(switched)
            warm.append(again)
    return switches, warm


async def _none_starting(workbench: Workbench) -> None:
    """Wait for a spare that is on its way, and takes a core."""
    await until(lambda: all(worker.state != "starting" for worker in workbench.pool().workers))


async def _resident(
    workbench: Workbench, pair: Pair, count: int
) -> tuple[list[TimedAnswer], list[TimedAnswer]]:
    """Answers of the two models in turn, both on the device, each followed by the same request again."""
    options = SamplingOptions(temperature=0, max_tokens=pair.max_tokens)
    for model in pair.models:
        # Where no worker is warm, a model that is idle gives its own.
        await until(lambda: any(worker.state == "warm" for worker in workbench.pool().workers))
        await workbench.load(model.name)
    await _none_starting(workbench)
    other: list[TimedAnswer] = []
    again: list[TimedAnswer] = []
    for number in range(count + DISCARDED):
        side = number % 2
        for answers in (other, again):
            answer = await timed_answer(workbench, pair.models[side].name, pair.prompts[side], options)
            if answer.stats.switch_s:
                raise RuntimeError("A model was switched to while both fitted.")
            answers.append(answer)
    return other[DISCARDED:], again[DISCARDED:]


def _first_token_s(answer: TimedAnswer) -> float:
    return answer.first_at - answer.asked_at


def eta(figures: Figures, pair: Pair, bytes_per_s: float) -> float:
    """Share of the bandwidth at which a switch moves the weights: 1 is a copy, mapped weights may be more."""
    moving_s = float(str(figures[f"{pair.name}_load_p50_s"])) - float(
        str(figures[f"{pair.name}_warm_ttft_s"])
    )
    return round(pair.weight_bytes / max(moving_s, 1e-6) / bytes_per_s, 3)
