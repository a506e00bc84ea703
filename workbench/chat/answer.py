"""One answer: asked of the pool, streamed, and stored however it ends."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass, field

import structlog

from workbench.catalog.store import Catalog
from workbench.catalog.tables import Message, Request
from workbench.chat.prompt import Prompt
from workbench.engine.spec import GenerationChunk, ModelSpec, SamplingOptions
from workbench.errors import BadRequestError, ConflictError, NotFoundError, WorkbenchError
from workbench.measurements import Measurements
from workbench.pool.controller import Controller
from workbench.pool.lease import Lease
from workbench.pool.snapshot import Progress, SwapRecord
from workbench.views import AnswerStats, Token

Keep = Callable[[Message], object]
"""Stores an answer as a turn of its conversation. It blocks. NotFoundError: the conversation is gone."""

log = structlog.get_logger("workbench.chat")

LONG_WAIT_S = 1.0
"""A wait for a worker, or for room, that a switch's reason must tell."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """The moment when a request arrived, from which its times count."""

    clock: float = field(default_factory=time.perf_counter)
    at: float = field(default_factory=time.time)
    """Unix seconds."""


@dataclass
class Answer:
    """An answer as it grows, and its figures."""

    model: str
    arrival: Arrival = field(default_factory=Arrival)
    text: str = ""
    error: str = ""
    refused: bool = False
    """Whether the model could not take the request: it is as if it had never been made."""
    asked_at: float | None = None
    first_at: float | None = None
    last_at: float | None = None
    first_count: int = 0
    longest_gap_s: float = 0.0
    lease: Lease | None = None
    chunk: GenerationChunk | None = None

    def add(self, chunk: GenerationChunk) -> None:
        """Take what an engine step added."""
        now = time.perf_counter()
        if self.first_at is None or self.last_at is None:
            self.first_at, self.first_count = now, chunk.token_count
        else:
            self.longest_gap_s = max(self.longest_gap_s, now - self.last_at)
        self.text += chunk.text
        self.chunk, self.last_at = chunk, now

    @property
    def ttft_s(self) -> float:
        return (self.first_at or time.perf_counter()) - self.arrival.clock

    @property
    def accept_s(self) -> float:
        """From arrival until the model was asked for."""
        return (self.asked_at or time.perf_counter()) - self.arrival.clock

    @property
    def decode_s(self) -> float | None:
        """From the first token to the last; None without one."""
        return self.last_at - self.first_at if self.last_at and self.first_at else None

    @property
    def bring_up_s(self) -> float:
        """What of the wait for the lease the model was loaded or woken; the rest was a queue."""
        if self.lease is None or self.lease.swap is None:
            return 0.0
        return min(self.lease.waited_s, self.lease.swap.total_s - self.lease.swap.wait_s)

    @property
    def tokens_per_s(self) -> float:
        """Decoding speed after the first token; with prefill if all tokens came at once; 0 without any."""
        if self.chunk is None or self.first_at is None or self.last_at is None or self.lease is None:
            return 0.0
        if self.last_at > self.first_at:
            return (self.chunk.token_count - self.first_count) / (self.last_at - self.first_at)
        return self.chunk.token_count / (self.last_at - self.arrival.clock - self.lease.waited_s)

    @property
    def stats(self) -> AnswerStats:
        """The figures so far."""
        chunk, lease = self.chunk, self.lease
        swap = lease.swap if lease else None
        return AnswerStats(
            prompt_tokens=chunk.prompt_tokens if chunk else 0,
            completion_tokens=chunk.token_count if chunk else 0,
            cached_prompt_tokens=chunk.cached_prompt_tokens if chunk else 0,
            ttft_s=self.ttft_s,
            switch_s=lease.waited_s if lease and swap else 0.0,
            switch_reason=describe_switch(swap) if swap else "",
            tokens_per_s=self.tokens_per_s,
            duration_s=time.perf_counter() - self.arrival.clock,
            finish_reason=(chunk.finish_reason if chunk else None) or ("error" if self.error else "abort"),
            queue_s=lease.waited_s if lease and not swap else 0.0,
        )


def describe_switch(swap: SwapRecord) -> str:
    """Why a switch took what it took, for people."""
    text = "woken" if swap.woken else "loaded"
    if swap.from_residency == "disk":
        text += " from disk"
    if swap.evicted:
        text += f", evicting {' and '.join(swap.evicted)}"
    if swap.wait_s >= LONG_WAIT_S:
        text += f", after waiting {swap.wait_s:.0f} s for a worker or for room"
    return text


