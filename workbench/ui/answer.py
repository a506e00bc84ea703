"""An answer as it grows, and the pace at which the page sees it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from workbench.errors import WorkbenchError
from workbench.values import ChatEvent, Finished, Progress, Token

Event = TypeVar("Event")

ENOUGH_S = 0.25
"""Of an answer, to tell its speed."""


@dataclass(slots=True)
class Answer:
    """What is known of an answer so far. Times are those of one monotonic clock, in seconds."""

    model: str
    started_at: float
    text: str = ""
    token_count: int = 0
    first_token_at: float | None = None
    first_count: int = 0
    """Tokens that were there when the first was seen."""
    progress: Progress | None = None
    finished: Finished | None = None
    error: str = ""
    """Why it broke off."""

    def add(self, event: ChatEvent | WorkbenchError, now: float) -> None:
        """Take what has happened."""
        match event:
            case Progress():
                self.progress = event
            case Token():
                if self.first_token_at is None:
                    self.first_token_at = now
                if self.first_token_at == now:  # all of a batch are seen at once
                    self.first_count = event.token_count
                self.text += event.text
                self.token_count = event.token_count
            case Finished():
                self.finished = event
            case WorkbenchError():
                self.error = str(event)

    @property
    def completion_tokens(self) -> int:
        """Of the answer; if it broke off, those that came."""
        return self.finished.stats.completion_tokens if self.finished else self.token_count

    @property
    def prompt_tokens(self) -> int:
        """0 for an answer that broke off."""
        return self.finished.stats.prompt_tokens if self.finished else 0

    def tokens_per_s(self, now: float) -> float:
        """Decode rate; what came first is prefill and does not count. 0 until there is enough to tell."""
        if self.first_token_at is None or now - self.first_token_at < ENOUGH_S:
            return 0.0
        return (self.token_count - self.first_count) / (now - self.first_token_at)


@dataclass(slots=True)
class PacedEvents(Generic[Event]):
    """Events in batches, at most one batch per `interval`.

    Each batch has the growing answer rendered anew. An empty batch comes after `idle` seconds without
    events, so that a clock on the page moves. Errors of the source are raised after the events before them.
    However the iteration ends, the source is closed before it is over.
    """

    PACE: ClassVar[float] = 0.08

    source: AsyncIterator[Event]
    interval: float = PACE
    """Seconds; may be changed on the way."""
    idle: float = 0.5
    _pending: list[Event] = field(default_factory=list, init=False)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _pump: asyncio.Task[None] | None = field(default=None, init=False)
    _stopped: bool = field(default=False, init=False)

    def stop(self) -> None:
        """End the iteration after what has arrived; one that has not begun asks nothing of the source.

        To stop again, while the source is being closed, changes nothing.
        """
        if self._pump and not self._stopped:
            self._pump.cancel()
        self._stopped = True

    async def batches(self) -> AsyncGenerator[list[Event]]:
        if self._stopped:
            return
        self._pump = asyncio.create_task(self._run(), name="chat events")
        try:
            while True:
                over = self._pump.done()
                if not over:
                    await self._wait()
                batch, self._pending = self._pending, []
                if batch or not over:
                    yield batch
                if over:
                    break
                await asyncio.wait({self._pump}, timeout=self.interval)
            if not self._pump.cancelled():
                await self._pump
        finally:
            self.stop()
            await asyncio.gather(self._pump, return_exceptions=True)

    async def _run(self) -> None:
        try:
            async for event in self.source:
                self._pending.append(event)
                self._arrived.set()
        finally:
            self._arrived.set()
            if isinstance(self.source, AsyncGenerator):
                await self.source.aclose()

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._arrived.wait(), self.idle)
        except TimeoutError:
            pass
        else:
            self._arrived.clear()
