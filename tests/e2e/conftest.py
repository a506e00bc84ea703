"""One real application for all tests that don't stop it, and the browser of the tests over the fake."""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page

from tests.app_process import AppProcess, running_app
from tests.catalog.hub_server import HubServer, Repository
from tests.conftest import DEMO
from tests.ui.browsing import open_page
from tests.ui.conftest import browser_type_launch_args, context, page

__all__ = ["browser_type_launch_args", "context", "page"]

PHONE = {"width": 390, "height": 844}
HUB_MODELS = {
    "smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "smollm2-360m": "HuggingFaceTB/SmolLM2-360M-Instruct",
}
"""Models of the catalog that the hub of these tests has, by name; their files are those of the adder."""


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    """The hub that the application downloads from."""
    files = {path.name: path.read_bytes() for path in (DEMO / "adder").iterdir()}
    with HubServer({hub_id: Repository(files) for hub_id in HUB_MODELS.values()}) as server:
        yield server


@pytest.fixture(scope="session")
def application(tmp_path_factory: pytest.TempPathFactory, hub: HubServer) -> Iterator[AppProcess]:
    """The running application with the demo models. A test leaves no worker dead."""
    data: Path = tmp_path_factory.mktemp("application")
    with running_app(data, "--hub-endpoint", hub.endpoint) as app:
        httpx.get(app.url, timeout=60)
        app.wait_for("worker is warm")
        yield app


@pytest.fixture(params=[None, PHONE], ids=["desktop", "phone"])
def chat(request: pytest.FixtureRequest, page: Page, application: AppProcess) -> Iterator[Page]:
    """The chat page, on a wide screen and on a phone; no script of it may throw an error."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    if request.param:
        page.set_viewport_size(request.param)
    open_page(page, application)
    yield page
    assert errors == []


@contextlib.contextmanager
def frozen(pids: Iterable[int]) -> Iterator[None]:
    """Stop processes for a while, as they are."""
    held = list(pids)
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in held:
            os.kill(pid, signal.SIGCONT)
