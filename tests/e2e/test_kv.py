"""The KV cache page over the real engine: a request is watched while it is answered."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess
from tests.e2e.conftest import PHONE
from tests.e2e.test_journey import LOAD_MS, ask_story, slowed
from tests.ui.browsing import open_page, pick, send

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(300)]


def open_kv(page: Page, application: AppProcess):
    page.goto(f"{application.url}/kv")
    section = page.locator(".kv-model[data-name=storyteller]")
    expect(section).to_be_visible(timeout=LOAD_MS)
    return section


def figure(section, name: str):
    return section.locator(f"[data-testid=kv-figure][data-name='{name}'] .kv-value")


def test_a_request_is_seen_in_the_cache_while_it_is_answered(page: Page, application: AppProcess):
    open_page(page, application)
    pick(page, "storyteller")
    ask_story(page, "Tell me a story about a fox")
    watcher = page.context.new_page()
    section = open_kv(watcher, application)
    expect(figure(section, "In the batch")).to_have_text("0")
    expect(section.get_by_text("No request holds blocks now.")).to_be_visible()
    with slowed(application.worker_of("storyteller")):
        send(page, "Tell me a story about a bear and a river and a moon")
        row = section.get_by_test_id("kv-request")
        expect(row).to_have_count(1, timeout=LOAD_MS)
        expect(row).to_contain_text("decode", timeout=LOAD_MS)
        expect(figure(section, "In the batch")).to_have_text("1")
        expect(figure(section, "Blocks in use")).not_to_have_text("0 %")
        block = row.locator(".kv-chips span").first.inner_text()
        section.locator(".kv-map").focus()
        watcher.keyboard.press("Home")
        for _ in range(int(block)):
            watcher.keyboard.press("ArrowRight")
        expect(section.locator(".kv-readout").first).to_contain_text(
            re.compile(rf"Block {block} is block 0 of request \d+: tokens 1 to \d+, \d+ of 128 filled")
        )
        page.keyboard.press("Escape")  # stops the answer, if it has not ended by itself
        expect(row).to_have_count(0, timeout=LOAD_MS)
    expect(section.get_by_text(re.compile(r"[1-9]\d* requests? joined and [1-9]"))).to_be_visible()
    watcher.set_viewport_size(PHONE)
    assert watcher.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    section.locator(".kv-map").click(position={"x": 5, "y": 5})
    expect(section.locator(".kv-readout").first).to_contain_text("Block 0 is a placeholder")
