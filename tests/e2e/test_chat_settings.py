"""The chat's settings over the real engine: presets, system prompt, parameters, models' own defaults."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.ui.browsing import answers, drawer, is_phone, pick, send

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(120)]

LOAD_MS = 30_000


def test_a_preset_is_saved_used_and_deleted(chat: Page):
    name = f"tense {chat.viewport_size['width']}"
    prompt = "You like foxes and rivers. " * 40
    pick(chat, "storyteller")
    drawer(chat, "Settings")
    expect(chat.get_by_label("Temperature")).to_have_attribute("placeholder", "default 0.8")
    expect(chat.get_by_label("Top-k")).to_have_attribute("placeholder", "default all")
    expect(chat.locator("label", has_text="Temperature")).to_contain_text("0 to 10")
    chat.get_by_label("System prompt").fill(prompt)
    chat.get_by_label("Temperature").fill("0")
    chat.get_by_label("Max tokens").fill("7")
    chat.get_by_role("button", name="Save as preset").click()
    chat.get_by_role("dialog").get_by_role("textbox").fill(name)
    chat.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(chat.get_by_label("Preset")).to_have_value(name)  # and on a phone the drawer is still there
    chat.reload()
    drawer(chat, "Settings")
    expect(chat.get_by_label("System prompt")).to_have_value("")
    chat.get_by_label("Preset").select_option(name)
    expect(chat.get_by_label("System prompt")).to_have_value(prompt)
    if is_phone(chat):
        chat.keyboard.press("Escape")
        expect(chat.get_by_label("System prompt")).to_be_hidden()
        expect(chat.get_by_role("button", name="Settings")).to_be_focused()
    pick(chat, "storyteller")
    for _ in range(2):
        send(chat, "Tell me a story")
        expect(chat.get_by_role("button", name="Send")).to_be_visible(timeout=LOAD_MS)
    stats = answers(chat).last.get_by_test_id("stats")
    expect(stats).to_contain_text(re.compile("^7 tokens · .*cut at the token limit$"))
    expect(stats).to_contain_text(re.compile(r"[1-9]\d* of \d+ prompt tokens from cache"))
    drawer(chat, "Settings")
    chat.get_by_role("button", name="Delete preset").click()
    chat.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(chat.get_by_label("Preset").locator("option", has_text=name)).to_have_count(0)
