"""`/admin/variants`: other names for models, with defaults of their own."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from workbench.api.routes import JsonRoute, failures
from workbench.service import Workbench
from workbench.values import VariantView

NAME = Field(min_length=1, max_length=96, description="Letters, digits and . _ - / :")


class Variant(BaseModel):
    """Another name for a model; without system prompt, options or context it is an alias."""

    model_config = ConfigDict(extra="forbid")

    name: str = NAME
    model: str = Field(min_length=1, max_length=96)
    system: str = Field("", max_length=100_000, description="For chats that bring no system prompt.")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Sampling options of requests that don't set them: temperature, max_tokens, stop …",
        examples=[{"temperature": 0.2, "max_tokens": 256}],
    )
    context_length: int | None = Field(
        None, ge=1, description="Tokens that prompt and answer may have together; the model's own by default."
    )


def variants_router(workbench: Workbench) -> APIRouter:
    """The routes below `/admin/variants`."""
    router = APIRouter(prefix="/admin/variants", tags=["Admin"], route_class=JsonRoute)

    @router.get("", summary="All variants", responses=failures())
    async def list_variants() -> list[Variant]:
        return [_shown(variant) for variant in workbench.gateway.variants()]

    @router.post("", summary="Give a model another name", status_code=201, responses=failures(404, 409))
    async def add_variant(variant: Variant) -> Variant:
        await workbench.gateway.add_variant(
            VariantView(variant.name, variant.model, variant.system, variant.options, variant.context_length)
        )
        return variant

    @router.delete("/{name:path}", summary="Take a variant away", status_code=204, responses=failures(404))
    async def remove_variant(name: str) -> None:
        await workbench.gateway.remove_variant(name)

    return router


def _shown(view: VariantView) -> Variant:
    return Variant(
        name=view.name,
        model=view.model,
        system=view.system,
        options=dict(view.options),
        context_length=view.context_length,
    )
