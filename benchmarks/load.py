"""A closed loop: some streams, each of which asks again as soon as it is answered."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer."""

    ttft_s: float
    """From sending the request to its first text."""
    tpot_s: float
    """Mean time between two tokens after the first."""
    tokens: int

    @classmethod
    def of(cls, ttft_s: float, last_s: float, tokens: int) -> "Sample":
        """The answer of `tokens` whose last text came `last_s` after its request.

        Raises:
            ValueError: it has less than two tokens, so that there is no time between them.
        """
        if tokens < 2:
            raise ValueError(f"An answer has {tokens} tokens; no time between tokens can be told.")
        return cls(ttft_s, (last_s - ttft_s) / (tokens - 1), tokens)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a number of streams got."""

    seconds: float
    """From the first request to the end of the last answer."""
    samples: tuple[Sample, ...]

    @property
    def tokens_per_s(self) -> float:
        """Generated tokens of all streams together."""
        return sum(sample.tokens for sample in self.samples) / self.seconds

    @property
    def ttft_s(self) -> float:
        """Median of the answers."""
        return statistics.median(sample.ttft_s for sample in self.samples)

    @property
    def tpot_s(self) -> float:
        """Median of the answers."""
        return statistics.median(sample.tpot_s for sample in self.samples)


async def closed_loop(
    answer: Callable[[str], Awaitable[Sample]], prompts: Sequence[str], streams: int
) -> Loaded:
    """Send all prompts, `streams` at a time."""
    left = iter(prompts)
    samples: list[Sample] = []

    async def stream() -> None:
        for prompt in left:
            samples.append(await answer(prompt))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(streams):
            group.create_task(stream())
    return Loaded(time.perf_counter() - began, tuple(samples))
