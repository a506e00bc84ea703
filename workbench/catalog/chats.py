"""The queries of conversations: turns, versions of answers, branches, presets.

As those of the catalog: the methods block, may be called from any thread, and hand out detached rows.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, or_
from sqlmodel import Session, col, select

from workbench.catalog.database import Database
from workbench.catalog.tables import Conversation, Message, Preset
from workbench.errors import BadRequestError, NotFoundError

MAX_TITLE = 200
BRANCHED = " (branch)"
MOST_RESTORABLE = 10


class Chats:
    """The conversations of one open database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._deleted: dict[int, list[dict[str, Any]]] = {}
        """The conversations that were deleted last, as they were, each followed by its messages."""

    def conversations(self, search: str = "") -> list[Conversation]:
        """Conversations with `search` in their title or a message, in any case; the latest first."""
        query = select(Conversation)
        if search.strip():
            in_a_message = exists().where(
                col(Message.conversation_id) == Conversation.id, _contains(Message.content, search)
            )
            query = query.where(or_(_contains(Conversation.title, search), in_a_message))
        query = query.order_by(col(Conversation.updated_at).desc(), col(Conversation.id).desc())
        with self._database.reading() as session:
            return list(session.exec(query))

    def conversation(self, conversation_id: int) -> Conversation:
        """Raises: NotFoundError."""
        with self._database.reading() as session:
            return _conversation(session, conversation_id)

    def create_conversation(
        self, title: str = "", model: str = "", system: str = "", options: Mapping[str, Any] | None = None
    ) -> Conversation:
        """Raises: BadRequestError for a title that is too long."""
        conversation = Conversation(
            title=_title(title), model=model, system=system, options=dict(options or {})
        )
        with self._database.writing() as session:
            session.add(conversation)
        return conversation

    def rename_conversation(self, conversation_id: int, title: str) -> Conversation:
        """Raises: NotFoundError; BadRequestError for a title that is empty or too long."""
        if not title.strip():
            raise BadRequestError("The title is empty: give the conversation a name.")
        return self.update_conversation(conversation_id, title=_title(title))

    def update_conversation(self, conversation_id: int, **changes: Any) -> Conversation:
        """Set columns of a conversation. Raises: NotFoundError."""
        with self._database.writing() as session:
            conversation = _conversation(session, conversation_id)
            conversation.sqlmodel_update(changes)
        return conversation

    def delete_conversation(self, conversation_id: int) -> None:
        """Delete a conversation and its messages; the last ones can be restored. Raises: NotFoundError."""
        with self._database.writing() as session:
            rows = [_conversation(session, conversation_id), *_messages(session, conversation_id)]
            deleted = [row.model_dump() for row in rows]
            session.exec(delete(Conversation).where(col(Conversation.id) == conversation_id))
        self._deleted[conversation_id] = deleted
        while len(self._deleted) > MOST_RESTORABLE:
            del self._deleted[next(iter(self._deleted))]

    def restore_conversation(self, conversation_id: int) -> None:
        """Bring back one of those that were deleted last, since the database was opened.

        Raises:
            NotFoundError: it was deleted too long ago, or is back already.
        """
        with self._database.writing() as session:
            if conversation_id not in self._deleted:
                raise NotFoundError("The conversation can't be brought back any more.")
            conversation, *messages = self._deleted[conversation_id]
            session.add(Conversation(**conversation))
            session.flush()
            session.add_all([Message(**message) for message in messages])
        self._deleted.pop(conversation_id, None)

    def take_back(self, conversation_id: int, position: int) -> None:
        """Delete the turns of a conversation from a position on."""
        at_or_after = (
            col(Message.conversation_id) == conversation_id,
            col(Message.position) >= position,
        )
        with self._database.writing() as session:
            session.exec(delete(Message).where(*at_or_after))

    def messages(self, conversation_id: int) -> list[Message]:
        """The turns of a conversation in order. Raises: NotFoundError."""
        with self._database.reading() as session:
            _conversation(session, conversation_id)
            return _messages(session, conversation_id)

    def take_turn(
        self,
        conversation_id: int | None,
        text: str,
        *,
        model: str,
        system: str | None,
        options: Mapping[str, Any],
        title: str,
    ) -> tuple[Conversation, list[Message]]:
        """Add a user's turn to a conversation, which notes what it was asked with, in one transaction.

        Args:
            conversation_id: the conversation that goes on, or None for a new one.
            text: what the user says.
            model: whom it is said to.
            system: system prompt from now on, or None for what it is already.
            options: sampling options.
            title: for a conversation that has none.

        Returns:
            The conversation and the turns before this one, in order.

        Raises:
            NotFoundError: there is no such conversation.
        """
        with self._database.writing() as session:
            if conversation_id is None:
                conversation = Conversation()
                session.add(conversation)
                session.flush()
            else:
                conversation = _conversation(session, conversation_id)
            conversation.model, conversation.options = model, dict(options)
            conversation.system = conversation.system if system is None else system
            conversation.title = conversation.title or title
            conversation.updated_at = time.time()
            history = _messages(session, conversation.id)
            turn = Message(conversation_id=conversation.id, role="user", content=text, model=model)
            turn.position = history[-1].position + 1 if history else 0
            session.add(turn)
        return conversation, history

    def append_message(self, message: Message) -> Message:
        """Add a turn to the end of its conversation, on disk when this returns; its position is set here.

        Raises:
            NotFoundError: there is no such conversation, or no more.
        """
        with self._database.writing() as session:
            conversation = _conversation(session, message.conversation_id)
            last = select(func.max(Message.position)).where(
                Message.conversation_id == message.conversation_id
            )
            position = session.exec(last).one()
            message.position = 0 if position is None else position + 1
            conversation.updated_at = time.time()
            session.add(message)
        return message

    def message(self, message_id: int) -> Message:
        """One turn. Raises: NotFoundError."""
        with self._database.reading() as session:
            return _message(session, message_id)

    def edit_message(self, message_id: int, content: str) -> Message:
        """Change what a turn says. Raises: NotFoundError; BadRequestError where nothing would be left."""
        if not content.strip():
            raise BadRequestError("The message would be empty. Write something, or delete the conversation.")
        with self._database.writing() as session:
            message = _message(session, message_id)
            message.content = content
        return message

    def add_version(self, message_id: int, answer: Message) -> Message:
        """Put another answer in the place of one, which stays an earlier version. Raises: NotFoundError."""
        with self._database.writing() as session:
            message = _message(session, message_id)
            versions = _versions(message)
            message.versions = [*versions, answer.as_version()]
            _show(message, len(versions))
            _conversation(session, message.conversation_id).updated_at = time.time()
        return message

    def add_places(self, message_id: int, answers: Sequence[Message]) -> Message:
        """Keep places for further versions, to be compared with those there are. Raises: NotFoundError."""
        with self._database.writing() as session:
            message = _message(session, message_id)
            versions = _versions(message)
            message.versions = [*versions, *(answer.as_version() for answer in answers)]
            message.compared = True
            _show(message, len(versions))
        return message

    def restore_answer(self, answer: Message) -> None:
        """Have an answer be as it was, with the versions it had."""
        with self._database.writing() as session:
            session.merge(answer)

    def set_version(self, message_id: int, number: int, answer: Message) -> Message:
        """Fill in a version whose place was kept. Raises: NotFoundError."""
        with self._database.writing() as session:
            message = _message(session, message_id)
            versions = _versions(message)
            versions[number] = answer.as_version()
            message.versions = versions
            _show(message, message.version)
        return message

    def choose_version(self, message_id: int, number: int) -> Message:
        """Let another version of an answer be the one that counts. Raises: NotFoundError."""
        with self._database.writing() as session:
            message = _message(session, message_id)
            versions = _versions(message)
            if not 0 <= number < len(versions):
                raise NotFoundError(f"The answer has no version {number + 1}. Reload the page.")
            message.versions = versions
            _show(message, number)
        return message

    def extend_message(self, message_id: int, more: Message) -> Message:
        """Add the continuation of an answer to it, with the figures of both. Raises: NotFoundError."""
        with self._database.writing() as session:
            message = _message(session, message_id)
            message.content += more.content
            message.completion_tokens = (message.completion_tokens or 0) + (more.completion_tokens or 0)
            message.duration_s = (message.duration_s or 0.0) + (more.duration_s or 0.0)
            message.finish_reason, message.error = more.finish_reason, more.error
            message.tokens_per_s = more.tokens_per_s or message.tokens_per_s
            _conversation(session, message.conversation_id).updated_at = time.time()
        return message

    def branch(self, message_id: int) -> Conversation:
        """Copy a conversation up to and with a turn. Raises: NotFoundError."""
        with self._database.writing() as session:
            last = _message(session, message_id)
            whole = _conversation(session, last.conversation_id)
            title = whole.title if whole.title.endswith(BRANCHED) else f"{whole.title}{BRANCHED}"
            branch = Conversation(
                title=title[-MAX_TITLE:], model=whole.model, system=whole.system, options=dict(whole.options)
            )
            session.add(branch)
            session.flush()
            for message in _messages(session, whole.id):
                if message.position <= last.position:
                    copied = message.model_dump(exclude={"id", "conversation_id"})
                    session.add(Message(**copied, conversation_id=branch.id))
        return branch

    def import_conversation(self, conversation: Conversation, messages: Sequence[Message]) -> Conversation:
        """Store a conversation from elsewhere, with its turns in the order given."""
        conversation.title = _title(conversation.title)
        with self._database.writing() as session:
            session.add(conversation)
            session.flush()
            for position, message in enumerate(messages):
                message.conversation_id, message.position = conversation.id, position
                session.add(message)
        return conversation

    # Presets.

    def presets(self) -> list[Preset]:
        """By name."""
        with self._database.reading() as session:
            return list(session.exec(select(Preset).order_by(func.casefold(col(Preset.name)))))

    def save_preset(self, name: str, system: str, options: Mapping[str, Any]) -> Preset:
        """Make a preset, or change the one of that name. Raises: BadRequestError for a name without text."""
        name = _title(name)
        if not name:
            raise BadRequestError("The preset has no name: give it one.")
        with self._database.writing() as session:
            preset = session.exec(select(Preset).where(Preset.name == name)).first() or Preset(name=name)
            preset.system, preset.options = system, dict(options)
            session.add(preset)
        return preset

    def delete_preset(self, name: str) -> None:
        """Raises: NotFoundError."""
        with self._database.writing() as session:
            if not session.exec(delete(Preset).where(col(Preset.name) == name)).rowcount:
                raise NotFoundError(f'There is no preset named "{name}".')


