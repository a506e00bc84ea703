"""The thread over the real engine: how answers look, long ones, refusals, deletions, a silent server."""

import json
import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.app_process import AppProcess
from tests.e2e.conftest import PHONE, frozen
from tests.e2e.test_journey import slowed
from tests.ui.browsing import answers, drawer, open_page, pick, send

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(120)]

LOAD_MS = 30_000
HOSTILE = '<img src=x onerror="document.title=1"> [x](javascript:document.title=2) ${document.title=3}'
ANSWER = f"""<think>let me see {HOSTILE}</think>
**Bold**, and a formula: $\\frac{{1}}{{2}}$ and {HOSTILE}

```python
x = "<b>"
```
"""


def import_turns(page: Page, title: str, *turns: str) -> None:
    """Questions and answers by turns."""
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
    import_messages(page, title, messages)


def import_messages(page: Page, title: str, messages: list[dict[str, str]]) -> None:
    file = json.dumps({"title": title, "messages": messages}).encode()
    page.locator("#import-file").set_input_files(
        {"name": "chat.json", "mimeType": "application/json", "buffer": file}
    )
    expect(page.locator(".turn")).to_have_count(len(messages))


def test_thoughts_formulas_and_code_are_readable_and_nothing_is_markup(chat: Page):
    chat.context.grant_permissions(["clipboard-read", "clipboard-write"])
    import_turns(chat, HOSTILE, HOSTILE, ANSWER)
    answer = answers(chat).last
    expect(answer.locator(".thinking p")).to_be_hidden()
    answer.get_by_text("Thoughts", exact=True).click()
    expect(answer.locator(".thinking p")).to_contain_text("let me see <img")
    expect(answer.locator("strong")).to_have_text("Bold")
    expect(answer.locator("mfrac")).to_be_visible()
    copy = answer.locator(".code-head").get_by_role("button", name="Copy")
    copy.click()
    expect(answer.locator(".code-head button")).to_have_text("Copied")
    assert chat.evaluate("navigator.clipboard.readText()") == 'x = "<b>"\n'
    expect(chat.locator(".said")).to_have_text(HOSTILE)
    assert chat.locator("#chat-page :is([onerror], a[href^=javascript], img)").count() == 0
    expect(chat).to_have_title(re.compile(r"^[A-Z]\w+ · Workbench$"))
    for width in (chat.viewport_size["width"], 1920):
        chat.set_viewport_size({"width": width, "height": 900})
        assert chat.evaluate("document.documentElement.scrollWidth") <= width
    dark = chat.evaluate("document.body.classList.contains('dark')")
    chat.get_by_role("button", name="Dark or light").click()
    chat.reload()
    expect(answers(chat)).to_be_visible()
    assert chat.evaluate("document.body.classList.contains('dark')") is not dark


def test_below_two_hundred_turns_only_the_growing_answer_is_drawn(chat: Page, application: AppProcess):
    text = "Some **words** and a list:\n\n- one\n- two\n\n```python\nx = 1\n```\n"
    messages = [{"role": "user", "content": f"Question {n}"} for n in range(100)]
    messages += [{"role": "assistant", "content": text} for _ in range(100)]  # the model is given one pair
    pick(chat, "storyteller")
    import_messages(chat, "long", messages)
    send(chat, "Tell me a story about a fox")
    expect(chat.get_by_role("button", name="Send")).to_be_visible(timeout=LOAD_MS)
    chat.evaluate(WATCH)
    with slowed(application.worker_of("storyteller")):
        send(chat, "Tell me a story about a bear")
        growing = chat.locator("[data-turn=answer]")
        expect(growing).to_contain_text(re.compile(r"(\w+\W+){8}"), timeout=LOAD_MS)
        expect(growing.get_by_test_id("stats")).to_contain_text(re.compile(r"\d tokens · [\d.]+ tokens/s"))
        drawn = chat.evaluate("[...window.drawn]")
        chat.get_by_role("button", name="Stop").click()
    expect(answers(chat).last.get_by_test_id("stats")).to_contain_text("stopped")
    expect(chat.locator(".turn")).to_have_count(204)
    assert set(drawn) <= {"question", "answer"}, "what is finished is not drawn anew"


WATCH = """() => {
    window.drawn = new Set();
    const note = changes => changes.forEach(({ target }) => {
        const turn = (target.nodeType === 1 ? target : target.parentElement)?.closest('.turn');
        if (turn) window.drawn.add(turn.dataset.turn);
    });
    new MutationObserver(note).observe(document.getElementById('thread'),
        { attributes: true, characterData: true, childList: true, subtree: true });
}"""


def test_a_message_that_is_too_long_is_given_back_and_not_kept(chat: Page):
    pick(chat, "adder")
    send(chat, "2 + 3")
    expect(answers(chat).last).to_contain_text("= 5", timeout=LOAD_MS)
    expect(chat.get_by_role("button", name="Send")).to_be_visible()
    send(chat, "1 + " * 800)
    expect(chat.get_by_test_id("error")).to_contain_text("adder holds 1024", timeout=LOAD_MS)
    expect(chat.get_by_label("Message", exact=True)).to_have_value("1 + " * 800)
    chat.get_by_label("Message", exact=True).fill("")
    chat.reload()
    expect(answers(chat)).to_have_count(1)
    expect(chat.locator(".turn")).to_have_count(2)


def test_a_deleted_conversation_is_brought_back(chat: Page, tmp_path):
    import_turns(chat, "Lost and found", "one", "two")
    drawer(chat, "Conversations")
    with chat.expect_download() as download:
        chat.get_by_role("link", name="Export JSON").click()
    download.value.save_as(tmp_path / "chat.json")
    found = chat.get_by_test_id("conversation").filter(has_text="Lost and found")
    before = found.count()
    found.first.get_by_role("button", name="Delete").click()
    expect(found).to_have_count(before - 1)
    expect(answers(chat)).to_have_count(0)
    chat.get_by_role("button", name="Undo").click()
    expect(answers(chat)).to_contain_text("two")
    drawer(chat, "Conversations")
    expect(found).to_have_count(before)
    chat.keyboard.press("Escape")
    chat.keyboard.press("Alt+n")
    expect(answers(chat)).to_have_count(0)
    expect(chat.get_by_label("Message", exact=True)).to_be_focused()
    chat.locator("#import-file").set_input_files(tmp_path / "chat.json")
    expect(answers(chat)).to_contain_text("two")


def test_a_silent_server_is_told_within_three_seconds_and_found_again(
    page: Page, browser: Browser, application: AppProcess
):
    phone = browser.new_page(viewport=PHONE)
    for each in (page, phone):
        open_page(each, application)
    with frozen([application.process.pid]):
        for each in (page, phone):
            expect(each.locator("#disconnected")).to_be_visible(timeout=3000)
            expect(each.locator("#disconnected")).to_contain_text("has not answered since")
            expect(each.locator("#pool-status .live")).to_have_css("opacity", "0.5")
    for each in (page, phone):
        expect(each.locator("#disconnected")).to_be_hidden(timeout=10_000)
    phone.close()
