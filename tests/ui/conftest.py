"""The page over a fake workbench, served by uvicorn in a thread, in the Chromium that `scripts` finds."""

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, Error, Page, Request

from scripts.chromium import find_chromium
from tests.ui.browsing import open_page
from tests.ui.fake_workbench import FakeWorkbench


class Server:
    """One page on a free port, or on the port of one that is gone."""

    def __init__(self, workbench: FakeWorkbench, port: int = 0) -> None:
        from workbench.ui.app import mount

        self.workbench = workbench
        config = uvicorn.Config(
            mount(FastAPI(), workbench), port=port, log_level="warning", timeout_graceful_shutdown=0
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> "Server":
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with Server(FakeWorkbench()) as running:
        yield running


@pytest.fixture
def workbench(server: Server) -> FakeWorkbench:
    """The fake behind the page, as new."""
    server.workbench.reset()
    return server.workbench


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict) -> dict:
    args = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    return {**browser_type_launch_args, "executable_path": find_chromium(), "args": args}


@pytest.fixture(scope="session")
def context(browser: Browser, browser_context_args: dict) -> Iterator[BrowserContext]:
    """One profile for all tests: a page is there in half the time when its scripts are in the cache."""
    context = browser.new_context(**browser_context_args)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A new tab; what it leaves behind in the profile goes with it."""
    page = context.new_page()
    yield page
    with contextlib.suppress(Error):  # it shows no page that has a storage
        page.evaluate("localStorage.clear()")
    for tab in context.pages:  # and those that the test opened beside it
        tab.close()
    context.clear_permissions()


@pytest.fixture
def chat(page: Page, server: Server, workbench: FakeWorkbench) -> Page:
    """The chat page, ready; it must not have talked to another host, nor thrown an error, at the end."""
    strays, errors = [], []

    def note(request: Request) -> None:
        blocked = "csp" in (request.failure or "").lower()  # by the page's own policy: nothing was sent
        if not is_own(request.url, server) and not blocked:
            strays.append(request.url)

    page.on("requestfinished", note)
    page.on("requestfailed", note)
    page.on("pageerror", lambda error: errors.append(str(error)))
    open_page(page, server)
    yield page
    assert strays == []
    assert errors == []


def is_own(url: str, server: Server) -> bool:
    return url.startswith((f"{server.url}/", "data:", "blob:"))
