"""What happens in a chat, free of Gradio and HTTP: each step is an update of what the page shows.

Nothing is kept here between requests but the answers that run: the page holds the open conversation's id,
the database holds the rest, so a reload or a new server changes nothing.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, Field

from workbench.errors import BadRequestError, NotFoundError, WorkbenchError
from workbench.service import Workbench
from workbench.ui.actions import sentence
from workbench.ui.answer import Answer, PacedEvents
from workbench.ui.parameters import PARAMETERS, sampling_options
from workbench.ui.render import chat as render
from workbench.values import ChatEvent, MessageView

Update = dict[str, Any]
"""What changes on the page: "turns", pairs of key and HTML, put in place of the turn of that key or at the
end; "gone", keys of turns to take away; "conversation", the id of the open one; "list", HTML of the list;
"draft", text that is back in the box."""

RENDER_SHARE = 0.1
"""An answer that is long, and so takes long to render, is shown less often: at most so much of the time."""


class Ask(BaseModel):
    """What the page asks to have answered."""

    do: Literal["send", "regenerate", "continue"]
    stream: str = Field(max_length=64)
    """The page's own name for the answer, by which it can be stopped."""
    conversation: int | None = None
    text: str = Field("", max_length=5_000_000)
    models: list[str] = Field(default=[], max_length=16)
    """One, or several to compare."""
    system: str = Field("", max_length=1_000_000)
    options: dict[str, str] = {}
    """Texts of the parameter fields."""


Event = tuple[int, ChatEvent | WorkbenchError]
"""What happens with one of several answers, by its number."""


@dataclass(slots=True)
class Running:
    """The answers to one question, as they grow."""

    answers: list[Answer]
    key: str
    """Where on the page they grow."""
    known: int
    """How many turns of the conversation stay as they are."""
    begun: str = ""
    """What was there of the answer before."""
    question: str = ""
    """Text that goes back into the box if it is refused."""
    unanswered: list[tuple[str, str]] = field(default_factory=list)
    """The question as the page shows it until it is kept."""


