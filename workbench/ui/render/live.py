"""What the frames of each page hold: HTML by panel id, and plain data for the page's script."""

import asyncio
from collections.abc import Sequence
from typing import Any

from workbench.api.events import FrameSource
from workbench.service import ModelView, PoolSnapshot, Workbench
from workbench.ui import ids
from workbench.ui.render import kv_frame, picker
from workbench.ui.render import latency as latency_page
from workbench.ui.render import models as models_page
from workbench.ui.render import pool as pool_page


async def pool(pool: PoolSnapshot, models: Sequence[ModelView]) -> dict[str, Any]:
    """The Pool page."""
    return {
        "html": _top(pool)
        | {
            ids.DEVICES: pool_page.devices(pool),
            ids.WORKERS: pool_page.workers(pool.workers),
            ids.WAITERS: pool_page.waiters(pool.waiters),
            ids.LOADER: pool_page.loader(models),
        }
    }


async def models(pool: PoolSnapshot, models: Sequence[ModelView]) -> dict[str, Any]:
    """The Models page."""
    return {"html": _top(pool) | {ids.CATALOG: models_page.catalog(models)}}


def _top(pool: PoolSnapshot) -> dict[str, str]:
    return {ids.STATUS: pool_page.status(pool)}


def sources(workbench: Workbench) -> dict[str, FrameSource]:
    """By page."""

    async def chat(pool: PoolSnapshot, models: Sequence[ModelView]) -> dict[str, Any]:
        return {
            "html": _top(pool) | {ids.WARMING: pool_page.warming(pool)},
            "data": {"models": picker.models(models, workbench.switch_estimates())},
        }

    async def kv(pool: PoolSnapshot, _models: Sequence[ModelView]) -> dict[str, Any]:
        views = sorted(await workbench.kv_caches(), key=lambda view: view.model)
        return await asyncio.to_thread(kv_frame.frame, _top(pool), pool, views)

    async def latency(pool: PoolSnapshot, _models: Sequence[ModelView]) -> dict[str, Any]:
        return {"html": _top(pool) | {ids.LATENCY: latency_page.no_requests()}}

    return {
        "chat": FrameSource(chat),
        "kv": FrameSource(kv, restless=True),
        "latency": FrameSource(latency, restless=True),
        "pool": FrameSource(pool),
        "models": FrameSource(models),
    }
