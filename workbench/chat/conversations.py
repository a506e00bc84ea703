"""The kept conversations, for page, API and notebooks. Nothing here waits for a model."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from workbench.catalog.chats import Chats
from workbench.catalog.tables import Conversation, Figures, Message
from workbench.chat import transfer
from workbench.views import AnswerStats, AnswerView, ConversationView, MessageView, PresetView


class Conversations:
    """Conversations, their turns, and presets; database work runs in threads.

    Every method that takes an id raises NotFoundError where nothing has it.
    """

    def __init__(self, chats: Chats, check_free: Callable[[int], None]) -> None:
        self._chats = chats
        self._check_free = check_free

    async def find(self, search: str = "") -> list[ConversationView]:
        """Conversations with `search` in title or text, the latest first."""
        return [_view(row) for row in await asyncio.to_thread(self._chats.conversations, search)]

    async def get(self, conversation_id: int) -> ConversationView:
        """One conversation."""
        return _view(await asyncio.to_thread(self._chats.conversation, conversation_id))

    async def create(self, model: str = "", system: str = "") -> int:
        """Make an empty conversation and return its id."""
        row = await asyncio.to_thread(self._chats.create_conversation, model=model, system=system)
        return row.id

    async def messages(self, conversation_id: int) -> list[MessageView]:
        """The turns of a conversation, oldest first, after its system prompt if it has one."""
        conversation = await asyncio.to_thread(self._chats.conversation, conversation_id)
        rows = await asyncio.to_thread(self._chats.messages, conversation_id)
        system = MessageView(id=0, role="system", content=conversation.system)
        return [system] * bool(conversation.system) + [_turn(row) for row in rows]

    async def rename(self, conversation_id: int, title: str) -> None:
        """Give a conversation another title."""
        await asyncio.to_thread(self._chats.rename_conversation, conversation_id, title)

    async def delete(self, conversation_id: int) -> None:
        """Delete a conversation and its turns; `restore` brings the last ones back."""
        await asyncio.to_thread(self._chats.delete_conversation, conversation_id)

    async def restore(self, conversation_id: int) -> None:
        """Bring a deleted conversation back, as it was.

        Raises:
            NotFoundError: several others were deleted since, or Workbench was started anew.
        """
        await asyncio.to_thread(self._chats.restore_conversation, conversation_id)

    async def edit(self, message_id: int, content: str) -> None:
        """Change what a turn says, the user's or the model's; later turns stay as they are.

        Raises:
            BadRequestError: nothing would be left of it.
            ConflictError: its conversation is being answered.
        """
        await self._check_message(message_id)
        await asyncio.to_thread(self._chats.edit_message, message_id, content)

    async def choose(self, message_id: int, version: int) -> None:
        """Let another version of an answer be the one that counts, from 0.

        Raises:
            ConflictError: the conversation is being answered.
        """
        await self._check_message(message_id)
        await asyncio.to_thread(self._chats.choose_version, message_id, version)

    async def _check_message(self, message_id: int) -> None:
        """Refuse a change beneath an answer, which may be the continuation of what would change."""
        message = await asyncio.to_thread(self._chats.message, message_id)
        self._check_free(message.conversation_id)

    async def branch(self, message_id: int) -> int:
        """Copy the conversation up to and with a turn; returns the copy's id."""
        return (await asyncio.to_thread(self._chats.branch, message_id)).id

    async def export(self, conversation_id: int, form: transfer.Format) -> str:
        """A conversation as the text of a file."""
        conversation = await asyncio.to_thread(self._chats.conversation, conversation_id)
        messages = await asyncio.to_thread(self._chats.messages, conversation_id)
        write = transfer.to_json if form == "json" else transfer.to_markdown
        return await asyncio.to_thread(write, conversation, messages)

    async def import_text(self, text: str) -> int:
        """Store a conversation from the text of a file, JSON or Markdown; returns its id.

        Raises:
            BadRequestError: it can't be read.
        """
        conversation, messages = await asyncio.to_thread(transfer.from_text, text)
        row = await asyncio.to_thread(self._chats.import_conversation, conversation, messages)
        return row.id

    async def presets(self) -> list[PresetView]:
        """System prompts with sampling options, by name."""
        rows = await asyncio.to_thread(self._chats.presets)
        return [PresetView(row.name, row.system, row.options) for row in rows]

    async def save_preset(self, name: str, system: str, options: Mapping[str, Any]) -> None:
        """Make a preset, or change the one of that name. Raises: BadRequestError without a name."""
        await asyncio.to_thread(self._chats.save_preset, name, system, options)

    async def delete_preset(self, name: str) -> None:
        """Raises: NotFoundError."""
        await asyncio.to_thread(self._chats.delete_preset, name)


def _view(row: Conversation) -> ConversationView:
    return ConversationView(
        id=row.id,
        title=row.title or "New chat",
        model=row.model,
        updated_at=row.updated_at,
        system=row.system,
        options=row.options,
    )


def _turn(row: Message) -> MessageView:
    versions = [Message(role="assistant", **version) for version in row.versions]
    if versions:
        versions[row.version] = row
    return MessageView(
        id=row.id,
        role=row.role,
        content=row.content,
        model=row.model,
        stats=_stats(row),
        error=row.error,
        versions=tuple(AnswerView(each.content, each.model, _stats(each), each.error) for each in versions),
        version=row.version,
        compared=row.compared,
    )


def _stats(row: Message) -> AnswerStats:
    figures = ((name, getattr(row, name)) for name in Figures.model_fields)
    return AnswerStats(**{name: value for name, value in figures if value is not None})
