"""Assembles the page and mounts it on the app."""

from pathlib import Path

import gradio as gr
from fastapi import FastAPI

from workbench.api.access_guard import AccessGuard
from workbench.api.body_limit import BodyLimit
from workbench.api.events import events_router
from workbench.api.logs import logs_router
from workbench.service import Workbench
from workbench.ui import chat_page, ids, keys_page, kv_page, latency_page, models_page, pool_page
from workbench.ui.actions import ADMIN_ACTIONS, build_act
from workbench.ui.chat_actions import ChatActions
from workbench.ui.chat_flow import ChatFlow
from workbench.ui.chat_routes import chat_router
from workbench.ui.guard import PageGuard
from workbench.ui.key_actions import KeyActions
from workbench.ui.live import from_browser, panel
from workbench.ui.login import login_router
from workbench.ui.render.live import sources
from workbench.ui.theme import theme

STATIC = Path(__file__).parent / "static"
STYLES = (
    "workbench.css",
    "chat.css",
    "kv.css",
    "latency.css",
    "pool.css",
)
SCRIPTS = (
    "workbench.js",
    "actions.js",
    "chat.js",
    "chat_answers.js",
    "chat_turns.js",
    "chat_models.js",
    "chat_side.js",
    "kv.js",
    "kv_map.js",
    "kv_tables.js",
    "kv_steps.js",
    "latency.js",
    "latency_charts.js",
    "latency_life.js",
    "models.js",
    "pool.js",
)
"""The first one makes `window.workbench`; those of single pages come after it."""
PAGES = ("/kv", "/latency", "/pool", "/models", "/keys")
"""Pages besides the chat at "/": one document, of which the script shows the page that the URL names."""

QUEUE_POLL_S = 1.0
"""No event of the page goes through Gradio's queue, which otherwise looks for some a thousand times a second
and takes a tenth of a core for it."""

TOPBAR = """<header><a class="brand" href="./"><span aria-hidden="true">◪</span> Workbench</a>
<nav aria-label="Pages"><a href="./" data-page="chat">Chat</a><a href="kv" data-page="kv">KV cache</a>
<a href="latency" data-page="latency">Latency</a><a href="pool" data-page="pool">Pool</a>
<a href="models" data-page="models">Models</a>
<a href="keys" data-page="keys" class="admin-only">Keys</a></nav></header>"""
TOOLS = """<button type="button" id="theme-button" aria-label="Dark or light">◐</button>
<button type="button" id="sign-out" aria-label="Sign out" title="Sign out" hidden>
<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M10 4H5v16h5M15 8l4 4-4 4M19 12H9"/></svg></button>"""


def build_page(workbench: Workbench, flow: ChatFlow) -> gr.Blocks:
    """The whole page over one workbench."""
    more = ChatActions(workbench, flow).known() | KeyActions(workbench).known()
    act = from_browser(build_act(workbench, more))
    with gr.Blocks(title="Workbench", analytics_enabled=False, fill_width=True, fill_height=True) as page:
        with gr.Row(elem_id=ids.TOPBAR):
            gr.HTML(TOPBAR, apply_default_css=False, js_on_load="workbench.topbar(element)")
            panel(ids.STATUS, act)
            gr.HTML(TOOLS, apply_default_css=False, js_on_load="workbench.tools(element)")
        chat_page.build(act)
        kv_page.build(act)
        latency_page.build(act)
        pool_page.build(act)
        models_page.build(act)
        keys_page.build(act)
    page.queue(default_concurrency_limit=None, api_open=False)
    page._queue.sleep_when_free = QUEUE_POLL_S
    return page


def mount(app: FastAPI, workbench: Workbench) -> FastAPI:
    """Serve the page at "/" and `PAGES`, and its event stream at "/events", logs at "/logs".

    Call it after all other routes are on `app`: the page takes every path that is left. What guards them
    stands before every route of `app`, whoever has added it.
    """
    settings = workbench.settings
    flow = ChatFlow(workbench)
    app.include_router(chat_router(workbench, flow))
    app.include_router(events_router(workbench, sources(workbench)))
    app.include_router(logs_router(workbench))
    app.include_router(login_router(workbench))
    app.add_middleware(PageGuard, pages=PAGES, frame_ancestors=settings.frame_ancestors)
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(AccessGuard, workbench=workbench, pages=("/", *PAGES))
    return gr.mount_gradio_app(
        app,
        build_page(workbench, flow),
        path="/",
        theme=theme(),
        head=_head(),
        root_path=settings.root_path or None,
        footer_links=[],
        run_history=False,
        favicon_path=STATIC / "favicon.svg",
        ssr_mode=False,
        show_error=True,
    )


def _head() -> str:
    """Style and script; not through Gradio's `css`, which would reach its own container alone."""
    style, script = (
        "\n".join((STATIC / name).read_text("utf-8") for name in names) for names in (STYLES, SCRIPTS)
    )
    buttons = ", ".join(f'[data-do="{name}"]' for name in sorted(ADMIN_ACTIONS))
    private = f".admin-only, [data-log], [data-model-do], {buttons}"
    hidden = f"body:not(.admin) :is({private}) {{ display: none !important; }}"
    return f"<style>{style}\n{hidden}</style><script>{script}</script>"
