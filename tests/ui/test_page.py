"""The page in a browser, over the fake workbench: what a person does, sees and keeps."""

import json
import re
import time
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, expect

from tests.ui.conftest import Server
from tests.ui.fake_workbench import FakeWorkbench
from workbench.service import Progress, WaiterSnapshot

pytestmark = pytest.mark.e2e

PHONE = {"width": 390, "height": 844}


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


def open_page(page: Page, server: Server, path: str = "/") -> None:
    page.goto(server.url + path)
    expect(page.locator("#pool-status .badge")).to_be_attached()
    if path == "/":
        expect(model(page)).to_contain_text(re.compile(r"\w"))


def model(page: Page) -> Locator:
    return page.locator("#model")


def send(page: Page, text: str) -> None:
    """Type and press Enter, once the answer before is complete."""
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_label("Message", exact=True).press("Enter")


def pick(page: Page, name: str) -> None:
    """Choose a model."""
    model(page).click()
    page.get_by_role("dialog").locator(f"[data-pick={json.dumps(name)}]").click()
    expect(model(page)).to_contain_text(name)


def answers(page: Page) -> Locator:
    return page.get_by_test_id("answer")


def test_a_model_is_picked_answers_and_switches(chat: Page):
    expect(model(chat)).to_contain_text(re.compile("adder.*on disk"))
    send(chat, "2 + 3")
    expect(answers(chat).last).to_contain_text("adder says: 2 + 3")
    expect(answers(chat).last.get_by_test_id("stats")).to_contain_text("switched in")
    expect(model(chat)).to_contain_text(re.compile("adder.*serving"))
    pick(chat, "storyteller")
    send(chat, "a fox")
    expect(answers(chat).last).to_contain_text("storyteller says: a fox")
    expect(model(chat)).to_contain_text(re.compile("storyteller.*serving"))
    expect(chat.get_by_label("Message", exact=True)).to_have_value("")


def test_the_menu_searches_tells_what_a_switch_costs_and_loads(chat: Page):
    chat.keyboard.press("Control+k")
    chat.keyboard.type("story")
    rows = chat.locator("#model-list li")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("9.6 MB · 512 context · switch takes about 0.30 s")
    rows.get_by_role("button", name="Load storyteller").click()
    expect(rows).to_contain_text("serving")
    rows.get_by_role("button", name="Unload storyteller").click()
    expect(rows).to_contain_text("on disk")
    chat.get_by_label("Search models").press("Enter")
    expect(model(chat)).to_contain_text("storyteller")
    expect(chat.get_by_label("Message", exact=True)).to_be_focused()


def test_the_wait_is_explained_and_the_answer_streams_until_stopped(chat: Page, workbench: FakeWorkbench):
    workbench.step_s = 0.2
    send(chat, "slow")
    expect(chat.get_by_test_id("waiting")).to_contain_text("Loading weights 1.2 of 1.9 GB")
    expect(answers(chat).last).to_contain_text("word1")
    expect(answers(chat).last.get_by_test_id("stats")).to_contain_text("tokens/s")
    expect(chat.get_by_role("button", name="Send")).to_be_hidden()
    chat.get_by_role("button", name="Stop").click()
    expect(answers(chat).last.get_by_test_id("stats")).to_contain_text("stopped")
    expect(chat.get_by_role("button", name="Send")).to_be_visible()
    assert workbench.aborted == 1


def test_a_closed_page_aborts_its_answer(
    browser: Browser, server: Server, chat: Page, workbench: FakeWorkbench
):
    page = browser.new_page()
    open_page(page, server)
    send(page, "slow")
    expect(answers(page).last).to_contain_text("word1")
    page.close()
    expect(chat.locator("#pool-workers")).to_be_attached()
    wait_until(chat, lambda: workbench.aborted == 1)


def test_errors_come_as_sentences_and_the_chat_goes_on(chat: Page):
    send(chat, "fail")
    expect(answers(chat).last).to_contain_text("adder says:")
    expect(answers(chat).last.get_by_test_id("error")).to_have_text(
        "The worker that ran adder died. Send the message again."
    )
    send(chat, "boom")
    expect(chat.get_by_test_id("error").last).to_contain_text(
        "inside Workbench: ZeroDivisionError. The log has"
    )
    send(chat, "again")
    expect(answers(chat).last).to_contain_text("adder says: again")


