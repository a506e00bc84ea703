"""The queries of the catalog: models and records; conversations are in `chats`, keys in `keys`.

The methods block and may be called from any thread: use `asyncio.to_thread` on an event loop. Rows that
come out are values, detached from the database: changing one changes nothing, `update_…` does.
Every method raises UnavailableError when the database can't be read or written.
"""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import sqlalchemy
from sqlalchemy import Row, inspect
from sqlmodel import Session, col, func, select

from workbench.catalog.chats import Chats
from workbench.catalog.database import Database
from workbench.catalog.hub import check_hub_source
from workbench.catalog.keys import Keys
from workbench.catalog.seed import top_up
from workbench.catalog.serving import check_context, check_model, check_name
from workbench.catalog.tables import Model, Request, Swap, Variant
from workbench.errors import ConflictError, NotFoundError

Record = TypeVar("Record", Swap, Request)


class Catalog:
    """The queries on one open database; `close` it when done."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.chats = Chats(database)
        self.keys = Keys(database)

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
            if session.get(Variant, model.name):
                raise ConflictError(f'There is a variant named "{model.name}" already: choose another name.')
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
            model.sqlmodel_update(changes)
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

    # Variants.

    def variants(self) -> list[Variant]:
        """All variants, by name."""
        with self._database.reading() as session:
            return list(session.exec(select(Variant).order_by(col(Variant.name))))

    def add_variant(self, variant: Variant) -> Variant:
        """Store a new variant.

        Raises:
            NotFoundError: there is no such model.
            ConflictError: a model or a variant has the name.
            BadRequestError: the name or the context length can't be used.
        """
        check_name(variant.name)
        with self._database.writing() as session:
            model = _model(session, variant.model)
            taken = session.exec(select(Model).where(Model.name == variant.name)).first()
            if taken or session.get(Variant, variant.name):
                raise ConflictError(f'The name "{variant.name}" is taken: choose another one.')
            check_context(variant.context_length, model)
            session.add(variant)
        return variant

    def remove_variant(self, name: str) -> None:
        """Take a variant away. Raises: NotFoundError."""
        with self._database.writing() as session:
            variant = session.get(Variant, name)
            if variant is None:
                raise NotFoundError(f'There is no variant named "{name}".')
            session.delete(variant)

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

    def first_loads(self) -> list[Swap]:
        """The first load of each model that succeeded: no weights were prepared then."""
        with self._database.reading() as session:
            first = (
                select(func.min(Swap.id))
                .where(col(Swap.outcome) == "ok", col(Swap.woken).is_(False))
                .group_by(col(Swap.model))
            )
            return list(session.exec(select(Swap).where(col(Swap.id).in_(first)).order_by(col(Swap.id))))

    def record_request(self, request: Request) -> Request:
        """Store a request and return it with its id; clients may give the same request id again."""
        with self._database.writing() as session:
            if session.exec(select(Request.id).where(Request.request_id == request.request_id)).first():
                request.request_id += f"~{uuid.uuid4().hex[:8]}"
            session.add(request)
        return request

    def recent_requests(self, limit: int = 100) -> list[Request]:
        """The latest first."""
        with self._database.reading() as session:
            query = select(Request).order_by(col(Request.received_at).desc(), col(Request.id).desc())
            return list(session.exec(query.limit(limit)))

    def swaps_before(self, before: int | None, limit: int) -> list[Swap]:
        """Those recorded before the one with that id, or the last, the latest first."""
        return self._before(Swap, before, limit)

    def requests_before(self, before: int | None, limit: int) -> list[Request]:
        """Those recorded before the one with that id, or the last, the latest first."""
        return self._before(Request, before, limit)

    def _before(self, table: type[Record], before: int | None, limit: int) -> list[Record]:
        query = select(table).order_by(col(table.id).desc()).limit(limit)
        if before is not None:
            query = query.where(col(table.id) < before)
        with self._database.reading() as session:
            return list(session.exec(query))

    def requests_between(self, since: float, until: float, limit: int) -> Sequence[Row[Any]]:
        """Requests that arrived in that time, the latest first, as light rows: there may be many."""
        return self._between(Request.received_at, since, until, limit)

    def swaps_between(self, since: float, until: float, limit: int) -> Sequence[Row[Any]]:
        """Swaps that began in that time, the latest first, as light rows."""
        return self._between(Swap.started_at, since, until, limit)

    def _between(self, time: float, since: float, until: float, limit: int) -> Sequence[Row[Any]]:
        column = col(time)
        query = sqlalchemy.select(*inspect(column).parent.columns).where(column >= since, column < until)
        with self._database.reading() as session:
            return session.execute(query.order_by(column.desc()).limit(limit)).all()


def _model(session: Session, name: str) -> Model:
    model = session.exec(select(Model).where(Model.name == name)).first()
    if model is None:
        raise NotFoundError(f'There is no model named "{name}" in the catalog.')
    return model


def _same_source(session: Session, model: Model) -> Model | None:
    query = select(Model).where(Model.hub_id == model.hub_id, Model.revision == model.revision)
    return session.exec(query).first()
