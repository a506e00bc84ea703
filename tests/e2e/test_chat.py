"""The chat page over the real engine: comparison, continuation, versions, on desktop and phone."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess
from tests.e2e.conftest import PHONE
from tests.ui.browsing import answers, model, open_page, pick, send

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(300)]

LOAD_MS = 60_000


def finished(page: Page) -> None:
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=LOAD_MS)


@pytest.mark.parametrize("viewport", [None, PHONE], ids=["desktop", "phone"])
def test_answers_are_compared_given_again_and_continued(page: Page, application: AppProcess, viewport):
    if viewport:
        page.set_viewport_size(viewport)
    open_page(page, application)
    pick(page, "adder")
    model(page).click()
    page.get_by_label("Compare", exact=True).check()
    page.locator("[data-pick=counter]").click()
    page.get_by_role("button", name="Compare 2 models").click()
    send(page, "38 + 47")
    finished(page)
    sides = page.get_by_test_id("side")
    expect(sides.nth(0)).to_contain_text("= 85")
    expect(sides.nth(1).get_by_test_id("stats")).to_contain_text("first token after")

    model(page).click()
    page.get_by_label("Compare", exact=True).uncheck()
    page.locator("[data-pick=storyteller]").click()
    if viewport:
        page.get_by_role("button", name="Settings").click()
    page.get_by_label("Max tokens").fill("12")
    if viewport:  # a sheet over the chat
        page.get_by_role("button", name="Done").click()
    send(page, "Tell me a story about a fox")
    finished(page)
    expect(answers(page).last.get_by_test_id("stats")).to_contain_text("cut at the token limit")
    begun = answers(page).last.locator(".written").inner_text()
    page.get_by_role("button", name="Continue").click()
    expect(answers(page).last.locator(".written")).to_contain_text(
        re.compile(re.escape(begun.strip()) + r".*\w+ \w+", re.DOTALL), timeout=LOAD_MS
    )
    finished(page)
    expect(answers(page).last.get_by_test_id("stats")).to_contain_text("24 tokens")
    page.get_by_role("button", name="Answer again").click()
    expect(answers(page).last).to_contain_text("2 / 2", timeout=LOAD_MS)
    finished(page)
