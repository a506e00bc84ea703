"""What tests of the page do in a browser: open it, write, choose a model, wait."""

import json
import re
import time
from typing import Any

from playwright.sync_api import Locator, Page, expect

PHONE = {"width": 390, "height": 844}


def open_page(page: Page, server: Any, path: str = "/") -> None:
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


def is_phone(page: Page) -> bool:
    return bool(page.viewport_size and page.viewport_size["width"] <= PHONE["width"])


def drawer(page: Page, name: str) -> None:
    """Have conversations or settings in sight: on a phone they are sheets over the chat."""
    if is_phone(page):
        page.get_by_role("button", name=name, exact=True).click()


def answers(page: Page) -> Locator:
    return page.get_by_test_id("answer")


def wait_until(page: Page, holds) -> None:
    """Poll a condition of the fake while the browser goes on."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        page.wait_for_function("() => new Promise(resolve => requestAnimationFrame(() => resolve(true)))")
