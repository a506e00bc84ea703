"""All queries of the catalog.

The methods block and may be called from any thread: use `asyncio.to_thread` on an event loop. Rows that
come out are values, detached from the database: changing one changes nothing, `update_…` does.
Every method raises UnavailableError when the database can't be read or written.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import ColumnElement, delete, exists, func, or_
from sqlmodel import Session, SQLModel, col, select

from workbench.catalog.database import Database
from workbench.catalog.hub import check_hub_source
from workbench.catalog.seed import top_up
from workbench.catalog.serving import check_model
from workbench.catalog.tables import Conversation, Message, Model, Request, Swap
from workbench.errors import BadRequestError, ConflictError, NotFoundError

MAX_TITLE = 200


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    """A line in the list of conversations."""

    conversation: Conversation
    message_count: int


class Catalog:
    """The queries on one open database; `close` it when done."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path, seed_file: Path | None = None) -> Self:
        """Open or create the database at `path` and list in it what the seed file newly offers.

        Raises:
            UnavailableError: see `Database`.
            BadRequestError: the seed file can't be used.
        """
        database = Database(path)
        try:
            if seed_file is not None:
                with database.writing() as session:
                    top_up(session, seed_file)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        self._database.close()

    # Models.

    def models(self) -> list[Model]:
        """All models, in the order they were added."""
        with self._database.reading() as session:
            return list(session.exec(select(Model).order_by(col(Model.id))))

    def model(self, name: str) -> Model:
        """Raises: NotFoundError."""
        with self._database.reading() as session:
            return _model(session, name)

    def add_model(self, model: Model) -> Model:
        """Store a new model and return it with its id.

        Raises:
            ConflictError: the name is taken, or the same hub revision is listed already.
            BadRequestError: the name, the hub id or a serving parameter can't be used.
        """
        check_model(model)
        if model.source_kind == "hub":
            check_hub_source(model.hub_id, model.revision)
        with self._database.writing() as session:
            if session.exec(select(Model).where(Model.name == model.name)).first():
                raise ConflictError(f'There is a model named "{model.name}" already: choose another name.')
            if model.source_kind == "hub" and (twin := _same_source(session, model)):
                raise ConflictError(f'{model.hub_id} is in the catalog already, as "{twin.name}".')
            session.add(model)
        return model

    def update_model(self, name: str, **changes: Any) -> Model:
        """Set columns of a model.

        Raises:
            NotFoundError: there is no such model.
            BadRequestError: a serving parameter can't be used.
        """
        with self._database.writing() as session:
            model = _model(session, name)
            _assign(model, changes)
            check_model(model)
        return model

    def remove_model(self, name: str) -> Model:
        """Take a model off the list and return what it was; its files stay. Raises: NotFoundError."""
        with self._database.writing() as session:
            model = _model(session, name)
            session.delete(model)
        return model

    def interrupt_downloads(self) -> list[Model]:
        """Mark downloads that an earlier process left under way as cancelled; return all unfinished ones."""
        with self._database.writing() as session:
            unfinished = ("queued", "downloading", "cancelled", "failed")
            models = list(session.exec(select(Model).where(col(Model.download_state).in_(unfinished))))
            for model in models:
                if model.download_state != "failed":
                    model.download_state = "cancelled"
        return models

    # Conversations.

    def conversations(self, search: str = "") -> list[ConversationSummary]:
        """Conversations with `search` in their title or a message, in any case; the latest first."""
        count = (
            select(func.count(col(Message.id)))
            .where(col(Message.conversation_id) == Conversation.id)
            .correlate(Conversation)
            .scalar_subquery()
        )
        query = select(Conversation, count)
        if search.strip():
            in_a_message = exists().where(
                col(Message.conversation_id) == Conversation.id, _contains(Message.content, search)
            )
            query = query.where(or_(_contains(Conversation.title, search), in_a_message))
        query = query.order_by(col(Conversation.updated_at).desc(), col(Conversation.id).desc())
        with self._database.reading() as session:
            return [ConversationSummary(conversation, count) for conversation, count in session.exec(query)]

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
            _assign(conversation, changes)
        return conversation

    def delete_conversation(self, conversation_id: int) -> None:
        """Delete a conversation and its messages. Raises: NotFoundError."""
        with self._database.writing() as session:
            deleted = session.exec(delete(Conversation).where(col(Conversation.id) == conversation_id))
            if not deleted.rowcount:
                raise _no_conversation(conversation_id)

    # Messages.

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

    def update_message(self, message_id: int, **changes: Any) -> Message:
        """Set columns of a message. Raises: NotFoundError."""
        with self._database.writing() as session:
            message = session.get(Message, message_id)
            if message is None:
                raise NotFoundError("The message is gone: its conversation was deleted.")
            _assign(message, changes)
        return message

    # Records.

    def record_swap(self, swap: Swap) -> Swap:
        """Store a swap and return it with its id."""
        with self._database.writing() as session:
            session.add(swap)
        return swap

    def recent_swaps(self, limit: int = 100) -> list[Swap]:
        """The latest first."""
        with self._database.reading() as session:
            query = select(Swap).order_by(col(Swap.started_at).desc(), col(Swap.id).desc())
            return list(session.exec(query.limit(limit)))

    def record_request(self, request: Request) -> Request:
        """Store a request and return it with its id."""
        with self._database.writing() as session:
            session.add(request)
        return request

    def recent_requests(self, limit: int = 100) -> list[Request]:
        """The latest first."""
        with self._database.reading() as session:
            query = select(Request).order_by(col(Request.received_at).desc(), col(Request.id).desc())
            return list(session.exec(query.limit(limit)))


def _model(session: Session, name: str) -> Model:
    model = session.exec(select(Model).where(Model.name == name)).first()
    if model is None:
        raise NotFoundError(f'There is no model named "{name}" in the catalog.')
    return model


def _same_source(session: Session, model: Model) -> Model | None:
    query = select(Model).where(Model.hub_id == model.hub_id, Model.revision == model.revision)
    return session.exec(query).first()


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


def _assign(row: SQLModel, changes: Mapping[str, Any]) -> None:
    for column, value in changes.items():
        setattr(row, column, value)
