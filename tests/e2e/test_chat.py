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
    page.get_by_label("Temperature").fill("0")
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


@pytest.mark.parametrize("viewport", [None, PHONE], ids=["desktop", "phone"])
def test_turns_are_edited_branched_and_conversations_found_and_moved(
    page: Page, application: AppProcess, viewport, tmp_path
):
    if viewport:
        page.set_viewport_size(viewport)
    open_page(page, application)
    page.get_by_label("Message", exact=True).press("Control+k")
    row = page.locator('#model-list li[data-name="adder"]')
    page.get_by_label("Search models").fill("add")
    row.get_by_role("button", name=re.compile("Load|Wake|Unload")).first.click()
    page.get_by_label("Search models").press("Enter")
    first, second = ("21 + 34", "55") if viewport else ("12 + 34", "46")
    send(page, first)
    finished(page)
    expect(answers(page).last).to_contain_text(f"= {second}", timeout=LOAD_MS)

    edit(page, "30 + 40", "Save and answer")
    expect(answers(page).last).to_contain_text("= 70", timeout=LOAD_MS)
    finished(page)
    answers(page).last.get_by_role("button", name="Earlier version").click()
    expect(answers(page).last).to_contain_text(f"= {second}")
    send(page, "11 + 11")
    finished(page)
    third, sum_of_it = ("25 + 25", "= 50") if viewport else ("20 + 20", "= 40")
    edit(page, third, "Branch and answer")
    expect(answers(page)).to_have_count(1)
    expect(answers(page).last).to_contain_text(sum_of_it, timeout=LOAD_MS)
    finished(page)

    drawer(page, viewport)
    page.get_by_label("Search conversations").fill(third)
    expect(page.get_by_test_id("conversation")).to_have_count(1)
    page.get_by_role("button", name=re.compile("^Rename")).click()
    page.get_by_role("dialog").get_by_role("textbox").fill("My branch")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    expect(page.get_by_role("link", name="My branch")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Export Markdown").click()
    saved = tmp_path / "branch.md"
    download.value.save_as(saved)
    page.get_by_role("button", name="Delete My branch").click()
    expect(page.get_by_test_id("conversation")).to_have_count(0)
    page.locator("#import-file").set_input_files(saved)
    expect(answers(page).last).to_contain_text(sum_of_it)
    expect(page.locator("#message")).to_be_focused()


def edit(page: Page, text: str, button: str) -> None:
    """Change the first question."""
    question = page.get_by_test_id("question").first
    question.hover()
    question.get_by_role("button", name="Edit").click()
    page.get_by_label("Edit the message").fill(text)
    page.get_by_role("button", name=button).click()


def drawer(page: Page, viewport) -> None:
    """Conversations are a sheet over the chat on a phone."""
    if viewport:
        page.get_by_role("button", name="Conversations").click()