@dataclass(slots=True)
class ChatFlow:
    """The steps of the chat page over one workbench."""

    workbench: Workbench
    clock: Callable[[], float] = time.monotonic
    _running: dict[str, PacedEvents[Event]] = field(default_factory=dict)

    # What is kept.

    async def opened(self, wanted: str) -> dict[str, Any]:
        """A conversation for the page, a new one where there is none of that id."""
        try:
            view = await self.workbench.conversations.get(int(wanted) if wanted.isdecimal() else 0)
        except NotFoundError:
            return {"conversation": "", "turns": []}
        turns = await asyncio.to_thread(_rendered, await self._turns(view.id))
        return {
            "conversation": str(view.id),
            "turns": turns,
            "model": view.model,
            "system": view.system,
            "options": render.option_texts(view.options),
        }

    async def listed(self, search: str = "") -> str:
        """HTML of the list of conversations."""
        return render.conversation_list(await self.workbench.conversations.find(search), search)

    async def turn(self, conversation: int, message: int) -> list[tuple[str, str]]:
        """One turn anew."""
        turns = await self._turns(conversation)
        return await asyncio.to_thread(_rendered, [turn for turn in turns if turn.id == message])

    async def _turns(self, conversation: int) -> list[MessageView]:
        messages = await self.workbench.conversations.messages(conversation)
        return [view for view in messages if view.role != "system"]

    # Answers.

    def stop(self, stream: str) -> None:
        """End a running answer; what has been written stays."""
        if running := self._running.get(stream):
            running.stop()

    async def answer(
        self, ask: Ask, on_end: Callable[[Sequence[Answer]], None] = lambda answers: None
    ) -> AsyncGenerator[Update]:
        """Have something answered; `on_end` is told what came of it, unless it was refused.

        1. What is refused shows why in place of the answer, and its text is back in the box.
        2. What fails later keeps what was written and shows why below it.
        3. What is stopped keeps what was written.
        4. In the end the page shows what the database keeps.
        """
        created: int | None = None
        try:
            options = sampling_options([ask.options.get(parameter.name) for parameter in PARAMETERS])
            if not ask.models:
                raise BadRequestError("Pick a model first.")
            conversation = ask.conversation
            if conversation is None:
                conversation = created = await self.workbench.conversations.create(ask.models[0], ask.system)
            running, source = await self._asked(ask, conversation, options)
        except Exception as error:
            yield {"turns": render.refused(ask.text, ask.models, sentence(error)), "draft": ask.text}  # 1
            return
        events = PacedEvents(source)
        self._running[ask.stream] = events
        failure: Exception | None = None
        try:
            yield {
                "turns": [*running.unanswered, await self._growing(running)],
                "conversation": str(conversation),
                **({"list": await self.listed()} if created else {}),
            }
            untitled = created is not None  # the service names a conversation by its first turn
            async with aclosing(events.batches()) as batches:
                async for batch in batches:
                    for number, event in batch:
                        running.answers[number].add(event, self.clock())
                    began = self.clock()
                    update: Update = {"turns": [await self._growing(running)]}
                    events.interval = max(events.PACE, (self.clock() - began) / RENDER_SHARE)
                    if untitled and batch:
                        update["list"], untitled = await self.listed(), False
                    yield update
        except Exception as error:
            failure = error
        finally:
            self._running.pop(ask.stream, None)
            on_end(running.answers)
        yield await self._ended(running, conversation, created, failure)

    async def _asked(self, ask: Ask, conversation: int, options: Any) -> tuple[Running, AsyncIterator[Event]]:
        """The answers that are asked for, and the events that will fill them."""
        known = [] if ask.do == "send" and ask.conversation is None else await self._turns(conversation)
        answers = [Answer(model, self.clock()) for model in ask.models]
        if ask.do == "send":
            running = Running(answers, "answer", len(known), question=ask.text)
            running.unanswered = [("question", render.question(ask.text, "question"))]
            about = {"conversation_id": conversation, "system": ask.system, "options": options}
            if len(ask.models) > 1:
                return running, self.workbench.compare(ask.models, ask.text, **about)
            return running, _numbered(self.workbench.chat(ask.models[0], ask.text, **about))
        last = known[-1] if known else None
        if last is None:
            raise BadRequestError("There is nothing to answer yet. Write a message.")
        key, stays = (
            (render.key(last), len(known) - 1) if last.role == "assistant" else ("answer", len(known))
        )
        if ask.do == "regenerate" and len(ask.models) > 1:
            about = {"conversation_id": conversation, "system": ask.system, "options": options}
            return Running(answers, key, stays), self.workbench.compare(ask.models, None, **about)
        if ask.do == "regenerate":
            source = self.workbench.regenerate(
                conversation, model=ask.models[0], system=ask.system, options=options
            )
            return Running(answers, key, stays), _numbered(source)
        running = Running([Answer(last.model, self.clock())], key, stays, begun=last.content)
        return running, _numbered(self.workbench.continue_answer(conversation, options=options))

    async def _growing(self, running: Running) -> tuple[str, str]:
        html = await asyncio.to_thread(
            render.growing, running.answers, self.clock(), running.key, running.begun
        )
        return running.key, html

    async def _ended(
        self, running: Running, conversation: int, created: int | None, failure: Exception | None
    ) -> Update:
        """The page after an answer; cases as in `answer`."""
        why = sentence(failure) if failure else ""
        try:
            after = await self._turns(conversation)
            if created and not after:
                await self.workbench.conversations.delete(created)
        except Exception as error:  # the conversation was deleted meanwhile, or the database is gone
            why = why or sentence(error)
            return {"turns": [(running.key, render.failed(running.answers, running.key, why, running.begun))]}
        new = after[running.known :]
        if running.unanswered and all(turn.content != running.question for turn in new):  # 1
            models = [answer.model for answer in running.answers]
            refusal = render.refused(running.question, models, why or "Stopped before it began.")
            opened = {"conversation": ""} if created else {}
            return {"turns": refusal, "draft": running.question, "list": await self.listed(), **opened}
        kept = await asyncio.to_thread(_rendered, new)
        gone = ["question"]
        if after[-1].role == "user" or (why and not after[-1].error):  # 2 or 3, and the answer does not tell
            note = why or "Stopped before the answer began."
            kept.append(("answer", render.failed(running.answers, "answer", note, running.begun)))
        else:
            gone.append("answer")
        return {"turns": kept, "gone": gone, "list": await self.listed()}


def _rendered(turns: Sequence[MessageView]) -> list[tuple[str, str]]:
    return [(render.key(turn), render.turn(turn)) for turn in turns]


async def _numbered(events: AsyncGenerator[ChatEvent]) -> AsyncGenerator[Event]:
    async with aclosing(events):
        async for event in events:
            yield 0, event