class Answering:
    """Runs answers: asks the pool for the model, streams, and stores what came of it."""

    def __init__(self, catalog: Catalog, controller: Controller, measurements: Measurements) -> None:
        self._catalog = catalog
        self._controller = controller
        self._measurements = measurements
        self._answering: Counter[int] = Counter()
        """How many answers each conversation is given just now."""
        self._storing: set[asyncio.Task[WorkbenchError | None]] = set()

    def check_free(self, conversation_id: int) -> None:
        """Raise ConflictError if the conversation is being answered already, in another tab perhaps."""
        if self._answering[conversation_id]:
            raise ConflictError(
                "This conversation is being answered already. Wait until that answer is complete."
            )

    @contextmanager
    def claim(self, conversation_id: int | None) -> Iterator[None]:
        """Have a conversation to oneself, from before its turns are read until it is answered.

        Raises:
            ConflictError: it is being answered.
        """
        if conversation_id is None:
            yield
            return
        self.check_free(conversation_id)
        self._answering[conversation_id] += 1
        try:
            yield
        finally:
            self._release(conversation_id)

    def _release(self, conversation_id: int) -> None:
        self._answering[conversation_id] -= 1
        if not self._answering[conversation_id]:
            del self._answering[conversation_id]

    async def finish(self) -> None:
        """Wait until every answer is stored."""
        while self._storing:
            await asyncio.wait(self._storing)

    async def run(
        self,
        spec: ModelSpec,
        prompt: Prompt,
        options: SamplingOptions,
        conversation_id: int,
        answer: Answer,
        keep: Keep,
    ) -> AsyncGenerator[Progress | Token]:
        """Stream the answer to `prompt` into `answer`, which is kept however the stream ends, unless refused.

        Args:
            spec: the model.
            prompt: what it is given.
            options: sampling options.
            conversation_id: what the answer belongs to.
            answer: filled in while it streams.
            keep: stores the answer as a turn of the conversation; called in a thread.

        Raises:
            WorkbenchError: the model can't be had, or the answer broke off; it is stored with the answer.
        """
        request_id = uuid.uuid4().hex
        self._answering[conversation_id] += 1
        answer.asked_at = time.perf_counter()
        live = self._measurements.request(answer.model)
        try:
            async with self._controller.ask(spec) as ticket:
                async for progress in ticket.stages():
                    yield progress
                answer.lease = await ticket.lease()
                live.leased()
                stream = answer.lease.client.generate(
                    prompt.messages, options, request_id, go_on=prompt.go_on
                )
                async with aclosing(stream):
                    async for chunk in stream:
                        answer.add(chunk)
                        live.grown(chunk.token_count)
                        if chunk.text:
                            yield Token(chunk.text, chunk.token_count)
        except WorkbenchError as error:
            answer.error = str(error)
            answer.refused = isinstance(error, BadRequestError) and answer.chunk is None
            log.info("request failed", model=answer.model, request=request_id, error=answer.error)
            raise
        except Exception as error:
            answer.error = (
                f"Something went wrong inside Workbench: {type(error).__name__}. The log has the details."
            )
            raise
        finally:
            live.end()
            # A task of its own: a stop or a closed tab cancels this one, and the partial answer stays.
            storing = asyncio.ensure_future(self._store(answer, conversation_id, request_id, keep))
            self._storing.add(storing)
            storing.add_done_callback(self._storing.discard)
            lost = await asyncio.shield(storing)
        if lost is not None:
            raise lost

    async def _store(
        self, answer: Answer, conversation_id: int, request_id: str, keep: Keep
    ) -> WorkbenchError | None:
        """Returns why the answer could not be kept, where somebody should hear of it."""
        stats = answer.stats
        waited_s = stats.duration_s - answer.accept_s
        request = Request(
            request_id=request_id,
            model=answer.model,
            conversation_id=conversation_id,
            received_at=answer.arrival.at,
            accept_s=answer.accept_s,
            queue_s=answer.lease.waited_s - answer.bring_up_s if answer.lease else waited_s,
            switch_s=answer.bring_up_s,
            switch_reason=stats.switch_reason,
            ttft_s=stats.ttft_s if answer.first_at is not None else None,
            decode_s=answer.decode_s,
            first_tokens=answer.first_count,
            longest_gap_s=answer.longest_gap_s or None,
            prompt_tokens=stats.prompt_tokens,
            cached_prompt_tokens=stats.cached_prompt_tokens,
            completion_tokens=stats.completion_tokens,
            duration_s=stats.duration_s,
            finish_reason=stats.finish_reason,
            error=answer.error,
        )
        lost: WorkbenchError | None = None
        try:
            if not answer.refused:
                await asyncio.to_thread(keep, _turn(answer, stats, conversation_id))
        except NotFoundError:
            log.info("answer dropped: its conversation was deleted meanwhile", model=answer.model)
        except WorkbenchError as error:
            log.error("answer not stored", model=answer.model, error=str(error))
            lost = error
        finally:
            self._release(conversation_id)
        await self._measurements.record_request(request)
        return lost


def _turn(answer: Answer, stats: AnswerStats, conversation_id: int) -> Message:
    return Message(
        conversation_id=conversation_id,
        role="assistant",
        content=answer.text,
        model=answer.model,
        error=answer.error,
        **asdict(stats),
    )
