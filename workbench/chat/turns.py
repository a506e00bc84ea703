"""The ways to have a turn answered: a new message, another version, a continuation, several models at once.

Each is an iterator of what happens: progress of a switch, tokens, the end. To close it aborts the request in
the engine; the partial answer is kept. A refusal leaves the conversation as it was, also one that comes late:
how long a prompt is, only the loaded model can say.
"""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import structlog

from workbench.catalog.store import Catalog
from workbench.catalog.tables import Conversation, Message
from workbench.chat.answer import Answer, Answering, Keep
from workbench.chat.prompt import Prompt, continuation_prompt, question_prompt
from workbench.engine.spec import ModelSpec, SamplingOptions
from workbench.errors import BadRequestError, ConflictError, WorkbenchError
from workbench.requests import Arrival
from workbench.views import ChatEvent, Finished

log = structlog.get_logger("workbench.chat")

MAX_MESSAGE_CHARACTERS = 4_000_000
TITLE_CHARACTERS = 60
MAX_COMPARED = 6

Servable = Callable[[str], Awaitable[ModelSpec]]
"""The spec of a model of that name, or an error that says why it can't be had."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A question that goes to several models, and the turn that has places for their answers."""

    conversation: Conversation
    before: Sequence[Message]
    """The turns before the question."""
    text: str
    places: Message
    added_from: int
    """Position of the first turn that was added for it."""
    first: int = 0
    """The first of the versions that are places; those before it are answers of earlier."""
    earlier: Message | None = None
    """The turn as it was, if there was one."""


class Turns:
    """Answers the turns of kept conversations."""

    def __init__(self, catalog: Catalog, answering: Answering, servable: Servable) -> None:
        self._catalog = catalog
        self._answering = answering
        self._servable = servable

    async def chat(
        self,
        model: str,
        text: str,
        conversation_id: int | None,
        system: str | None,
        options: SamplingOptions,
    ) -> AsyncGenerator[ChatEvent]:
        """See `Workbench.chat`."""
        arrival = Arrival()
        with self._answering.claim(conversation_id):
            spec = await self._admitted(model, options, text)
            conversation, before = await asyncio.to_thread(
                self._take_turn, conversation_id, text, model, system, options
            )
            prompt = question_prompt(conversation.system, before, text)
            keep = self._catalog.chats.append_message
            answer = Answer(spec.name, arrival)
            try:
                async with aclosing(
                    self._answered(answer, spec, prompt, options, conversation.id, keep)
                ) as events:
                    async for event in events:
                        yield event
            except BadRequestError:
                if answer.refused:
                    await asyncio.to_thread(
                        self._take_back, conversation.id, len(before), conversation_id is None
                    )
                raise

    async def regenerate(
        self, conversation_id: int, model: str, system: str | None, options: SamplingOptions
    ) -> AsyncGenerator[ChatEvent]:
        """See `Workbench.regenerate`."""
        arrival = Arrival()
        with self._answering.claim(conversation_id):
            conversation, turns = await asyncio.to_thread(self._conversation, conversation_id)
            question = _last_question(turns)
            spec = await self._admitted(model or conversation.model, options)
            conversation = await asyncio.to_thread(self._with_system, conversation, system)
            keep: Keep = self._catalog.chats.append_message
            if turns[-1].role == "assistant":
                keep = partial(self._catalog.chats.add_version, turns[-1].id)
            prompt = question_prompt(conversation.system, turns[: question.position], question.content)
            answer = Answer(spec.name, arrival)
            async with aclosing(
                self._answered(answer, spec, prompt, options, conversation_id, keep)
            ) as events:
                async for event in events:
                    yield event

    async def continue_answer(
        self, conversation_id: int, options: SamplingOptions
    ) -> AsyncGenerator[ChatEvent]:
        """See `Workbench.continue_answer`."""
        arrival = Arrival()
        with self._answering.claim(conversation_id):
            conversation, turns = await asyncio.to_thread(self._conversation, conversation_id)
            last = turns[-1] if turns else None
            if last is None or last.role != "assistant" or not last.content:
                raise ConflictError("The conversation doesn't end with an answer that could be continued.")
            spec = await self._admitted(last.model, options)
            question = _last_question(turns)
            before = turns[: question.position]
            prompt = continuation_prompt(conversation.system, before, question.content, last.content)
            keep = partial(self._catalog.chats.extend_message, last.id)
            answer = Answer(spec.name, arrival)
            async with aclosing(
                self._answered(answer, spec, prompt, options, conversation_id, keep)
            ) as events:
                async for event in events:
                    yield event

    async def compare(
        self,
        models: Sequence[str],
        text: str | None,
        conversation_id: int | None,
        system: str | None,
        options: SamplingOptions,
    ) -> AsyncGenerator[tuple[int, ChatEvent | WorkbenchError]]:
        """See `Workbench.compare`."""
        if not 2 <= len(set(models)) == len(models) <= MAX_COMPARED:
            raise BadRequestError(f"Pick two to {MAX_COMPARED} different models to compare.")
        arrival = Arrival()
        with self._answering.claim(conversation_id):
            specs = [await self._admitted(model, options, text) for model in models]
            asked = await asyncio.to_thread(self._compared, models, text, conversation_id, system, options)
            prompt = question_prompt(asked.conversation.system, asked.before, asked.text)
            keeps = [
                partial(self._catalog.chats.set_version, asked.places.id, asked.first + number)
                for number in range(len(specs))
            ]
            answers = [Answer(spec.name, arrival) for spec in specs]
            streams = [
                self._answered(answer, spec, prompt, options, asked.conversation.id, keep)
                for answer, spec, keep in zip(answers, specs, keeps, strict=True)
            ]
            async with aclosing(_side_by_side(streams)) as events:
                async for number, event in events:
                    if answers[number].refused:
                        refusal = _unsaid(asked.conversation.id, models[number], answers[number].error)
                        await asyncio.to_thread(keeps[number], refusal)
                    yield number, event
            if all(answer.refused for answer in answers):
                await asyncio.to_thread(self._undo, asked, conversation_id is None)
                raise BadRequestError(" ".join(dict.fromkeys(answer.error for answer in answers)))

    async def _admitted(self, model: str, options: SamplingOptions, text: str | None = None) -> ModelSpec:
        """The model's spec, once the request is known to be a sensible one."""
        try:
            options.check()
            if text is not None:
                _check_text(text)
            return await self._servable(model)
        except WorkbenchError as error:
            log.info("request refused", model=model, error=str(error))
            raise

    async def _answered(
        self,
        answer: Answer,
        spec: ModelSpec,
        prompt: Prompt,
        options: SamplingOptions,
        conversation_id: int,
        keep: Keep,
    ) -> AsyncGenerator[ChatEvent]:
        stream = self._answering.run(spec, prompt, options, conversation_id, answer, keep)
        async with aclosing(stream):
            async for event in stream:
                yield event
        yield Finished(conversation_id, answer.text, answer.stats)

    def _conversation(self, conversation_id: int) -> tuple[Conversation, list[Message]]:
        chats = self._catalog.chats
        return chats.conversation(conversation_id), chats.messages(conversation_id)

    def _with_system(self, conversation: Conversation, system: str | None) -> Conversation:
        if system is None or system == conversation.system:
            return conversation
        return self._catalog.chats.update_conversation(conversation.id, system=system)

    def _take_turn(
        self, conversation_id: int | None, text: str, model: str, system: str | None, options: SamplingOptions
    ) -> tuple[Conversation, list[Message]]:
        return self._catalog.chats.take_turn(
            conversation_id,
            text,
            model=model,
            system=system,
            options=dataclasses.asdict(options),
            title=" ".join(text.split())[:TITLE_CHARACTERS],
        )

    def _take_back(self, conversation_id: int, position: int, is_new: bool) -> None:
        """Undo `_take_turn`, and what came after it."""
        if is_new:
            self._catalog.chats.delete_conversation(conversation_id)
        else:
            self._catalog.chats.take_back(conversation_id, position)

    def _compared(
        self,
        models: Sequence[str],
        text: str | None,
        conversation_id: int | None,
        system: str | None,
        options: SamplingOptions,
    ) -> Comparison:
        """Store a question, or take the last one again, with a place for the answer of each model."""
        chats = self._catalog.chats
        if text is not None:
            conversation, before = self._take_turn(conversation_id, text, models[0], system, options)
            places = chats.append_message(_places(conversation.id, models))
            return Comparison(conversation, before, text, places, len(before))
        if conversation_id is None:
            raise ConflictError("There is no question to answer yet. Write a message.")
        conversation, turns = self._conversation(conversation_id)
        question, last = _last_question(turns), turns[-1]
        conversation = self._with_system(conversation, system)
        before = turns[: question.position]
        if last.role == "user":
            places = chats.append_message(_places(conversation.id, models))
            return Comparison(conversation, before, question.content, places, places.position)
        answers = [_unsaid(conversation.id, model) for model in models]
        first = max(1, len(last.versions))
        places = chats.add_places(last.id, answers)
        return Comparison(conversation, before, question.content, places, last.position, first, last)

    def _undo(self, asked: Comparison, is_new: bool) -> None:
        """Have the conversation be as before a comparison that no model could take."""
        if asked.earlier:
            self._catalog.chats.restore_answer(asked.earlier)
        else:
            self._take_back(asked.conversation.id, asked.added_from, is_new)


