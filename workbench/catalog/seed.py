"""The models a catalog offers from the start, from a TOML file.

Each name is offered once and then remembered, so a later start adds only what the file newly names: it
brings back no removed model and overwrites no edit. A local entry waits, unremembered, until its folder
passes inspection.
"""

import logging
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from sqlmodel import Session, select

from workbench.catalog.hub import check_hub_source
from workbench.catalog.inspection import inspect_folder
from workbench.catalog.serving import check_model
from workbench.catalog.tables import Model, SeededModel
from workbench.errors import BadRequestError

_log = logging.getLogger(__name__)


class _Entry(BaseModel):
    """One `[[models]]` table: `hub_id` with its figures, or `folder`, relative to the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    description: str
    hub_id: str = ""
    folder: str = ""
    architecture: str = ""
    parameters: int = 0
    weight_bytes: int = 0
    context_length: int = 0
    licence: str = ""
    chat_template: bool = True
    kv_cache_bytes: int | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "_Entry":
        if bool(self.hub_id) == bool(self.folder):
            raise ValueError("give either hub_id or folder")
        return self


def top_up(session: Session, seed_file: Path) -> None:
    """Add the models of `seed_file` that were never offered to this catalog.

    Raises:
        BadRequestError: the file is missing or wrong; the message says where.
    """
    offered = set(session.exec(select(SeededModel.name)))
    listed = session.exec(select(Model)).all()
    names = {model.name for model in listed}
    sources = {(model.hub_id, model.revision) for model in listed if model.source_kind == "hub"}
    for entry in _read(seed_file):
        if entry.name in offered:
            continue
        model = _hub_model(entry) if entry.hub_id else _local_model(entry, seed_file.parent)
        if model is None:
            continue
        session.add(SeededModel(name=entry.name))
        if model.name not in names and (model.hub_id, model.revision) not in sources:
            session.add(model)


def _read(seed_file: Path) -> list[_Entry]:
    try:
        document: dict[str, Any] = tomllib.loads(seed_file.read_text())
        entries = [_Entry(**table) for table in document["models"]]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise BadRequestError(
            f"The seed file {seed_file} can't be used ({error}): "
            "correct it, or name another with WORKBENCH_SEED_FILE."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadRequestError(
            f"The seed file {seed_file} can't be used ({place} {first['msg']}): correct it."
        ) from error
    return entries


def _hub_model(entry: _Entry) -> Model:
    model = Model(source_kind="hub", **entry.model_dump())
    check_model(model)
    check_hub_source(model.hub_id, model.revision)
    return model


def _local_model(entry: _Entry, base: Path) -> Model | None:
    try:
        facts = inspect_folder(base / entry.folder, (base.resolve(),))
    except BadRequestError as error:
        _log.info("%s is not listed yet: %s", entry.name, error)
        return None
    model = Model(
        name=entry.name,
        description=entry.description,
        source_kind="local",
        kv_cache_bytes=entry.kv_cache_bytes,
        **facts.columns(),
    )
    check_model(model)
    return model
