"""The page in a browser, over the fake workbench: its frame, and pages without tests of their own."""

import json
import re
import time

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.browsing import PHONE, answers, open_page, send
from tests.ui.conftest import Server
from tests.ui.fake_workbench import FakeWorkbench
from workbench.ui.app import build_page
from workbench.ui.chat_flow import ChatFlow
from workbench.values import Progress, WaiterSnapshot

pytestmark = pytest.mark.e2e


def test_the_queue_and_the_warming_pool_are_shown(chat: Page, workbench: FakeWorkbench):
    workbench.warm_workers = 0
    progress = Progress("queued", "Queued behind 2 requests")
    workbench.waiters = (WaiterSnapshot("adder", 3, time.monotonic() - 4, progress),)
    workbench.touch()
    expect(chat.locator("#warming")).to_contain_text("Warming up: 0 of 2 workers ready")
    chat.get_by_role("link", name="Pool").click()
    expect(chat.get_by_test_id("waiter")).to_contain_text("Queued behind 2 requests")
    workbench.warm_workers = 2
    workbench.touch()
    expect(chat.locator("#pool-status")).to_contain_text("Ready")


def test_models_are_added_downloaded_and_removed(chat: Page, server: Server, workbench: FakeWorkbench):
    open_page(chat, server, "/models")
    expect(chat.get_by_role("progressbar", name="Download of smollm2-360m")).to_have_attribute(
        "aria-valuenow", "42"
    )
    chat.get_by_label("Model id").fill("org/Fresh-1B")
    chat.get_by_role("button", name="Add and download").click()
    expect(row(chat, "fresh-1b")).to_contain_text("downloading")
    chat.get_by_role("button", name="Cancel fresh-1b").click()
    expect(row(chat, "fresh-1b")).to_contain_text("not downloaded")

    chat.get_by_label("Folder").fill("/etc")
    chat.get_by_role("button", name="Check and add").click()
    expect(chat.locator(".toast.bad")).to_contain_text("outside the folders")
    expect(chat.get_by_label("Folder")).to_have_value("/etc")
    chat.get_by_label("Folder").fill("/models/mine")
    chat.get_by_role("button", name="Check and add").click()
    expect(row(chat, "mine")).to_contain_text("on disk")

    chat.get_by_role("button", name="Remove storyteller").click()
    chat.get_by_role("dialog").get_by_label("Delete its files").check()
    chat.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(row(chat, "storyteller")).to_have_count(0)
    assert workbench.calls == [("remove_model", ("storyteller", True))]


def test_models_are_filtered_by_words_anywhere_in_their_rows(chat: Page, server: Server, workbench):
    open_page(chat, server, "/models")
    rows = chat.get_by_test_id("model").locator("visible=true")
    expect(rows).to_have_count(5)
    chat.get_by_label("Filter models").fill("qwen APACHE")
    expect(rows).to_have_count(2)
    workbench._set("storyteller", residency="loading")
    expect(row(chat, "storyteller")).to_contain_text("loading")
    expect(rows).to_have_count(2)  # and a new frame brings no other back
    chat.get_by_label("Filter models").fill("remove")
    expect(chat.get_by_text("No model has these words.")).to_be_visible()
    chat.get_by_label("Filter models").fill("")
    expect(rows).to_have_count(5)


def row(page: Page, name: str) -> Locator:
    return page.locator(f'[data-testid=model][data-name="{name}"]')


def test_a_phone_shows_the_chat_first_and_drawers_on_demand(chat: Page, server: Server):
    chat.set_viewport_size(PHONE)
    expect(chat.locator("#sidebar")).to_be_hidden()
    expect(chat.get_by_label("System prompt")).to_be_hidden()
    send(chat, "hello")
    expect(answers(chat).last).to_contain_text("adder says: hello")
    chat.get_by_role("button", name="Conversations").click()
    expect(chat.get_by_role("button", name="New chat")).to_be_visible()
    chat.get_by_role("link", name="hello").click()
    expect(chat.locator("#sidebar")).to_be_hidden()
    for path in ("Pool", "Models", "Chat"):
        chat.get_by_role("link", name=path, exact=True).click()
        assert chat.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_keyboard_suffices(chat: Page):
    expect(chat.get_by_label("Message", exact=True)).to_be_focused()
    chat.keyboard.type("line one")
    chat.keyboard.press("Shift+Enter")
    chat.keyboard.type("line two")
    chat.keyboard.press("Enter")
    expect(chat.locator(".said")).to_have_text("line one\nline two")
    chat.get_by_role("link", name="Models", exact=True).press("Enter")
    chat.get_by_role("button", name="Remove qwen3-0.6b").press("Enter")
    expect(chat.get_by_role("dialog")).to_be_visible()
    chat.keyboard.press("Escape")
    expect(chat.get_by_role("dialog")).to_have_count(0)
    expect(chat.get_by_role("button", name="Remove qwen3-0.6b")).to_be_focused()


