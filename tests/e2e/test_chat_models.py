"""The model menu over the real engine: downloads, loads, what a switch shows and how it is cancelled."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.app_process import AppProcess
from tests.catalog.hub_server import HubServer
from tests.e2e.conftest import HUB_MODELS, frozen
from tests.ui.browsing import answers, is_phone, model, pick, send

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(120)]

LOAD_MS = 30_000


def in_menu(page: Page, name: str) -> Locator:
    """The row of a model in the open menu."""
    if not page.get_by_label("Search models").is_visible():
        model(page).click()
    page.get_by_label("Search models").fill(name)
    return page.locator(f'#model-list li[data-name="{name}"]')


def test_a_model_is_downloaded_loaded_asked_and_unloaded_from_the_menu(chat: Page, hub: HubServer):
    name = list(HUB_MODELS)[is_phone(chat)]
    arrives = hub.hold("model.safetensors", 500_000)
    row = in_menu(chat, name)
    expect(row).to_contain_text("not downloaded")
    row.get_by_role("button", name=f"Download {name}").click()
    expect(row).to_contain_text(re.compile(r"downloading.*\d\.\d of \d\.\d MB"), timeout=LOAD_MS)
    row.get_by_role("button", name=f"Cancel {name}").click()
    expect(row).to_contain_text("not downloaded")
    arrives.set()
    row.get_by_role("button", name=f"Download {name}").click()
    expect(row).to_contain_text("on disk", timeout=LOAD_MS)
    row.get_by_role("button", name=f"Load {name}").click()
    expect(row).to_contain_text("serving", timeout=LOAD_MS)
    chat.get_by_label("Search models").press("Enter")
    send(chat, "2 + 3")
    expect(answers(chat).last).to_contain_text("= 5", timeout=LOAD_MS)
    row = in_menu(chat, name)
    row.get_by_role("button", name=f"Unload {name}").click()
    expect(row).to_contain_text("on disk", timeout=LOAD_MS)
    expect(row).to_contain_text(re.compile(r"\d\.\d MB · .* context · switch takes about [\d.]+ m?s"))


def warm_without(page: Page, name: str) -> Locator:
    """Have a model on disk, beside a worker that is warm; its row in the menu."""
    row = in_menu(page, name)
    unload = row.get_by_role("button", name=f"Unload {name}")
    if unload.count() == 0:
        row.get_by_role("button", name=f"Load {name}").click()
    unload.click()
    expect(row).to_contain_text("on disk", timeout=LOAD_MS)
    return row


def test_a_switch_shows_how_far_it_is_and_is_cancelled(chat: Page, application: AppProcess):
    warm_without(chat, "counter")
    chat.get_by_label("Search models").press("Enter")
    with frozen(worker.pid for worker in application.workers()):
        send(chat, "Count from 1 to 20")
        waiting = chat.get_by_test_id("waiting")
        expect(waiting).to_contain_text(re.compile(r"Loading counter 0\.0 of \d\.\d MB[1-9]\d*\.\d s"))
        expect(waiting.get_by_role("progressbar")).to_be_visible()
        chat.get_by_role("button", name="Stop").click()
        expect(answers(chat).last).to_contain_text("Stopped before the answer began.")
        expect(chat.get_by_role("button", name="Send")).to_be_visible()
    chat.get_by_role("button", name="Answer again").click()
    expect(answers(chat).last).to_contain_text("18, 19, 20", timeout=LOAD_MS)


def test_a_load_from_the_menu_tells_how_far_it_is_and_is_cancelled(chat: Page, application: AppProcess):
    row = warm_without(chat, "counter")
    with frozen(worker.pid for worker in application.workers()):
        row.get_by_role("button", name="Load counter").click()
        expect(row).to_contain_text(re.compile(r"Loading counter 0\.0 of \d\.\d MB · 1 s"))
        row.get_by_role("button", name="Cancel counter").click()
        expect(chat.get_by_text("The load of counter is cancelled.")).to_be_visible()
    expect(row).to_contain_text("on disk", timeout=LOAD_MS)


def test_escape_leaves_the_menu_and_the_pick_as_they_were(chat: Page):
    pick(chat, "adder")
    model(chat).click()
    chat.get_by_label("Compare", exact=True).check()
    chat.locator("[data-pick=counter]").click()
    chat.get_by_label("Search models").fill("no such model")
    expect(chat.locator("#model-list")).to_contain_text("No model of that name.")
    chat.keyboard.press("Escape")  # the browser empties the field
    chat.keyboard.press("Escape")
    expect(chat.locator("#models-dialog")).to_be_hidden()
    expect(model(chat).locator(".name")).to_have_text("adder")


def test_an_answer_is_given_again_by_several_models_and_one_is_gone_on_with(chat: Page):
    pick(chat, "adder")
    send(chat, "2 + 3")
    expect(answers(chat).last).to_contain_text("= 5", timeout=LOAD_MS)
    expect(chat.locator("#context .figure")).to_have_text(re.compile(r"^\d\d of 1,024 tokens$"))
    model(chat).click()
    chat.get_by_label("Compare", exact=True).check()
    chat.locator("[data-pick=counter]").click()
    chat.get_by_role("button", name="Compare 2 models").click()
    answers(chat).last.get_by_role("button", name="Answer again").click()
    sides = chat.get_by_test_id("side")
    expect(sides.nth(2).get_by_test_id("stats")).to_contain_text("first token after", timeout=LOAD_MS)
    expect(sides).to_have_count(3)
    expect(sides.nth(1)).to_contain_text("= 5")
    expect(sides.nth(1)).to_contain_text("The conversation goes on with this")
    sides.nth(2).get_by_role("button", name="Go on with this").click()
    expect(sides.nth(2)).to_contain_text("The conversation goes on with this")
    chat.reload()
    expect(sides.nth(2)).to_contain_text("The conversation goes on with this")
