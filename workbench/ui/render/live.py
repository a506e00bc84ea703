"""What the frames of each page hold: HTML by panel id, and plain data for the page's script."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from workbench.api.events import FrameSource, FrameView, Sections
from workbench.service import Workbench
from workbench.ui import ids
from workbench.ui.render import keys as keys_page
from workbench.ui.render import kv_frame, picker, workers
from workbench.ui.render import latency as latency_page
from workbench.ui.render import models as models_page
from workbench.ui.render import pool as pool_page
from workbench.ui.render.kept import Kept
from workbench.values import ModelView, PoolSnapshot

LAST = 12
"""Switches and requests that the Latency page tells one by one."""
WINDOW_EVERY_S: Mapping[str, float] = {"5m": 1, "1h": 2, "24h": 5}
"""How often the charts of a window are drawn anew; its slots are longer."""
TIMELINE_EVERY_S = 3.0
"""How often the timeline moves when nothing happens, by half a percent of its width."""


def sources(workbench: Workbench) -> dict[str, FrameSource]:
    """By page."""
    return {
        "chat": FrameSource(_chat(workbench)),
        "kv": FrameSource(_kv(workbench), restless=True),
        "latency": FrameSource(
            _latency(workbench, *latency_page.choose("", ())),
            restless=True,
            choose=lambda choice: _chosen(workbench, choice),
        ),
        "pool": FrameSource(_pool(workbench), restless=True),
        "models": FrameSource(_models()),
        "keys": FrameSource(_keys(workbench), restless=True, scope="admin"),
    }


def _top(pool: PoolSnapshot) -> dict[str, str]:
    return {ids.STATUS: pool_page.status(pool)}


def _chat(workbench: Workbench) -> FrameView:
    kept = Kept()

    async def view(pool: PoolSnapshot, models: Sequence[ModelView]) -> Sections:
        menu = kept(
            "menu",
            (models, pool.waiters),
            lambda: picker.models(models, workbench.switch_estimates(), pool.waiters),
        )
        return {"html": _top(pool) | {ids.WARMING: pool_page.warming(pool)}, "data": {"models": menu}}

    return view


def _kv(workbench: Workbench) -> FrameView:
    async def view(pool: PoolSnapshot, _models: Sequence[ModelView]) -> Sections:
        views = sorted(await workbench.kv_caches(), key=lambda view: view.model)
        return await asyncio.to_thread(kv_frame.frame, _top(pool), pool, views)

    return view


def _chosen(workbench: Workbench, choice: str) -> tuple[str, FrameView]:
    span, model = latency_page.choose(choice, workbench.models)
    return f"{span}:{model}", _latency(workbench, span, model)


def _latency(workbench: Workbench, span: str, model: str) -> FrameView:
    kept = Kept()

    async def view(pool: PoolSnapshot, models: Sequence[ModelView]) -> Sections:
        measured = workbench.measurements
        switches, requests = measured.switches(model, LAST), measured.requests(model, LAST)
        window = kept(
            "window",
            (time.time() // WINDOW_EVERY_S[span], measured.past_read),
            lambda: latency_page.window(measured.picture(model, span)),
        )
        told = {
            "model": model,
            "models": kept("models", models, lambda: latency_page.names(models)),
            "now": latency_page.present(measured.now(model)),
            "past": {"read": measured.past_read, "since": measured.past_since},
            "requests": kept("requests", requests, lambda: latency_page.requests(requests)),
        }
        shown = kept("switches", switches, lambda: latency_page.switches(switches))
        return {"html": _top(pool) | {ids.LATENCY_SWITCHES: shown}, "data": window | told}

    return view


def _pool(workbench: Workbench) -> FrameView:
    kept = Kept()

    async def view(pool: PoolSnapshot, models: Sequence[ModelView]) -> Sections:
        details = await workbench.pool_admin.details()
        seen = (pool, details.machine, details.numbers)
        moves = (details.timeline, details.numbers, details.at // TIMELINE_EVERY_S)
        return {
            "html": _top(pool)
            | {
                ids.DEVICES: kept(
                    ids.DEVICES,
                    (*seen, models, details.giving_way),
                    lambda: pool_page.devices(pool, details, models),
                ),
                ids.WORKERS: kept(ids.WORKERS, seen, lambda: workers.workers(pool, details)),
                ids.WAITERS: kept(
                    ids.WAITERS,
                    (pool.waiters, details.numbers),
                    lambda: pool_page.waiters(pool.waiters, details),
                ),
                ids.TIMELINE: kept(ids.TIMELINE, moves, lambda: workers.timeline(details)),
                ids.DEPARTURES: kept(ids.DEPARTURES, details.departures, lambda: workers.departures(details)),
                ids.LOADER: kept(ids.LOADER, models, lambda: pool_page.loader(models)),
            }
        }

    return view


def _models() -> FrameView:
    kept = Kept()

    async def view(pool: PoolSnapshot, models: Sequence[ModelView]) -> Sections:
        return {
            "html": _top(pool) | {ids.CATALOG: kept(ids.CATALOG, models, lambda: models_page.catalog(models))}
        }

    return view


def _keys(workbench: Workbench) -> FrameView:
    kept = Kept()
    to_monotonic = time.monotonic() - time.time()  # what the page counts on; taken once, or ages would jump

    async def view(pool: PoolSnapshot, _models: Sequence[ModelView]) -> Sections:
        listed, required = workbench.access.listed(), workbench.access.required
        shown = kept(ids.KEYS, listed, lambda: keys_page.keys(listed, required, to_monotonic))
        return {"html": _top(pool) | {ids.KEYS: shown}}

    return view
