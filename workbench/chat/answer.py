"""One answer: asked of the pool, streamed, and stored however it ends."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass

import structlog

from workbench.catalog.store import Catalog
from workbench.catalog.tables import Message
from workbench.chat.prompt import Prompt
from workbench.engine.spec import GenerationChunk, ModelSpec, SamplingOptions
from workbench.errors import BadRequestError, ConflictError, NotFoundError, WorkbenchError
from workbench.measurements import Measurements
from workbench.pool.controller import Controller
from workbench.pool.scheduling import Claim
from workbench.pool.snapshot import Progress
from workbench.requests import RequestFigures, new_request_id
from workbench.views import AnswerStats, Token

PAGE = "page"
"""Whose share the chats of the page use."""
Keep = Callable[[Message], object]
"""Stores an answer as a turn of its conversation. It blocks. NotFoundError: the conversation is gone."""

log = structlog.get_logger("workbench.chat")


@dataclass
class Answer(RequestFigures):
    """An answer as it grows, and its figures."""

    text: str = ""
    refused: bool = False
    """Whether the model could not take the request: it is as if it had never been made."""

    def add(self, chunk: GenerationChunk) -> None:
        """Take what an engine step added."""
        self.text += chunk.text
        self.grown(chunk.token_count, chunk.prompt_tokens, chunk.cached_prompt_tokens, chunk.finish_reason)

    @property
    def stats(self) -> AnswerStats:
        """The figures so far."""
        waited_s = self.lease.waited_s if self.lease else 0.0
        switched = bool(self.lease and self.lease.swap)
        return AnswerStats(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.token_count,
            cached_prompt_tokens=self.cached_prompt_tokens,
            ttft_s=self.ttft_s,
            switch_s=waited_s if switched else 0.0,
            switch_reason=self.switch_reason,
            tokens_per_s=self.tokens_per_s,
            duration_s=self.duration_s,
            finish_reason=self.outcome,
            queue_s=0.0 if switched else waited_s,
        )


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
        request_id = new_request_id()
        self._answering[conversation_id] += 1
        answer.asked_at = time.perf_counter()
        live = self._measurements.request(answer.model)
        trace = self._measurements.traces.request(request_id, answer)
        try:
            async with self._controller.ask(spec, self._claim(answer.model, prompt, options)) as ticket:
                async for progress in ticket.stages():
                    yield progress
                answer.lease = await ticket.lease()
                live.leased()
                trace.leased(answer.lease)
                stream = answer.lease.client.generate(
                    prompt.messages,
                    options,
                    request_id,
                    go_on=prompt.go_on,
                    priority=answer.lease.priority,
                    trace_headers=trace.headers,
                )
                async with aclosing(stream):
                    async for chunk in stream:
                        answer.add(chunk)
                        live.grown(chunk.token_count)
                        if chunk.text:
                            yield Token(chunk.text, chunk.token_count)
        except WorkbenchError as error:
            answer.error = str(error)
            answer.refused = isinstance(error, BadRequestError) and answer.first_at is None
            log.info(
                "request failed",
                model=answer.model,
                request_id=request_id,
                phase=answer.phase,
                error=answer.error,
            )
            raise
        except Exception as error:
            answer.error = (
                f"Something went wrong inside Workbench: {type(error).__name__}. The log has the details."
            )
            raise
        finally:
            live.end()
            trace.ended()
            # A task of its own: a stop or a closed tab cancels this one, and the partial answer stays.
            storing = asyncio.ensure_future(self._store(answer, conversation_id, request_id, keep))
            self._storing.add(storing)
            storing.add_done_callback(self._storing.discard)
            lost = await asyncio.shield(storing)
        if lost is not None:
            raise lost

    def _claim(self, model: str, prompt: Prompt, options: SamplingOptions) -> Claim:
        characters = sum(len(turn["content"]) for turn in prompt.messages)
        tokens = self._measurements.expected_tokens(model, characters, options.max_tokens)
        return Claim(owner=PAGE, expected_tokens=tokens)

    async def _store(
        self, answer: Answer, conversation_id: int, request_id: str, keep: Keep
    ) -> WorkbenchError | None:
        """Returns why the answer could not be kept, where somebody should hear of it."""
        request = answer.record(request_id, conversation_id)
        lost: WorkbenchError | None = None
        try:
            if not answer.refused:
                await asyncio.to_thread(keep, _turn(answer, conversation_id))
        except NotFoundError:
            log.info("answer dropped: its conversation was deleted meanwhile", model=answer.model)
        except WorkbenchError as error:
            log.error("answer not stored", model=answer.model, error=str(error))
            lost = error
        finally:
            self._release(conversation_id)
        await self._measurements.record_request(request)
        return lost


def _turn(answer: Answer, conversation_id: int) -> Message:
    return Message(
        conversation_id=conversation_id,
        role="assistant",
        content=answer.text,
        model=answer.model,
        error=answer.error,
        **asdict(answer.stats),
    )