def test_refused_text_is_not_lost(chat: Page):
    send(chat, "far too long")
    expect(chat.get_by_test_id("error")).to_contain_text("700 tokens")
    expect(chat.get_by_label("Message", exact=True)).to_have_value("far too long")
    chat.get_by_label("Temperature").fill("hot")
    send(chat, "hello")
    expect(chat.get_by_test_id("error").last).to_contain_text("Temperature must be a number, not “hot”.")
    expect(chat.get_by_label("Message", exact=True)).to_have_value("hello")


def test_parameters_and_system_prompt_arrive(chat: Page, workbench: FakeWorkbench):
    chat.get_by_label("System prompt").fill("Be brief.")
    chat.get_by_label("Temperature").fill("0")
    chat.get_by_label("Max tokens").fill("64")
    send(chat, "hello")
    expect(answers(chat).last).to_contain_text("adder says")
    _, (_, _, system, options) = workbench.calls[-1]
    assert (system, options.temperature, options.max_tokens, options.top_p) == ("Be brief.", 0, 64, None)


def test_a_model_that_is_not_here_points_to_the_models_page(chat: Page):
    pick(chat, "qwen3-0.6b")
    expect(chat.locator("#model-note")).to_contain_text("is not downloaded yet")
    send(chat, "hello")
    expect(chat.get_by_test_id("error")).to_contain_text("not downloaded")
    chat.locator("#model-note a").click()
    expect(chat.get_by_role("heading", name="Models", exact=True)).to_be_visible()
    expect(chat).to_have_url(re.compile("/models$"))


def test_conversations_are_kept_renamed_and_deleted(chat: Page, server: Server):
    send(chat, "first")
    expect(answers(chat).last).to_contain_text("adder says: first")
    expect(chat).to_have_url(re.compile(r"\?chat=\d+$"))
    chat.reload()
    expect(answers(chat).last).to_contain_text("adder says: first")
    expect(chat.get_by_test_id("stats")).to_contain_text("first token after")

    chat.get_by_role("button", name="New chat").click()
    expect(answers(chat)).to_have_count(0)
    expect(chat).to_have_url(re.compile("/$"))
    send(chat, "second")
    expect(chat.get_by_test_id("conversation")).to_have_count(2)
    chat.get_by_role("link", name="first").click()
    expect(answers(chat).last).to_contain_text("adder says: first")

    chat.get_by_role("button", name="Rename first").click()
    chat.get_by_role("dialog").get_by_role("textbox").fill("Sums <b>")
    chat.get_by_role("dialog").get_by_role("textbox").press("Enter")
    expect(chat.get_by_role("link", name="Sums <b>")).to_be_visible()

    chat.get_by_role("button", name="Delete Sums <b>").click()
    chat.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(chat.get_by_test_id("conversation")).to_have_count(1)
    expect(answers(chat)).to_have_count(0)


def test_leaving_an_answer_for_another_conversation_shows_that_one(chat: Page, workbench: FakeWorkbench):
    send(chat, "first")
    expect(answers(chat).last).to_contain_text("adder says: first")
    chat.get_by_role("button", name="New chat").click()
    expect(answers(chat)).to_have_count(0)
    workbench.step_s = 0.05
    send(chat, "slow")
    expect(answers(chat).last).to_contain_text("word3")
    chat.get_by_role("link", name="first").click()
    expect(answers(chat).last).to_contain_text("adder says: first")
    wait_until(chat, lambda: workbench.aborted == 1)
    expect(chat.get_by_role("button", name="Send")).to_be_visible()
    expect(chat.locator("#chat")).not_to_contain_text("word")


