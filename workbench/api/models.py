"""`GET /v1/models`: models and variants as OpenAI's clients list them, with where each is now."""

import time
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from workbench.api.routes import JsonRoute, failures
from workbench.errors import NotFoundError
from workbench.service import Workbench
from workbench.values import ModelView, Residency, VariantView


class ModelCard(BaseModel):
    """A name that requests may bear."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix time.")
    owned_by: str = "workbench"
    root: str = Field(description="The model behind the name: the name itself, or a variant's model.")
    max_model_len: int | None = Field(description="Tokens that prompt and answer may have together.")
    residency: Residency = Field(
        description="Where the model is: hub, downloading, disk, asleep, on its device …"
    )


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def models_router(workbench: Workbench) -> APIRouter:
    """The routes `/v1/models` and `/v1/models/{name}`."""
    router = APIRouter(tags=["OpenAI"], route_class=JsonRoute)
    began = int(time.time())

    def cards() -> list[ModelCard]:
        models = {model.name: model for model in workbench.models}
        variants = workbench.gateway.variants()
        return [
            *(_card(model, began) for model in models.values()),
            *(_variant_card(variant, models[variant.model], began) for variant in variants),
        ]

    @router.get("/v1/models", summary="Models and variants that requests may name", responses=failures())
    async def list_models() -> ModelList:
        return ModelList(data=cards())

    @router.get("/v1/models/{name:path}", summary="One model or variant", responses=failures(404))
    async def one_model(name: str) -> ModelCard:
        for card in cards():
            if card.id == name:
                return card
        raise NotFoundError(f"There is no model '{name[:100]}'. GET /v1/models lists what there is.")

    return router


def _card(model: ModelView, created: int) -> ModelCard:
    return ModelCard(
        id=model.name,
        created=created,
        root=model.name,
        max_model_len=model.context_length or None,
        residency=model.residency,
    )


def _variant_card(variant: VariantView, model: ModelView, created: int) -> ModelCard:
    return ModelCard(
        id=variant.name,
        created=created,
        root=model.name,
        max_model_len=variant.context_length or model.context_length or None,
        residency=model.residency,
    )
