"""The Latency page in a browser, over a fake: what comes from outside is text, and an empty page says so."""

import asyncio
import re
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.ui.browsing import open_page
from tests.ui.conftest import Server
from tests.ui.fake_workbench import MODELS, FakeWorkbench
from workbench.catalog.tables import Request

pytestmark = pytest.mark.e2e

HOSTILE = '<img src=x onerror="document.title=1">'


def run(work: Coroutine[Any, Any, None]) -> None:
    """In a thread of its own: Playwright's has an event loop that runs."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, work).result()


def failed(model: str) -> Request:
    return Request(
        request_id=model,
        model=model,
        received_at=time.time(),
        duration_s=1,
        finish_reason="error",
        error=model,
    )


def test_what_comes_from_outside_is_shown_as_text(page: Page, server: Server, workbench: FakeWorkbench):
    workbench.catalog[HOSTILE] = replace(MODELS[0], name=HOSTILE)
    open_page(page, server, "/latency?window=5m")
    expect(page.get_by_text("No requests yet.")).to_be_visible()
    expect(page.get_by_text("No switch yet.")).to_be_visible()
    run(workbench.measurements.record_request(failed(HOSTILE)))
    expect(page.get_by_test_id("request")).to_contain_text(HOSTILE)
    expect(page.get_by_role("region", name="One request", exact=True).locator(".bad")).to_have_text(HOSTILE)
    expect(page.locator("#latency [data-chart=requests] .readout")).to_have_text("100% failed")
    page.get_by_label("Model to show").select_option(HOSTILE)
    expect(page.get_by_test_id("request")).to_have_count(1)
    page.get_by_label("Model to show").select_option("adder")
    expect(page.get_by_test_id("request")).to_have_count(0)
    expect(page.locator("#page-latency :is(img, script)")).to_have_count(0)
    expect(page).to_have_title(re.compile(r"^[A-Z]\w+ · Workbench$"))