def _versions(message: Message) -> list[dict[str, Any]]:
    """All versions of an answer, the present one as it is now."""
    versions = list(message.versions) or [{}]
    versions[message.version] = message.as_version()
    return versions


def _show(message: Message, number: int) -> None:
    message.version = number
    message.sqlmodel_update(message.versions[number])


def _message(session: Session, message_id: int) -> Message:
    message = session.get(Message, message_id)
    if message is None:
        raise NotFoundError("The message is gone: its conversation was deleted.")
    return message


def _conversation(session: Session, conversation_id: int) -> Conversation:
    conversation = session.get(Conversation, conversation_id)
    if conversation is None:
        raise _no_conversation(conversation_id)
    return conversation


def _messages(session: Session, conversation_id: int) -> list[Message]:
    query = select(Message).where(Message.conversation_id == conversation_id)
    return list(session.exec(query.order_by(col(Message.position))))


def _no_conversation(conversation_id: int) -> NotFoundError:
    return NotFoundError(f"There is no conversation {conversation_id}: it may have been deleted.")


def _title(title: str) -> str:
    title = title.strip()
    if len(title) > MAX_TITLE:
        raise BadRequestError(f"The title has {len(title)} characters, and may have {MAX_TITLE}: shorten it.")
    return title


def _contains(column: str, text: str) -> ColumnElement[bool]:
    return func.instr(func.casefold(column), text.strip().casefold()) > 0