def test_a_rename_leaves_a_running_answer_alone_and_a_deletion_ends_it(chat: Page, workbench: FakeWorkbench):
    send(chat, "first")
    expect(answers(chat).last).to_contain_text("adder says: first")
    chat.get_by_role("button", name="New chat").click()
    expect(answers(chat)).to_have_count(0)
    workbench.step_s = 0.05
    send(chat, "slow")
    expect(answers(chat).last).to_contain_text("word1")
    chat.get_by_role("button", name="Rename first").click()
    chat.get_by_role("dialog").get_by_role("textbox").fill("second")
    chat.get_by_role("dialog").get_by_role("textbox").press("Enter")
    expect(chat.get_by_role("link", name="second")).to_be_visible()
    written = answers(chat).last.inner_text()
    expect(answers(chat).last).not_to_have_text(written)
    expect(chat.get_by_role("button", name="Stop")).to_be_visible()
    chat.get_by_role("button", name="Delete slow").click()
    chat.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(answers(chat)).to_have_count(0)
    wait_until(chat, lambda: workbench.aborted == 1)
    expect(chat.get_by_role("button", name="Send")).to_be_visible()
    expect(answers(chat)).to_have_count(0)


def test_an_answer_goes_on_while_other_pages_are_looked_at(chat: Page, server: Server):
    send(chat, "slow")
    expect(answers(chat).last).to_contain_text("word1")
    chat.get_by_role("link", name="Pool").click()
    expect(chat.get_by_test_id("worker")).to_have_count(2)
    chat.go_back()
    expect(chat.get_by_role("button", name="Stop")).to_be_visible()
    chat.get_by_role("button", name="Stop").click()
    expect(answers(chat).last.get_by_test_id("stats")).to_contain_text("stopped")


def test_hostile_text_stays_text(chat: Page, workbench: FakeWorkbench):
    hostile = '<img src=x onerror="document.title=1"> ${document.title=2} <button data-do="remove">x</button>'
    send(chat, hostile)
    expect(answers(chat).last.get_by_test_id("stats")).to_contain_text("first token")
    expect(answers(chat).last).to_contain_text("<img src=x onerror=")
    expect(chat.locator(".said")).to_have_text(hostile)
    send(chat, "say:![](http://127.0.0.2/tracker.png) [x](javascript:document.title=3)")
    expect(answers(chat).last.get_by_test_id("stats")).to_contain_text("first token")
    assert chat.locator("#thread :is([data-do], [onerror], a[href^=javascript], img)").count() == 0
    expect(chat).to_have_title("Workbench")
    name = '${document.title=4}{{value}}"><script>document.title=5</script>'
    workbench.catalog = {name: replace(workbench.catalog["adder"], name=name, description=name)}
    workbench.touch()
    expect(model(chat)).to_contain_text(name)
    expect(chat.locator("#model-note")).to_contain_text(name)
    chat.get_by_role("link", name="Models", exact=True).click()
    expect(chat.get_by_test_id("model").locator("strong")).to_have_text(name)
    expect(chat).to_have_title("Workbench")


def test_the_queue_and_the_warming_pool_are_shown(chat: Page, workbench: FakeWorkbench):
    workbench.warm_workers = 0
    progress = Progress("queued", "Queued behind 2 requests")
    workbench.waiters = (WaiterSnapshot("adder", 3, 4.0, progress),)
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
        for page in ("Chat", "Pool", "Models"):
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


def test_requests_of_other_sites_are_refused(chat: Page, server: Server):
    headers = {"sec-fetch-site": "cross-site", "content-type": "text/plain"}
    response = chat.request.post(f"{server.url}/gradio_api/component_server", data="{}", headers=headers)
    assert response.status == 403
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
    reborn = FakeWorkbench()
    reborn.take_over(workbench)
    with Server(reborn, port=first.port):
        expect(page.locator("#disconnected")).to_be_hidden(timeout=10_000)
        expect(answers(page).last).to_contain_text("adder says: hello")
        expect(page.get_by_label("Message", exact=True)).to_have_value("a draft")
        send(page, "and on")
        expect(answers(page).last).to_contain_text("adder says: and on")


def wait_until(page: Page, holds) -> None:
    """Poll a condition of the fake while the browser goes on."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        page.wait_for_function("() => new Promise(resolve => requestAnimationFrame(() => resolve(true)))")