def test_text_and_background_contrast(chat: Page, server: Server):
    """WCAG AA, 4.5 to 1, for the text of the page's own parts, light and dark."""
    send(chat, "fail")
    expect(chat.get_by_test_id("error")).to_be_visible()
    chat.add_style_tag(content="* { transition: none !important }")  # colours half-way count for nothing
    for scheme in ("light", "dark"):
        chat.evaluate("dark => document.body.classList.toggle('dark', dark)", scheme == "dark")
        for page in ("Chat", "Pool", "Models", "Keys"):
            chat.get_by_role("link", name=page, exact=True).click()
            pale = chat.evaluate(CONTRAST)
            assert pale == [], f"{scheme} {page}: {json.dumps(pale, ensure_ascii=False)}"


CONTRAST = """() => {
  const channel = value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parse = text => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const shares = [0.2126, 0.7152, 0.0722];
  const light = rgb => shares.reduce((sum, share, i) => sum + share * channel(rgb[i] / 255), 0);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const pale = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility({ visibilityProperty: true }) || element.disabled) continue;
    if (getComputedStyle(element).display === 'none' || !element.getClientRects().length) continue;
    const [one, two] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (ratio < 4.5) pale.push([element.textContent.trim().slice(0, 30), ratio.toFixed(2)]);
  }
  return pale;
}"""


def test_nothing_goes_through_gradios_queue_which_hardly_runs():
    workbench = FakeWorkbench()
    page = build_page(workbench, ChatFlow(workbench))
    assert page.fns == {}
    assert page._queue.sleep_when_free >= 1


def test_requests_of_other_sites_are_refused(chat: Page, server: Server):
    headers = {"sec-fetch-site": "cross-site", "content-type": "text/plain"}
    response = chat.request.post(f"{server.url}/gradio_api/component_server", data="{}", headers=headers)
    assert response.status == 403
    plain_http = {"origin": "http://elsewhere", "content-type": "application/json"}
    assert chat.request.post(f"{server.url}/chat/answer", data="{}", headers=plain_http).status == 403
    own = {"origin": server.url, "content-type": "application/json"}
    assert chat.request.post(f"{server.url}/chat/answer", data="{}", headers=own).status == 422
    for stream in ("events", "logs/w1"):
        elsewhere = {"sec-fetch-site": "cross-site"}
        assert chat.request.get(f"{server.url}/{stream}", headers=elsewhere).status == 403
    order = f"{server.url}/admin/models/nobody/unload"
    refused = chat.request.post(order, headers={"sec-fetch-site": "cross-site"})
    assert (refused.status, refused.json()["error"]["code"]) == (403, "cross_site_request")
    assert chat.request.post(order, headers={"origin": server.url}).status != 403
    policy = chat.request.get(server.url).headers["content-security-policy"]
    assert "default-src 'self'" in policy


def test_a_dead_server_shows_a_banner_and_a_new_one_takes_over(page: Page):
    workbench = FakeWorkbench()
    with Server(workbench) as first:
        open_page(page, first)
        send(page, "hello")
        expect(answers(page).last.get_by_test_id("stats")).to_contain_text("first token")
        page.get_by_label("Message", exact=True).fill("a draft")
    expect(page.locator("#disconnected")).to_be_visible(timeout=3000)
    expect(page.locator("#disconnected")).to_contain_text(re.compile(r"not answered since \d+:\d\d:\d\d"))
    expect(page.locator("#pool-status .live")).to_have_css("opacity", "0.5")
    reborn = FakeWorkbench()
    reborn.take_over(workbench)
    with Server(reborn, port=first.port):
        expect(page.locator("#disconnected")).to_be_hidden(timeout=10_000)
        expect(answers(page).last).to_contain_text("adder says: hello")
        expect(page.get_by_label("Message", exact=True)).to_have_value("a draft")
        send(page, "and on")
        expect(answers(page).last).to_contain_text("adder says: and on")