def _unsaid(conversation_id: int, model: str, error: str = "") -> Message:
    """An answer without a word."""
    return Message(conversation_id=conversation_id, role="assistant", model=model, error=error)


def _places(conversation_id: int, models: Sequence[str]) -> Message:
    """A turn with a version for each model, to be filled in."""
    answers = [_unsaid(conversation_id, model) for model in models]
    first = answers[0]
    first.versions, first.compared = [answer.as_version() for answer in answers], True
    return first


async def _side_by_side(
    streams: Sequence[AsyncGenerator[ChatEvent]],
) -> AsyncGenerator[tuple[int, ChatEvent | WorkbenchError]]:
    """What all streams bring, as it comes, each with its number; the error that ends one ends no other."""
    arrived: asyncio.Queue[tuple[int, ChatEvent | Exception | None]] = asyncio.Queue()

    async def follow(number: int, stream: AsyncGenerator[ChatEvent]) -> None:
        try:
            async with aclosing(stream):
                async for event in stream:
                    arrived.put_nowait((number, event))
        except Exception as error:
            arrived.put_nowait((number, error))
        finally:
            arrived.put_nowait((number, None))

    tasks = [asyncio.create_task(follow(number, stream)) for number, stream in enumerate(streams)]
    running = len(tasks)
    try:
        while running:
            number, event = await arrived.get()
            if event is None:
                running -= 1
            elif isinstance(event, Exception) and not isinstance(event, WorkbenchError):
                raise event
            else:
                yield number, event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _last_question(turns: Sequence[Message]) -> Message:
    question = next((turn for turn in reversed(turns) if turn.role == "user"), None)
    if question is None:
        raise ConflictError("The conversation has no question to answer. Write a message.")
    return question


def _check_text(text: str) -> None:
    if not text.strip():
        raise BadRequestError("The message is empty. Write something first.")
    if len(text) > MAX_MESSAGE_CHARACTERS:
        raise BadRequestError(
            f"The message has {len(text):,} characters, and may have {MAX_MESSAGE_CHARACTERS:,}. Shorten it."
        )
