"""What the frames of each page hold: HTML by panel id, and plain data for the page's script."""

import asyncio
from collections.abc import Sequence
from typing import Any

from workbench.api.events import FrameSource, FrameView
from workbench.service import Workbench
from workbench.ui import ids
from workbench.ui.render import kv_frame, picker, workers
from workbench.ui.render import latency as latency_page
from workbench.ui.render import models as models_page
from workbench.ui.render import pool as pool_page
from workbench.values import ModelView, PoolSnapshot

LAST = 12
"""Switches and requests that the Latency page tells one by one."""


async def models(pool: PoolSnapshot, models: Sequence[ModelView]) -> dict[str, Any]:
    """The Models page."""
    return {"html": _top(pool) | {ids.CATALOG: models_page.catalog(models)}, "data": {}}


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

    def latency(choice: str) -> tuple[str, FrameView]:
        span, model = latency_page.choose(choice, workbench.models)

        async def view(pool: PoolSnapshot, models: Sequence[ModelView]) -> dict[str, Any]:
            report = workbench.measurements.report(model, span, last=LAST)
            return {
                "html": _top(pool) | {ids.LATENCY_SWITCHES: latency_page.switches(report.switches)},
                "data": latency_page.data(report, model, models),
            }

        return f"{span}:{model}", view

    async def pool(pool: PoolSnapshot, models: Sequence[ModelView]) -> dict[str, Any]:
        details = await workbench.pool_admin.details()
        return {
            "html": _top(pool)
            | {
                ids.DEVICES: pool_page.devices(pool, details, models),
                ids.WORKERS: workers.workers(pool, details),
                ids.WAITERS: pool_page.waiters(pool.waiters, details),
                ids.TIMELINE: workers.timeline(details),
                ids.DEPARTURES: workers.departures(details),
                ids.LOADER: pool_page.loader(models),
            }
        }

    return {
        "chat": FrameSource(chat),
        "kv": FrameSource(kv, restless=True),
        "latency": FrameSource(latency("")[1], restless=True, choose=latency),
        "pool": FrameSource(pool, restless=True),
        "models": FrameSource(models),
    }
