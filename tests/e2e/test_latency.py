"""The Latency page over real answers and switches: figures, a choice that lasts, phases, a request's life."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess
from tests.e2e.conftest import PHONE
from tests.e2e.test_journey import SUMS, ask_sum
from tests.ui.browsing import open_page, pick

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(120)]

DURATION = re.compile(r"\d (ms|s)$")


def test_what_was_asked_is_measured_and_its_switch_and_life_are_told(page: Page, application: AppProcess):
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    open_page(page, application)
    pick(page, "adder")
    for a, b in SUMS[:2]:
        ask_sum(page, a, b)

    page.get_by_role("link", name="Latency").click()
    expect(page.locator("#latency [data-now=inFlight]")).to_have_text("0")
    first_token = page.get_by_role("region", name="Time to first token")
    expect(first_token.locator(".readout")).to_have_text(re.compile(r"^\d+ answers$"))
    expect(first_token.locator("[data-value=p50]")).to_have_text(DURATION)
    expect(first_token.locator("[data-value=longest]")).to_have_text(DURATION)
    expect(first_token.locator("circle").first).to_be_attached()
    for name in ("Time per output token", "End to end", "Queue", "Switch"):
        expect(page.get_by_role("region", name=name, exact=True).locator("[data-value=p50]")).to_have_text(
            DURATION
        )
    expect(
        page.get_by_role("region", name="Queue depth and batch").locator("[data-value=batch]")
    ).not_to_have_text("0")

    switch = page.locator("#latency-switches [data-name]").first  # other tests switch between other models
    expect(switch).to_contain_text(re.compile(r"(weights|wake) [\d.]+ (ms|s)"))
    expect(switch).to_contain_text(re.compile(r"cold start [\d.]+ s"))
    expect(page.get_by_test_id("cold-start")).to_contain_text("from process to warm")

    request = page.get_by_test_id("request")
    expect(request.first).to_contain_text("adder")
    life = page.get_by_role("region", name="One request", exact=True)
    for phase in ("Prefill", "Decode"):
        expect(life.get_by_role("listitem").filter(has_text=phase)).to_have_text(DURATION)
    expect(life).to_contain_text(re.compile(r"First tokenafter [\d.]+ m?s"))
    expect(life).to_contain_text(re.compile(r"Answer\d+ tokens"))
    request.nth(1).get_by_role("button").click()
    expect(request.nth(1).get_by_role("button")).to_have_attribute("aria-current", "true")

    page.get_by_role("radio", name="24 h").check()
    page.get_by_label("Model to show").select_option("adder")
    expect(page).to_have_url(re.compile(r"latency\?.*window=24h&model=adder"))
    page.reload()
    expect(page.get_by_role("radio", name="24 h")).to_be_checked()
    expect(page.locator("#latency-model")).to_have_value("adder")
    expect(request.nth(1).get_by_role("button")).to_have_attribute("aria-current", "true")
    expect(first_token.locator(".readout")).to_have_text(re.compile(r"^\d+ answers$"))
    first_token.get_by_role("img").focus()
    page.keyboard.press("ArrowLeft")
    slot = re.compile(r"^[\d:]+: (median [\d.]+ m?s, p95|nothing)")
    expect(first_token.locator(".readout")).to_have_text(slot)

    page.set_viewport_size(PHONE)
    expect(first_token).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert errors == []
