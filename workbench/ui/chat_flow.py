"""What happens in a chat, free of Gradio: each step is a `ChatView` of what the page shows from then on.

Nothing is kept here between events but the running answer of each browser tab (`Session`): the page holds
the open conversation's id, the database holds the rest, so a reload or a new server changes nothing.
An answer stops when its tab leaves the conversation.

Steps are generators. Whoever iterates one asks for the next view when the last is on its way to the
browser, which is how a step knows that nothing of it can arrive after what follows it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from workbench.errors import BadRequestError
from workbench.service import MessageView, Workbench
from workbench.ui.actions import sentence
from workbench.ui.answer import Answer, PacedEvents
from workbench.ui.parameters import sampling_options
from workbench.ui.render import chat as render

Block = tuple[Literal["text", "html"], str]
"""A piece of a message: Markdown from a model, or HTML from `render`."""
Message = tuple[Literal["user", "assistant"], list[Block]]


@dataclass(slots=True)
class Session:
    """One browser tab, whose page shows one step at a time."""

    running: PacedEvents | None = None
    _page: asyncio.Lock = field(default_factory=asyncio.Lock)
    _coming: int = 0

    def stop(self) -> None:
        """End the running answer; what has been written stays."""
        if self.running:
            self.running.stop()

    @asynccontextmanager
    async def page(self) -> AsyncIterator[None]:
        """Hold the page, after the step that holds it: its answer is stopped, and its last view is out."""
        self._coming += 1
        self.stop()
        try:
            await self._page.acquire()
        finally:
            self._coming -= 1
        try:
            yield
        finally:
            self._page.release()

    @property
    def left(self) -> bool:
        """Whether another step waits for the page, so that the one that holds it should end."""
        return self._coming > 0


@dataclass(frozen=True, slots=True)
class Turn:
    """What the person sends."""

    text: str
    model: str | None
    conversation: int | None
    system: str
    parameters: Sequence[str | None]
    """Texts of the fields, in the order of `PARAMETERS`."""


@dataclass(frozen=True, slots=True)
class ChatView:
    """What changes on the page; None leaves a part as it is."""

    messages: list[Message] | None = None
    text: str | None = None
    conversation: str | None = None
    """Id of the open conversation, "" for a new one."""
    conversations: str | None = None
    """HTML of the list."""
    model: str | None = None
    system: str | None = None


@dataclass(slots=True)
class ChatFlow:
    """The steps of the chat page over one workbench."""

    workbench: Workbench
    clock: Callable[[], float] = time.monotonic

    async def open(self, session: Session, wanted: str) -> AsyncGenerator[ChatView]:
        """Show the conversation with this id, or a new one where there is none."""
        async with session.page():
            yield await self._opened(wanted)

    async def _opened(self, wanted: str) -> ChatView:
        known = {view.id: view for view in await self.workbench.conversations()}
        conversation = known.get(int(wanted)) if wanted.isdecimal() else None
        if conversation is None:
            return ChatView(messages=[], conversation="", conversations=await self._list(None), system="")
        stored = await self.workbench.messages(conversation.id)
        listed = {model.name for model in self.workbench.models}
        return ChatView(
            messages=_messages(stored),
            conversation=str(conversation.id),
            conversations=await self._list(conversation.id),
            model=conversation.model if conversation.model in listed else None,
            system=next((view.content for view in stored if view.role == "system"), ""),
        )

    async def refresh(self, session: Session, current: str) -> AsyncGenerator[ChatView]:
        """The list after a change to it; a new chat where the open conversation is gone."""
        if current and all(str(view.id) != current for view in await self.workbench.conversations()):
            async with session.page():
                yield await self._opened("")
        else:
            yield ChatView(conversations=await self._list(int(current) if current else None))

    async def send(self, session: Session, turn: Turn) -> AsyncGenerator[ChatView]:
        """One turn.

        1. A turn that is refused shows why in place of the answer, and its text is back in the box.
        2. A turn that fails later keeps what was written and shows why below it; its text is back in the
           box if the text was at fault.
        3. A stopped turn keeps what was written.
        4. Otherwise the page ends with what the database keeps.
        5. A turn whose tab leaves is stopped likewise, and shows nothing more.
        """
        async with session.page(), aclosing(self._answered(session, turn)) as views:
            async for view in views:
                yield view

    async def _answered(self, session: Session, turn: Turn) -> AsyncGenerator[ChatView]:
        answer = Answer(turn.model or "", self.clock())
        shown: list[Message] = [("user", [("html", render.user_text(turn.text))])]
        conversation, known = turn.conversation, 0
        try:
            if conversation is not None:
                before = await self._turns(conversation)
                shown, known = [*_messages(before), *shown], len(before)
            if turn.model is None:
                raise BadRequestError("Pick a model first.")
            options = sampling_options(turn.parameters)
            if conversation is None:
                conversation = await self.workbench.create_conversation(turn.model, turn.system)
        except Exception as error:
            yield ChatView(messages=[*shown, _failed(answer, error)])  # 1
            return

        events = PacedEvents(
            self.workbench.chat(
                turn.model,
                turn.text,
                conversation_id=conversation,
                system=turn.system,
                options=options,
            )
        )
        session.running = events
        begun = ChatView(
            messages=[*shown, _growing(answer, answer.started_at)],
            text="",
            conversation=str(conversation),
            conversations=await self._list(conversation),
        )
        if session.left:
            events.stop()  # 5, before there was anything to stop
        else:
            yield begun
        failure: Exception | None = None
        untitled = known == 0  # the service names a conversation by its first turn
        try:
            async with aclosing(events.batches()) as batches:
                async for batch in batches:
                    for event in batch:
                        answer.add(event, self.clock())
                    if not session.left:
                        titled = await self._list(conversation) if batch and untitled else None
                        untitled = untitled and not batch
                        yield ChatView(
                            messages=[*shown, _growing(answer, self.clock())], conversations=titled
                        )
        except Exception as error:
            failure = error
        session.running = None
        try:
            ended = await self._ended(turn, conversation, shown, known, answer, failure)
        except Exception as error:  # its conversation was deleted meanwhile, or the database is gone
            ended = ChatView(messages=[*shown, _failed(answer, failure or error)])
        if not session.left:
            yield ended

    async def _ended(
        self,
        turn: Turn,
        conversation: int,
        shown: list[Message],
        known: int,
        answer: Answer,
        failure: Exception | None,
    ) -> ChatView:
        """The page after a turn in a conversation that had `known` turns before; cases as in `send`."""
        after = await self._turns(conversation)
        last = _failed(answer, failure) if failure else _stopped(answer)
        if len(after) == known:  # 1, or stopped before the service took it
            opened = str(conversation)
            if turn.conversation is None:
                await self.workbench.delete_conversation(conversation)
                opened = ""
            return ChatView([*shown, last], turn.text, opened, await self._list(turn.conversation))
        messages = _messages(after)
        if after[-1].role == "user":  # 2 or 3, where nothing was kept of the answer
            messages.append(last)
        elif failure and not after[-1].error:  # 2
            messages[-1] = last
        return ChatView(
            messages=messages,
            text=turn.text if isinstance(failure, BadRequestError) else None,
            conversations=await self._list(conversation),
        )

    async def _turns(self, conversation: int) -> list[MessageView]:
        return [view for view in await self.workbench.messages(conversation) if view.role != "system"]

    async def _list(self, open_id: int | None) -> str:
        return render.conversation_list(await self.workbench.conversations(), open_id)


def _messages(stored: Sequence[MessageView]) -> list[Message]:
    messages: list[Message] = []
    for view in stored:
        if view.role == "user":
            messages.append(("user", [("html", render.user_text(view.content))]))
        elif view.role == "assistant":
            blocks: list[Block] = [("text", render.model_text(view.content))] if view.content else []
            if view.error:
                blocks.append(("html", render.error_note(view.error)))
            if view.stats and view.stats.completion_tokens:
                blocks.append(("html", render.stats_line(view.model, view.stats, failed=bool(view.error))))
            messages.append(("assistant", blocks or [("html", render.stopped_note())]))
    return messages


def _growing(answer: Answer, now: float) -> Message:
    if not answer.text:
        return "assistant", [("html", render.waiting(answer.progress, now - answer.started_at))]
    return "assistant", [("text", render.model_text(answer.text)), ("html", render.growing_line(answer, now))]


def _failed(answer: Answer, error: Exception) -> Message:
    blocks: list[Block] = [("text", render.model_text(answer.text))] if answer.text else []
    return "assistant", [*blocks, ("html", render.error_note(sentence(error)))]


def _stopped(answer: Answer) -> Message:
    if not answer.text:
        return "assistant", [("html", render.stopped_note())]
    return "assistant", [("text", render.model_text(answer.text))]
