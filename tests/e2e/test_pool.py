"""The Pool page of the real application: what its workers hold and do, and what a person orders by hand."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess
from tests.e2e.conftest import PHONE
from tests.ui.browsing import open_page

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(120)]

LOAD_MS = 30_000


def load(page: Page, model: str) -> None:
    if page.locator(f'[data-testid=runner][data-name="{model}"]').count():
        return
    page.get_by_label("Load a model").select_option(model)
    page.get_by_role("button", name="Load", exact=True).click()
    expect(page.locator(f'[data-testid=runner][data-name="{model}"]')).to_be_visible(timeout=LOAD_MS)


def test_a_model_is_pinned_followed_in_its_log_and_drained(page: Page, application: AppProcess):
    open_page(page, application, "/pool")
    load(page, "adder")
    card = page.get_by_test_id("worker").filter(has=page.locator('[data-testid=runner][data-name="adder"]'))
    expect(card).to_contain_text(re.compile(r"CPU\s*\d\.\d of \d+ core"), timeout=LOAD_MS)
    expect(card).to_contain_text(re.compile(r"Weights\s*\d+\.\d MB\s*KV cache\s*\d+"))
    expect(card).to_contain_text(re.compile(r"Context\s*[\d,]+ tokens"))
    worker = card.get_attribute("data-name")
    row = page.locator(f'[data-testid=timeline][data-name="{worker}"]')
    expect(row.get_by_role("img")).to_have_attribute("aria-label", re.compile("adder serving for"))

    page.get_by_role("button", name="Pin adder", exact=True).click()
    expect(page.get_by_test_id("next")).to_contain_text("adder stays: it is pinned.")
    page.get_by_role("button", name="Unload adder").click()
    expect(page.get_by_role("dialog")).to_contain_text("adder is pinned, and stays so")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Unpin adder").click()
    expect(page.get_by_role("button", name="Pin adder", exact=True)).to_be_visible()

    page.get_by_role("button", name=f"Log of {worker}").click()
    expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text(
        re.compile(r"Following · \d+ lines?")
    )
    page.keyboard.press("Escape")

    page.get_by_role("button", name=f"Drain {worker}").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text(f"{worker} holds adder, and nothing is in flight.")
    question.get_by_role("button", name="Drain").click()
    gone = page.locator(f'[data-testid=departure][data-name="{worker}"]')
    expect(gone).to_contain_text("was drained by an administrator", timeout=LOAD_MS)
    expect(page.locator(f'[data-testid=worker][data-name="{worker}"]')).to_have_count(0)
    load(page, "adder")
    expect(page.get_by_test_id("worker").filter(has_text="adder")).to_have_count(1)


def test_the_page_fits_a_phone(page: Page, application: AppProcess):
    page.set_viewport_size(PHONE)
    open_page(page, application, "/pool")
    load(page, "counter")
    expect(page.get_by_role("button", name="Drain").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
